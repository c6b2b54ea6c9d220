"""What came of each pattern in a set of probes, and the numbers under which the database finds such sets.

A fleet's sets are ever new combinations of the same few thousand probes. The text of a probe that was once checked is
remembered with what it says, so that a new set of known probes is neither parsed nor checked again. Canonical texts
joined by commas in an array are canonical, so nothing that the full check refuses gets by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from agent.contract.canonical import ContractError, parse_canonical
from agent.contract.facts import Engine, Outcome
from app.fleet.marks import RANK
from app.fleet.marks import mark as mark
from app.fleet.marks import marks_of as marks_of

MAX_PROBES = 400
MAX_KNOWN = 8192
MAX_KNOWN_CHARACTERS = 512


class PatternFact(NamedTuple):
    """What came of one pattern: the real file's outcome before the canary's, the worst of its collections."""

    pattern: str
    outcome: str
    engine: str


class ProbeFact(NamedTuple):
    """What one probe says; `mark` is the database's number for it.

    The lowest `order` of a pattern's probes in one collection decides for the collection, and of those the lowest
    `rank` for the pattern.
    """

    order: int
    fact: PatternFact
    mark: int
    blocks: bool
    rank: int
    collection: str


_Short = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Pattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]


class ProbeShape(TypedDict, total=False):
    """What a probe's value must look like, as far as the server reads it."""

    pattern: _Pattern
    specimen: _Short
    outcome: _Short
    engine: _Short | None
    error: int | None
    collection: _Short | None


class ProbesShape(TypedDict, total=False):
    """What a set of probes must look like."""

    probes: list[ProbeShape]
    refused: _Short | None


_SHAPE = TypeAdapter(ProbeShape)
_OUTCOMES = frozenset(Outcome)
_ENGINES = frozenset(Engine)
# The file that stands there, and a copy of the host's launcher as uv would put it there, tell more than the canary.
_REAL = frozenset({"real", "launcher"})
_POLICY_ENGINES = frozenset({"applocker", "srp", "wdac", "unknown"})
_HEAD = re.compile(r'\{"catalogue":"[0-9A-Za-z._:-]{0,128}","probes":\[\{')
_TAIL = "}]}"


def read_probe(probe: Mapping[str, Any], index: int) -> ProbeFact:
    """What a probe of the right shape says. Unknown words become `unknown`.

    raises: ContractError when it names no pattern.
    """
    pattern = probe.get("pattern")
    if pattern is None:
        raise ContractError("a probe needs a pattern", f"probes.{index}.pattern")
    outcome = probe.get("outcome", "unknown")
    if outcome not in _OUTCOMES:
        outcome = "unknown"
    engine = probe.get("engine") or ""
    if engine and engine not in _ENGINES:
        engine = "unknown"
    rank = RANK[outcome]
    judged_real = probe.get("specimen") in _REAL and rank < RANK["error"]
    return ProbeFact(
        order=rank if judged_real else rank + len(RANK),
        fact=PatternFact(pattern, outcome, engine),
        mark=mark(pattern, outcome, engine),
        blocks=outcome == "blocked" and engine in _POLICY_ENGINES,
        rank=rank,
        collection=probe.get("collection") or "",
    )


def decide(probes: Iterable[ProbeFact]) -> list[ProbeFact]:
    """The probe that decides of each pattern, in the order of patterns."""
    best: dict[tuple[str, str], ProbeFact] = {}
    for probe in probes:
        key = (probe[1][0], probe[5])
        known = best.get(key)
        if known is None or probe[0] < known[0]:
            best[key] = probe
    worst: dict[str, ProbeFact] = {}
    for (pattern, _), probe in best.items():
        known = worst.get(pattern)
        if known is None or probe[4] < known[4]:
            worst[pattern] = probe
    return [worst[pattern] for pattern in sorted(worst)]


def find_known(body: str) -> list[ProbeFact] | None:
    """What the probes of a body say when each was seen before; None when the body must be read in full."""
    head = _HEAD.match(body)
    if head is None or not body.endswith(_TAIL):
        return None
    texts = body[head.end() : -len(_TAIL)].split("},{")
    if len(texts) > MAX_PROBES:
        return None
    try:
        return [_KNOWN[text] for text in texts]
    except KeyError:
        return None


def remember_probes(body: str) -> None:
    """Remembers the probes of a body that was read in full and found right."""
    head = _HEAD.match(body)
    if head is None or not body.endswith(_TAIL):
        return
    for text in body[head.end() : -len(_TAIL)].split("},{"):
        # Only flat ones: nesting is bounded for a body as a whole.
        if text in _KNOWN or len(text) > MAX_KNOWN_CHARACTERS or "{" in text or "[" in text:
            continue
        try:
            probe = read_probe(_SHAPE.validate_python(parse_canonical(f"{{{text}}}"), strict=True), 0)
        except (ContractError, ValidationError):
            # A text was cut within a string: such bodies are always read in full.
            continue
        if len(_KNOWN) >= MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[text] = probe


_KNOWN: dict[str, ProbeFact] = {}
