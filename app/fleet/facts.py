"""What the server reads out of a fact set's body: checked as hostile input, reduced to what counts need.

Unknown fields are ignored and unknown words become `unknown`, so that a newer agent breaks nothing; a wrong shape is
refused with the place of the fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated, Any, NoReturn

from pydantic import StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from agent.contract.canonical import MAX_DEPTH, ContractError, parse_canonical
from agent.contract.facts import SERVICE_WORDS
from app.fleet.probes import (
    MAX_PROBES,
    PatternFact,
    ProbesShape,
    decide,
    find_known,
    mark,
    read_probe,
    remember_probes,
)

MAX_FOUND = 100


class Flag(IntFlag):
    """What a subject's standing needs to know of a set."""

    ADMINISTRATOR = 1
    ENFORCING = 2
    BLOCKING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFacts:
    """What counts need of one shared set."""

    flags: int = 0
    patterns: tuple[PatternFact, ...] = ()
    version: str | None = None
    marks: list[int] | None = None
    """One number per pattern or version, by which the database finds the sets that have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostColumns:
    """What a host says of itself."""

    name: str
    platform: str
    os: str
    os_build: str
    domain: str | None
    unit: str | None
    agent_version: str
    attested: bool
    appid_service: str


_Line = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Short = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Unit = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Any = Annotated[str, StringConstraints(max_length=4096)]


class _Found(TypedDict, total=False):
    path: _Any
    version: _Short | None


class _Uv(TypedDict, total=False):
    found: list[_Found]
    preferred: _Any | None


class _Environment(TypedDict, total=False):
    variables: dict[str, _Any]
    uv_toml: dict[str, _Any]
    answers: dict[str, _Any]
    roots: dict[str, _Any]
    event_logs: dict[str, _Short]
    language_mode: _Short


class _Collection(TypedDict, total=False):
    mode: _Short
    rules: list[str]


class _Policy(TypedDict, total=False):
    gpo: dict[str, _Collection] | None
    csp: _Short
    srp: bool
    csp_sets: list[dict[str, _Collection]]
    service_disabled: bool


class _Token(TypedDict, total=False):
    sids: list[_Line]
    deny_only: list[_Line]
    elevated: bool
    administrator: bool


class _Host(TypedDict, total=False):
    name: _Line
    platform: _Short
    os: _Line
    os_build: _Short
    domain: _Line | None
    unit: _Unit | None
    agent_version: _Short
    attested: bool
    appid_service: _Short


_SHAPES: Mapping[str, TypeAdapter[Any]] = {
    "probes": TypeAdapter(ProbesShape),
    "uv": TypeAdapter(_Uv),
    "environment": TypeAdapter(_Environment),
    "policy": TypeAdapter(_Policy),
    "token": TypeAdapter(_Token),
    "host": TypeAdapter(_Host),
}

_AUDIT_MODES = frozenset({"0", "audit", "auditonly"})
_LONG_NUMBER = re.compile(r"[0-9]{16}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_EMPTY_BRACKETS = re.compile(rb"\[\]|\{\}")


def version_mark(version: str) -> int:
    """A number for a version of uv."""
    return mark(f"uv {version}", "allowed", "")


def parse_body(body: str) -> Any:
    """The value of a canonical body.

    raises: ContractError as `parse_canonical`, whose slower check decides whenever the quick one does not say yes.
    """
    if body.isascii() and _LONG_NUMBER.search(body) is None and _is_shallow(body):
        try:
            value = _DECODER.decode(body)
            if _ENCODER.encode(value) == body:
                return value
        except (ValueError, RecursionError):
            pass
    return parse_canonical(body)


def _is_shallow(body: str) -> bool:
    """Whether brackets nest no deeper than allowed; also False when there are brackets within texts."""
    brackets = body.encode().translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return True
        brackets = _EMPTY_BRACKETS.sub(b"", brackets)
    return not brackets


def _refuse(text: str) -> NoReturn:
    raise ContractError(f"the number {text[:40]} is not an integer")


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def read_set(kind: str, body: str) -> SetFacts:
    """The facts of one shared set.

    raises: ContractError with the place within the body.
    """
    if kind == "probes":
        return _read_probes(body)
    value = _shaped(kind, body)
    if kind == "uv":
        version = _preferred_version(value)
        return SetFacts(version=version, marks=[version_mark(version)])
    if kind == "policy":
        return SetFacts(flags=Flag.ENFORCING if _enforces(value) else 0)
    if kind == "token":
        return SetFacts(flags=Flag.ADMINISTRATOR if value.get("administrator") else 0)
    return SetFacts()


def read_host(body: str) -> HostColumns:
    """What a host says of itself.

    raises: ContractError with the place within the body.
    """
    value = _shaped("host", body)
    if not value.get("name"):
        raise ContractError("a host needs a name", "name")
    return HostColumns(
        name=value["name"],
        platform=value.get("platform", "windows"),
        os=value.get("os", ""),
        os_build=value.get("os_build", ""),
        domain=value.get("domain"),
        unit=value.get("unit"),
        agent_version=value.get("agent_version", ""),
        attested=value.get("attested", False),
        # A word that this release does not know says nothing.
        appid_service=word if (word := value.get("appid_service", "")) in SERVICE_WORDS else "",
    )


def _shaped(kind: str, body: str) -> Any:
    value = parse_body(body)
    try:
        value = _SHAPES[kind].validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ContractError(first["msg"], ".".join(str(part) for part in first["loc"]) or None) from None
    if kind == "probes" and len(value.get("probes", ())) > MAX_PROBES:
        raise ContractError(f"more than {MAX_PROBES} probes", "probes")
    if kind == "uv" and len(value.get("found", ())) > MAX_FOUND:
        raise ContractError(f"more than {MAX_FOUND} uv executables", "found")
    return value


def _read_probes(body: str) -> SetFacts:
    probes = find_known(body)
    if probes is None:
        value = _shaped("probes", body)
        probes = [read_probe(probe, index) for index, probe in enumerate(value.get("probes", ()))]
        remember_probes(body)
    decided = decide(probes)
    return SetFacts(
        flags=Flag.BLOCKING if any(probe.blocks for probe in decided) else 0,
        patterns=tuple([probe.fact for probe in decided]),
        marks=[probe.mark for probe in decided] or None,
    )


def _preferred_version(value: _Uv) -> str:
    found = value.get("found", [])
    preferred = value.get("preferred")
    for one in found:
        if one.get("path") == preferred and one.get("version"):
            return one["version"] or ""
    return next((version for one in found if (version := one.get("version"))), "")


def _enforces(value: _Policy) -> bool:
    for collections in (value.get("gpo") or {}, *value.get("csp_sets", ())):
        for collection in collections.values():
            # A collection with rules and no mode is enforced all the same.
            if collection.get("rules") and collection.get("mode", "").lower() not in _AUDIT_MODES:
                return True
    # A policy that nobody could read is none that may be taken for no policy.
    return bool(value.get("srp")) or value.get("csp", "none") not in ("none", "read")
