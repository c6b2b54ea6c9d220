"""Rules made from known values: a path of the catalogue, a known signer, hashes of trusted files.

The caller gives name, description and risk in plain words; this file gives the rule its id and refuses whatever would
make it admit something else than it says: stray wildcards, quotes, control characters, variables no AppLocker knows.

source: Microsoft's "Understanding the path/publisher/file hash rule condition in AppLocker"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.applocker.identify import identified
from app.applocker.model import (
    COLLECTION_TYPES,
    EVERYONE,
    HASH_DIGITS,
    MAX_PATH,
    Action,
    AppLockerError,
    FileHash,
    HashCondition,
    HashRule,
    PathCondition,
    PathRule,
    Problem,
    PublisherCondition,
    PublisherRule,
    Rule,
    Version,
)
from app.applocker.write import clipped

_SID = re.compile(r"S-1(?:-[0-9A-F]+)+")
_FULL_PATH = re.compile(
    r"(?:%(?:WINDIR|SYSTEM32|OSDRIVE|PROGRAMFILES|REMOVABLE|HOT)%|[A-Z]:|\\\\[^\\*?]+\\[^\\*?]+)\\.+", re.IGNORECASE
)
_SHORT_NAME = re.compile(r"~[0-9]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffd-\uffff\ud800-\udfff]")
_IN_NO_PATH = re.compile(r'[<>"|/?]')
_IN_NO_FILE_NAME = re.compile(r'[<>"|/?*\\:]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A rule for one collection, and in plain words what it risks."""

    collection: str
    rule: Rule
    risk: str


def path_rule(
    collection: str,
    path: str,
    *,
    name: str,
    description: str = "",
    risk: str,
    sid: str = EVERYONE,
    action: Action = Action.ALLOW,
) -> Suggestion:
    """A rule for a path written by the catalogue or an administrator: `*` is meant, everything doubtful is refused.

    raises: AppLockerError.

    >>> path_rule("Exe", r"%TEMP%\\\\uv\\\\*", name="uv", risk="")
    Traceback (most recent call last):
    app.applocker.model.AppLockerError: rule uv: a path rule begins with a drive, a share or one of AppLocker's ...
    """
    if not _FULL_PATH.fullmatch(path):
        raise _error(
            name,
            "a path rule begins with a drive, a share or one of AppLocker's own variables (%OSDRIVE%, %WINDIR%, "
            f"%SYSTEM32%, %PROGRAMFILES%, %HOT%, %REMOVABLE%), not as {path[:80]!r} does",
        )
    if "%" in path[1:] and path.count("%") != (2 if path.startswith("%") else 0):
        raise _error(name, f"a variable is only known at the beginning of a path: {path[:80]!r}")
    if _IN_NO_PATH.search(path) or _CONTROL.search(path) or len(path) > MAX_PATH:
        raise _error(name, f"the path holds characters that no file name has, or is too long: {path[:80]!r}")
    if _SHORT_NAME.search(path):
        raise _error(name, f"AppLocker doesn't enforce rules with short names: {path[:80]!r}")
    if path.endswith("\\") or any(part.strip(".") == "" for part in path[2:].lstrip("\\").split("\\")[1:]):
        raise _error(
            name, f"a path rule names a file or ends with \\*, and has no '.', '..' or empty parts: {path[:80]!r}"
        )
    rule = PathRule(
        id="",
        name=_name(name),
        description=clipped(description),
        sid=_sid(name, sid),
        action=action,
        condition=PathCondition(path=path),
    )
    return _suggestion(collection, rule, risk)


def literal_path(text: str) -> str:
    """A path that others reported, fit to be part of a rule: no wildcard, quote, variable or control character in it.

    raises: AppLockerError.
    """
    if _IN_NO_PATH.search(text) or _CONTROL.search(text) or "*" in text or "%" in text:
        raise _error(None, f"a reported path with wildcards, quotes, variables or control characters: {text[:80]!r}")
    return text


