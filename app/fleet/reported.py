"""The sets of a subject as values for a page. Their shapes were checked when stored; any key may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.catalogue.adopt import REASONS


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
    is_judged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A place at which a policy lets the canary and what uv would put there fare differently."""

    pattern: str
    collection: str
    specimen: str
    outcome: str
    canary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUv:
    """One uv that was found on the host. `path` is templated.

    `distrust`: the number that Windows gave for not trusting its signature: to AppLocker such a file is unsigned.
    """

    path: str
    version: str | None
    publisher: str | None
    is_preferred: bool
    distrust: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """Mode and number of rules by collection (None: could not be read), and what else is there.

    `csp_sets`: device management's policies where they could be read, each by collection; all have to allow a file.
    """

    collections: Mapping[str, tuple[str, int]] | None
    csp: str
    srp: bool
    csp_sets: tuple[Mapping[str, tuple[str, int]], ...] = ()
    service_disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A root that does not lie where most machines have it: in AppLocker's words, and what that is."""

    root: str
    place: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Everything that one subject last reported. `probes`: the refused ones first; `absent`: how many had nothing.

    `mismatches`: where what uv would put there and the canary fared differently: pattern, collection, the outcome of
    each. `catalogue_refused`: why the agent does not work with the server's catalogue, in words. `roots`: where uv's
    directories really lie, in AppLocker's words; `elsewhere`: those of them that usual rules do not reach.
    """

    probes: tuple[ProbeResult, ...]
    found: tuple[FoundUv, ...]
    policy: PolicyInForce | None
    answers: Mapping[str, str]
    variables: Mapping[str, str]
    event_logs: Mapping[str, str]
    absent: int
    mismatches: tuple[Mismatch, ...] = ()
    catalogue_refused: str | None = None
    language_mode: str = ""
    roots: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[Elsewhere, ...] = ()


_PROFILE = r"%OSDRIVE%\Users\*"
USUAL_ROOTS: Mapping[str, str] = {
    "cache": rf"{_PROFILE}\AppData\Local\uv\cache",
    "data": rf"{_PROFILE}\AppData\Roaming\uv",
    "home": _PROFILE,
    "python": rf"{_PROFILE}\AppData\Roaming\uv\python",
    "python_bin": rf"{_PROFILE}\.local\bin",
    "temp": rf"{_PROFILE}\AppData\Local\Temp",
    "tool_bin": rf"{_PROFILE}\.local\bin",
    "tools": rf"{_PROFILE}\AppData\Roaming\uv\tools",
}
"""Where most machines have uv's roots, in AppLocker's words: what rules of the catalogue are written for."""

_KINDS = (
    ("\\\\?\\volume", "a volume without a drive letter, such as a profile disk"),
    ("\\\\", "a share"),
    ("%hot%", "a removable drive"),
    ("%removable%", "a disc"),
    ("%osdrive%\\users\\*\\appdata\\local\\*\\", "a package’s private copy of AppData"),
    ("%osdrive%\\users\\*", "another folder of the profile"),
    ("%", "another folder of the system drive"),
)
_NUMBER = re.compile(r"0x[0-9a-f]{8}")
_JUDGED = frozenset({"blocked", "denied", "allowed", "audited"})
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
        mismatches=find_mismatches(probes),
        catalogue_refused=_refusal(sets.get("probes", {}).get("refused")),
        language_mode=environment.get("language_mode", ""),
        roots=environment.get("roots", {}),
        elsewhere=find_elsewhere(environment.get("roots", {})),
    )


def preferred_version(sets: Mapping[str, Any]) -> str | None:
    """The version of the uv that a subject runs: the first on PATH, else any that was found."""
    found = _found(sets.get("uv", {}))
    return next((one.version for one in sorted(found, key=lambda one: not one.is_preferred) if one.version), None)


def find_mismatches(probes: Iterable[ProbeResult]) -> tuple[Mismatch, ...]:
    """Where the canary's outcome is another than that of the real file, or of the host's own launcher."""
    canaries: dict[tuple[str, str], str] = {}
    better: dict[tuple[str, str], ProbeResult] = {}
    for one in probes:
        key = (one.pattern, one.collection or "Exe")
        if one.outcome not in _JUDGED:
            continue
        if one.specimen == "canary":
            canaries[key] = one.outcome
        elif one.specimen in ("real", "launcher"):
            better[key] = one
    return tuple(
        Mismatch(pattern=key[0], collection=key[1], specimen=one.specimen, outcome=one.outcome, canary=canaries[key])
        for key, one in sorted(better.items())
        if key in canaries and canaries[key] != one.outcome
    )


def service_words(word: str) -> str:
    """How AppIDSvc stands, in words for a page.

    >>> service_words("stopped-manual"), service_words("absent")
    ('stopped, starts on demand', 'there is none')
    """
    state, _, start = word.partition("-")
    starts = {"automatic": "starts with Windows", "manual": "starts on demand", "disabled": "disabled"}.get(start)
    plain = {"absent": "there is none", "denied": "the agent may not ask", "unknown": "did not say"}
    return ", ".join(part for part in (plain.get(state, state), starts) if part)


def find_elsewhere(roots: object) -> tuple[Elsewhere, ...]:
    """The roots that usual rules do not reach, of what a workstation says; of Windows alone.

    >>> find_elsewhere({"home": "%OSDRIVE%\\\\Users\\\\*", "cache": "D:\\\\uv"})
    (Elsewhere(root='cache', place='D:\\\\uv', kind='another drive'),)
    """
    told = roots if isinstance(roots, Mapping) else {}
    home = told.get("home")
    # Of a whole profile that is elsewhere, what lies in it as usual needs no word of its own.
    moved = home.lower() if isinstance(home, str) else _PROFILE.lower()
    return tuple(
        Elsewhere(root=root, place=place, kind=_kind_of_place(place))
        for root, usual in USUAL_ROOTS.items()
        if isinstance(place := told.get(root), str)
        and place.lower() != usual.lower()
        and (root == "home" or place.lower() != usual.lower().replace(_PROFILE.lower(), moved))
        and not place.startswith(("/", "%HOME%"))
    )


def _kind_of_place(place: str) -> str:
    lowered = place.lower()
    for begin, words in _KINDS:
        if lowered.startswith(begin):
            return words
    return "another drive" if lowered[1:2] == ":" else "a place that is not understood"


def _refusal(code: object) -> str | None:
    # A report is a claim: of words that this release does not know, only that there is one.
    return None if not code else REASONS.get(str(code), "of a reason that this server does not know")


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
            is_judged=one.get("method") == "policy",
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
            distrust=_distrust(one.get("trust")),
        )
        for one in body.get("found", ())
    )


def _distrust(trust: object) -> str | None:
    # A Windows answers `trusted` or a number; another system says nothing, and is not taken for either.
    if not isinstance(trust, str) or trust == "trusted":
        return None
    return trust if _NUMBER.fullmatch(trust) else "for a reason that is not understood"


def _policy(body: Mapping[str, Any]) -> PolicyInForce:
    gpo = body.get("gpo")
    collections = None
    if gpo is not None:
        collections = {name: (one.get("mode", ""), len(one.get("rules", ()))) for name, one in sorted(gpo.items())}
    return PolicyInForce(
        collections=collections,
        csp=body.get("csp", "none"),
        srp=body.get("srp", False),
        csp_sets=tuple(
            {name: (one.get("mode", ""), len(one.get("rules", ()))) for name, one in sorted(found.items())}
            for found in body.get("csp_sets", ())
        ),
        service_disabled=body.get("service_disabled", False),
    )
