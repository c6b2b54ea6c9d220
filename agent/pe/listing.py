"""Lists of identified files as JSON: made on a trusted machine by `wayleave-agent baseline`, read by the server.

The same files give the same bytes: no date, no name of a machine or person. The digest covers all the rest, so that
whoever adds a list can compare what arrived with what the trusted machine printed. It is no signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from agent.pe.identity import FileIdentity

FORMAT = "wayleave-baseline/1"
MAX_FILES = 20_000
MAX_LISTING_BYTES = 32 * 1024 * 1024
KINDS = ("exe", "dll", "script", "msi")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){0,3}")
_LENGTHS = {"name": 255, "publisher": 1024, "product": 1024, "binary": 1024}
_FIELDS = tuple(field.name for field in fields(FileIdentity))


class ListingError(ValueError):
    """A list that cannot be taken; the message names the place in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file and where it lay, below the folder that was named, with `/` between."""

    path: str
    identity: FileIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that could not be read or was not followed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Files in the order of their paths. `source`: where they were taken from, in words."""

    source: str
    files: tuple[ListedFile, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def sha256(self) -> str:
        """The digest of all that the list says."""
        return hashlib.sha256(json.dumps(_body(self), sort_keys=True).encode()).hexdigest()


def encode_listing(listing: Listing) -> bytes:
    """The list as a file, one line a file."""
    body = _body(listing)
    parts = [
        f'"format":{json.dumps(FORMAT)}',
        f'"source":{json.dumps(listing.source)}',
        _lines("files", body["files"]),
        _lines("left_out", body["left_out"]),
        f'"sha256":"{listing.sha256}"',
    ]
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


def read_listing(data: bytes) -> Listing:
    """A list that was made by `encode_listing`. raises: ListingError"""
    if len(data) > MAX_LISTING_BYTES:
        raise ListingError(f"more than {MAX_LISTING_BYTES // 2**20} MB; name fewer folders")
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse, parse_float=_refuse)
    except (ValueError, RecursionError) as error:
        raise ListingError(f"not a list of files: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ListingError(f"not a list of files: its format is not {FORMAT}")
    source = _text(value.get("source"), "source", 500)
    files = value.get("files")
    left_out = value.get("left_out", [])
    if not isinstance(files, list) or not isinstance(left_out, list):
        raise ListingError("files and left_out must be lists")
    if len(files) > MAX_FILES or len(left_out) > MAX_FILES:
        raise ListingError(f"more than {MAX_FILES:,} files; name fewer folders")
    listing = Listing(
        source=source,
        files=tuple(_listed(one, f"files[{place}]") for place, one in enumerate(files)),
        left_out=tuple(_left_out(one, f"left_out[{place}]") for place, one in enumerate(left_out)),
    )
    if value.get("sha256") != listing.sha256:
        raise ListingError("the list was changed after it was made: its sha256 does not fit what it says")
    return listing


def _body(listing: Listing) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "source": listing.source,
        "files": [{"path": one.path, **_written(one.identity)} for one in listing.files],
        "left_out": [{"path": one.path, "reason": one.reason} for one in listing.left_out],
    }


def _written(identity: FileIdentity) -> dict[str, Any]:
    value = {name: getattr(identity, name) for name in _FIELDS}
    return value | {"problems": list(identity.problems)}


def _lines(name: str, values: Iterable[Mapping[str, Any]]) -> str:
    lines = ",\n".join(json.dumps(one, sort_keys=True) for one in values)
    return f'"{name}":[\n{lines}\n]' if lines else f'"{name}":[]'


def _listed(value: Any, where: str) -> ListedFile:
    if not isinstance(value, dict) or set(value) != {"path", *_FIELDS}:
        raise ListingError(f"{where}: needs path, {', '.join(_FIELDS)}, and nothing else")
    given = dict(value)
    path = _text(given.pop("path"), f"{where}.path", 4096)
    for name, most in _LENGTHS.items():
        if name == "name" or given[name] is not None:
            _text(given[name], f"{where}.{name}", most)
    for name in ("sha256", "authenticode_sha256"):
        digest = given[name]
        if (digest is not None or name == "sha256") and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise ListingError(f"{where}.{name}: must be 64 hexadecimal digits in lower case")
    size = given["size_bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**53:
        raise ListingError(f"{where}.size_bytes: must be a whole number above 0")
    if given["kind"] not in KINDS:
        raise ListingError(f"{where}.kind: must be one of {', '.join(KINDS)}")
    if (given["kind"] in ("exe", "dll")) != (given["authenticode_sha256"] is not None):
        raise ListingError(f"{where}.authenticode_sha256: programs and libraries have one, others have none")
    if given["version"] is not None and not (
        isinstance(given["version"], str) and _VERSION.fullmatch(given["version"])
    ):
        raise ListingError(f"{where}.version: must be up to four numbers with points between")
    if given["signature"] not in ("none", "present", "broken"):
        raise ListingError(f"{where}.signature: must be none, present or broken")
    if given["publisher"] is not None and given["signature"] != "present":
        raise ListingError(f"{where}.publisher: only a file with a signature of its own has one")
    problems = given["problems"]
    if not isinstance(problems, list) or len(problems) > 10:
        raise ListingError(f"{where}.problems: must be a list")
    given["problems"] = tuple(_text(one, f"{where}.problems", 500) for one in problems)
    return ListedFile(path=path, identity=FileIdentity(**given))


def _left_out(value: Any, where: str) -> LeftOut:
    if not isinstance(value, dict) or set(value) != {"path", "reason"}:
        raise ListingError(f"{where}: needs path and reason, and nothing else")
    return LeftOut(
        path=_text(value["path"], f"{where}.path", 4096), reason=_text(value["reason"], f"{where}.reason", 500)
    )


def _text(value: Any, where: str, most: int) -> str:
    if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
        raise ListingError(f"{where}: must be 1 to {most} printable letters")
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no whole number")
