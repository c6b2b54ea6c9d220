"""The server's catalogue on this workstation: fetched, checked, kept, and put in use at the beginning of each cycle.

    catalogue.json   key, signature and the catalogue's own bytes; or why the one that the server has was not taken

What is kept is checked as a whole each time it is put in use, signature included: a file on a disk is no better than
one from a network. Where anything is wrong the agent works with the catalogue that came with it, and says why: the
code travels in the report and stands on the host's page.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.catalogue.adopt import MAX_BYTES, REASONS, CatalogueRefused, accept, use
from agent.catalogue.load import own
from agent.catalogue.model import Catalogue
from agent.ed25519 import KEY_BYTES, verify
from agent.storage import read_json, write_json

NAME = "catalogue.json"

Fetch = Callable[[str], "tuple[bytes, str] | None"]
"""Ask the server, with the etag that is here: body and signature, or None if that is still the one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept: the catalogue to work with (None: this release's own), and why the server's was refused."""

    catalogue: Catalogue | None = None
    refused: str | None = None
    refused_etag: str = ""


def check(body: bytes, signature: str, key: str | None) -> Catalogue:
    """A catalogue whose signature is that of the pinned key, as far as this release takes it.

    `signature`, `key`: base64, as the server gave them. raises: CatalogueRefused
    """
    if not key:
        raise CatalogueRefused("no-key", REASONS["no-key"])
    if len(body) > MAX_BYTES:
        raise CatalogueRefused("size", REASONS["size"])
    if not verify(_decoded(key, KEY_BYTES), body, _decoded(signature, 64)):
        raise CatalogueRefused("signature", REASONS["signature"])
    return accept(body)


def read_kept(folder: Path, key: str | None = None) -> Kept:
    """What is kept in a folder. `key`: the one pinned at enrolment, where it is known; another one's does not count."""
    data = read_json(folder / NAME) or {}
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    refused = texts.get("refused")
    if key is not None and texts.get("key", key) != key:
        return Kept()
    kept = Kept(refused=refused if refused in REASONS else None, refused_etag=texts.get("refused_etag", ""))
    if "body" not in texts:
        return kept
    try:
        catalogue = check(texts["body"].encode("utf-8", "surrogatepass"), texts.get("signature", ""), texts.get("key"))
    except CatalogueRefused as error:
        return Kept(refused=kept.refused or error.code, refused_etag=kept.refused_etag)
    return Kept(catalogue=catalogue, refused=kept.refused, refused_etag=kept.refused_etag)


def adopt_kept(folder: Path, key: str | None = None) -> str | None:
    """Work with what is kept from now on. Returns why the server's catalogue was refused, None if it was not."""
    kept = read_kept(folder, key)
    use(kept.catalogue)
    return kept.refused


def refresh(folder: Path, fetch: Fetch, *, key: str | None, offered: str) -> str | None:
    """Take the server's catalogue if it is another than the one here. Returns why it was refused, None if it was not.

    `offered`: its etag, as the server told. What was refused once is not fetched again until the server has another.
    Whatever the client raises when no answer comes goes on to the caller. raises: OSError
    """
    kept = read_kept(folder, key)
    current = kept.catalogue or own()
    if kept.catalogue is not None and offered == current.etag:
        if kept.refused:
            _forget_refusal(folder)
        return None
    if offered == own().etag:
        (folder / NAME).unlink(missing_ok=True)
        return None
    if not offered or offered == kept.refused_etag:
        return kept.refused
    answer = fetch(current.etag)
    if answer is None:
        return kept.refused
    body, signature = answer
    try:
        check(body, signature, key)
    except CatalogueRefused as error:
        earlier = read_json(folder / NAME) or {}
        _write(folder, {**earlier, "key": key or "", "refused": error.code, "refused_etag": offered})
        return error.code
    _write(folder, {"key": key or "", "signature": signature, "body": body.decode()})
    return None


def _forget_refusal(folder: Path) -> None:
    data = read_json(folder / NAME) or {}
    _write(folder, {name: value for name, value in data.items() if name not in ("refused", "refused_etag")})


def _write(folder: Path, data: Mapping[str, str]) -> None:
    write_json(folder / NAME, data)
    (folder / NAME).chmod(0o644)  # no secret: the half that runs as a user reads it too


def _decoded(text: str, length: int) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == length else b""
