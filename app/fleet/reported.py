"""The sets of a subject as values for a page. Their shapes were checked when stored; any key may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One probe as a subject last reported it."""

    pattern: str
    collection: str | None
    specimen: str
    outcome: str
    why: str | None
    engine: str | None
    error: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUv:
    """One uv that was found on the host. `path` is templated."""

    path: str
    version: str | None
    publisher: str | None
    is_preferred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """Mode and number of rules by collection (None: could not be read), and what else is there."""

    collections: Mapping[str, tuple[str, int]] | None
    csp: str
    srp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Everything that one subject last reported. `probes`: the refused ones first; `absent`: how many had nothing."""

    probes: tuple[ProbeResult, ...]
    found: tuple[FoundUv, ...]
    policy: PolicyInForce | None
    answers: Mapping[str, str]
    variables: Mapping[str, str]
    event_logs: Mapping[str, str]
    absent: int


_WORST_FIRST = ("blocked", "denied", "audited", "error", "unknown", "allowed")


def read_reported(sets: Mapping[str, Any]) -> Reported:
    """The values of a subject's sets (kind -> body)."""
    environment = sets.get("environment", {})
    probes = _probes(sets.get("probes", {}))
    told = [one for one in probes if one.outcome != "absent"]
    told.sort(key=lambda one: (_WORST_FIRST.index(one.outcome) if one.outcome in _WORST_FIRST else 9, one.pattern))
    return Reported(
        probes=tuple(told),
        absent=len(probes) - len(told),
        found=_found(sets.get("uv", {})),
        policy=_policy(sets["policy"]) if "policy" in sets else None,
        answers=environment.get("answers", {}),
        variables={**environment.get("variables", {}), **environment.get("uv_toml", {})},
        event_logs=environment.get("event_logs", {}),
    )


def _probes(body: Mapping[str, Any]) -> tuple[ProbeResult, ...]:
    return tuple(
        ProbeResult(
            pattern=one.get("pattern", ""),
            collection=one.get("collection"),
            specimen=one.get("specimen") or "none",
            outcome=one.get("outcome") or "unknown",
            why=str(one["why"]) if one.get("why") else None,
            engine=one.get("engine"),
            error=one.get("error"),
        )
        for one in body.get("probes", ())
    )


def _found(body: Mapping[str, Any]) -> tuple[FoundUv, ...]:
    return tuple(
        FoundUv(
            path=one.get("path", ""),
            version=one.get("version"),
            publisher=str(one["publisher"]) if one.get("publisher") else None,
            is_preferred=one.get("path") == body.get("preferred"),
        )
        for one in body.get("found", ())
    )


def _policy(body: Mapping[str, Any]) -> PolicyInForce:
    gpo = body.get("gpo")
    collections = None
    if gpo is not None:
        collections = {name: (one.get("mode", ""), len(one.get("rules", ()))) for name, one in sorted(gpo.items())}
    return PolicyInForce(collections=collections, csp=body.get("csp", "none"), srp=body.get("srp", False))
