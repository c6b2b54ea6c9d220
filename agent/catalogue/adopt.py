"""Taking a catalogue that came from the server: what of it may reach the workstation, and why it is refused else.

A signature says who sent a catalogue, not that it is harmless: a server can be taken over. So, whoever signed it, its
templates lie under places compiled into this release, a canary is put only where one may be, and its expressions are
not run: a pattern that this release knows keeps its own, any other is told by its templates. Signers and releases of
uv, by which a uv.exe is trusted to be run, stay this release's own. Pure; `agent.kept` checks the signature before.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from agent.catalogue.classify import forget_matchers
from agent.catalogue.load import etag_of, own, put_in_use, read_document
from agent.catalogue.model import Bucket, Catalogue, Pattern, Workflow
from agent.catalogue.places import expression_of, find_place, is_canary_place

MAX_BYTES = 512 << 10
MAX_ENTRIES = 500
_MAX_TEXT = 4_000
_MAX_LIST = 100
_MAX_SPELLINGS = 64
_MAX_FRAGMENTS = 40

_LISTS = frozenset(
    {
        item.name
        for kind in (Pattern, Workflow, Bucket, Catalogue)
        for item in fields(kind)
        if "tuple[str" in str(item.type)
    }
    | {"canary", "posix_canary"}
)
_COLLECTIONS = frozenset(("Exe", "Dll", "Script", "Msi", "Appx"))
_ENTRIES: Mapping[str, frozenset[str]] = {
    "pattern": frozenset(item.name for item in fields(Pattern)) - {"priority", "is_executed", "probe"}
    | {"canary", "posix_canary", "real_only"},
    "workflow": frozenset(item.name for item in fields(Workflow)),
    "bucket": frozenset(item.name for item in fields(Bucket)),
}


class CatalogueRefused(ValueError):
    """A catalogue that is not taken. `code` is one of `REASONS`; the message names the entry."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


REASONS: Mapping[str, str] = {
    "no-key": "no key was pinned at enrolment",
    "signature": "its signature is not that of the key pinned at enrolment",
    "size": "it is too large",
    "format": "it is not in the form that this agent reads",
    "older": "it is older than the agent's own",
    "entries": "it has too many entries",
    "place": "an entry points outside the places that this agent knows",
}


def accept(data: bytes) -> Catalogue:
    """A catalogue from its TOML, as far as this release takes it. raises: CatalogueRefused"""
    if len(data) > MAX_BYTES:
        raise CatalogueRefused("size", f"more than {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise CatalogueRefused("format", f"not TOML: {error}"[:200]) from error
    known = own()
    if document.get("version") != known.version or not isinstance(document.get("newest_uv"), str):
        raise CatalogueRefused("format", f"version {document.get('version')!r}, this agent reads {known.version}"[:200])
    if _numbers(document["newest_uv"]) < _numbers(known.newest_uv):
        raise CatalogueRefused(
            "older", f"it knows uv up to {document['newest_uv']}, this agent {known.newest_uv}"[:200]
        )
    cleaned = _clean(document)
    try:
        catalogue = read_document(cleaned, etag=etag_of(data))
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogueRefused("format", f"{type(error).__name__}: {error}"[:200]) from error
    mine = {pattern.id: pattern for pattern in known.patterns}
    patterns = tuple(_checked(pattern, mine.get(pattern.id)) for pattern in catalogue.patterns)
    return replace(catalogue, patterns=patterns, signers=known.signers, releases=known.releases)


def use(catalogue: Catalogue | None) -> None:
    """Work with an accepted catalogue from now on; None: with this release's own."""
    put_in_use(catalogue)
    forget_matchers()


def _clean(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a document that this release reads, bounded; what it does not know is left out."""
    fragments = document.get("fragments", {})
    if not isinstance(fragments, dict) or len(fragments) > _MAX_FRAGMENTS:
        raise CatalogueRefused("format", "fragments must be a table of few texts")
    if not all(isinstance(text, str) and len(text) <= 1_000 for text in fragments.values()):
        raise CatalogueRefused("format", "a fragment must be a short text")
    cleaned: dict[str, Any] = {
        "version": document["version"],
        "newest_uv": document["newest_uv"],
        "fragments": fragments,
        "signer": [],
    }
    for name, value in document.items():
        if name in _LISTS:
            cleaned[name] = _bounded("catalogue", 0, name, value)
    count = 0
    for kind, names in _ENTRIES.items():
        entries = document.get(kind, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise CatalogueRefused("format", f"{kind} must be a list of tables")
        count += len(entries)
        if count > MAX_ENTRIES:
            raise CatalogueRefused("entries", f"more than {MAX_ENTRIES} entries")
        cleaned[kind] = [
            {name: _bounded(kind, number, name, value) for name, value in entry.items() if name in names}
            for number, entry in enumerate(entries, start=1)
        ]
    return cleaned


def _bounded(kind: str, number: int, name: str, value: object) -> object:
    place = f"{kind} {number}, {name}"
    if name not in _LISTS:
        if not isinstance(value, str) or len(value) > _MAX_TEXT or value.count("(?&") > 20:
            raise CatalogueRefused("format", f"{place}: not a text of at most {_MAX_TEXT} characters")
        return value
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise CatalogueRefused("format", f"{place}: not a list of at most {_MAX_LIST} texts")
    if not all(isinstance(item, str) and len(item) <= _MAX_TEXT for item in value):
        raise CatalogueRefused("format", f"{place}: not a list of texts")
    if name in ("templates", "posix"):
        for item in value:
            if _spellings(item) > _MAX_SPELLINGS:
                raise CatalogueRefused("format", f"{place}: too many alternatives")
    return value


def _spellings(template: str) -> int:
    count = 1
    for part in template.split("{")[1:]:
        count *= part.split("}")[0].count(",") + 1
        if count > _MAX_SPELLINGS:
            break
    return count


def _checked(pattern: Pattern, mine: Pattern | None) -> Pattern:
    """A pattern whose places are known ones, with an expression of our own making. raises: CatalogueRefused"""
    if not _is_id(pattern.id):
        raise CatalogueRefused("format", f"{pattern.id!r} is no id"[:200])
    if not set(pattern.collections) <= _COLLECTIONS:
        raise CatalogueRefused("format", f"{pattern.id}: unknown collection")
    found = []
    for template in pattern.templates:
        place = find_place(template)
        if place is None:
            raise CatalogueRefused("place", f"{pattern.id}: {template!r}"[:200])
        found.append(expression_of(place, template))
    for template in pattern.posix:
        if find_place(template, is_posix=True) is None:
            raise CatalogueRefused("place", f"{pattern.id}: {template!r}"[:200])
    for templates, is_posix in ((pattern.probe.canary, False), (pattern.probe.posix_canary, True)):
        for template in templates:
            if not is_canary_place(template, is_posix=is_posix):
                raise CatalogueRefused("place", f"{pattern.id}: no place for a canary: {template!r}"[:200])
    if mine is not None and mine.match == pattern.match:
        return pattern
    return replace(pattern, match=f"(?:{'|'.join(dict.fromkeys(found))})$" if found else "")


def _is_id(text: str) -> bool:
    return (
        0 < len(text) <= 80
        and text.isascii()
        and text[0].isalnum()
        and all(letter.islower() or letter.isdigit() or letter in "._-" for letter in text)
    )


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:3]
    return tuple(int(part) if part.isascii() and part.isdigit() and len(part) < 7 else -1 for part in parts)