def publisher_rule(
    collection: str,
    publisher: str,
    *,
    product: str = "*",
    binary: str = "*",
    low: Version | None = None,
    high: Version | None = None,
    name: str,
    description: str = "",
    risk: str,
    sid: str = EVERYONE,
    action: Action = Action.ALLOW,
) -> Suggestion:
    """A rule for a known signer; product and binary are exact or `*`, versions inclusive, None for open.

    raises: AppLockerError.
    """
    if publisher.strip() in ("", "*") or "=" not in publisher:
        raise _error(
            name, f"a publisher is a certificate's subject such as 'O=…, L=…, S=…, C=…', not {publisher[:80]!r}"
        )
    for text in (publisher, product, binary):
        if _CONTROL.search(text) or (text != "*" and ("*" in text or "?" in text)):
            raise _error(name, f"wildcards within a text, or characters no certificate has: {text[:80]!r}")
    if publisher.count('"') % 2 or '"' in product + binary:
        raise _error(name, "a quotation mark that doesn't belong there")
    if not product or not binary or (low and high and low > high):
        raise _error(name, "product and binary are a text or *, and the lowest version is not above the highest")
    condition = PublisherCondition(
        publisher=publisher.upper(), product=product.upper(), binary=binary.upper(), low=low, high=high
    )
    rule = PublisherRule(
        id="",
        name=_name(name),
        description=clipped(description),
        sid=_sid(name, sid),
        action=action,
        condition=condition,
    )
    return _suggestion(collection, rule, risk)


def hash_rule(
    collection: str,
    files: Sequence[tuple[str, int, str]],
    *,
    name: str,
    description: str = "",
    risk: str,
    sid: str = EVERYONE,
    action: Action = Action.ALLOW,
) -> Suggestion:
    """A rule for files given as (file name, size in bytes, SHA-256 as AppLocker counts it, 64 hexadecimal digits).

    That is the Authenticode hash for programs and libraries, and the flat hash for scripts.

    raises: AppLockerError.
    """
    hashes: dict[str, FileHash] = {}
    for file_name, size_bytes, data in files:
        digits = data.removeprefix("0x").upper()
        if not re.fullmatch(r"[0-9A-F]+", digits) or len(digits) != HASH_DIGITS["SHA256"]:
            raise _error(name, f"a SHA-256 has 64 hexadecimal digits: {data[:80]!r}")
        if not file_name or _IN_NO_FILE_NAME.search(file_name) or _CONTROL.search(file_name):
            raise _error(name, f"this is no file name: {file_name[:80]!r}")
        if size_bytes <= 0:
            raise _error(name, f"an empty file has no hash that AppLocker would match: {file_name[:80]!r}")
        hashes.setdefault(digits, FileHash(data=digits, source_name=file_name, source_length=size_bytes))
    if not hashes:
        raise _error(name, "a hash rule needs at least one file")
    rule = HashRule(
        id="",
        name=_name(name),
        description=clipped(description),
        sid=_sid(name, sid),
        action=action,
        condition=HashCondition(hashes=tuple(hashes[key] for key in sorted(hashes))),
    )
    return _suggestion(collection, rule, risk)


def _suggestion(collection: str, rule: Rule, risk: str) -> Suggestion:
    if collection not in COLLECTION_TYPES:
        raise _error(rule.name, f"there is no collection {collection!r}")
    if collection in ("Appx", "ManagedInstaller") and not isinstance(rule, PublisherRule):
        raise _error(rule.name, f"the collection {collection} takes publisher rules only")
    return Suggestion(collection=collection, rule=identified(collection, rule), risk=risk)


def _name(name: str) -> str:
    text = clipped(name).strip()
    if not text:
        raise _error(None, "a rule needs a name")
    return text


def _sid(name: str, sid: str) -> str:
    if not _SID.fullmatch(sid.upper()) or len(sid) < 7:
        raise _error(name, f"a rule is for a SID such as S-1-1-0, not {sid[:80]!r}")
    return sid.upper()


def _error(rule: str | None, message: str) -> AppLockerError:
    return AppLockerError((Problem(line=None, rule=rule, message=message),))
