"""What one set adds to the counts of patterns, workflows and versions, given the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent import catalogue
from agent.contract.canonical import ContractError
from app.fleet.facts import PatternFact, SetFacts, read_set
from app.fleet.tables import KIND_NAMES

OPEN_OUTCOMES = frozenset({"allowed", "audited"})
CLOSED_OUTCOMES = frozenset({"blocked", "denied"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one subject with a set adds: rows of (pattern, outcome, engine), (workflow, verdict), (version,)."""

    patterns: tuple[tuple[str, str, str], ...] = ()
    workflows: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str], ...] = ()


def contribution(kind: int, body: str) -> Contribution:
    """What a stored set adds; a body that can't be read any more adds nothing."""
    try:
        facts = read_set(KIND_NAMES[kind], body)
    except (ContractError, KeyError):
        return Contribution()
    return contribution_of(facts)


def contribution_of(facts: SetFacts) -> Contribution:
    """What a set's facts add. Patterns that the server's catalogue doesn't know are left out: a host could invent any
    number of them."""
    if facts.version is not None:
        return Contribution(versions=((facts.version,),))
    if not facts.patterns:
        return Contribution()
    known = _known_patterns()
    return Contribution(
        patterns=tuple((f.pattern, f.outcome, f.engine) for f in facts.patterns if f.pattern in known),
        workflows=tuple(workflow_verdicts(facts.patterns).items()),
    )


def workflow_verdicts(facts: Iterable[PatternFact]) -> Mapping[str, str]:
    """Of each workflow: `open` when every pattern it needs is, `blocked` when one is closed, else `unknown`.

    A workflow that needs no pattern starts nothing from where uv writes: it is open.
    """
    outcomes = {fact.pattern: fact.outcome for fact in facts}
    verdicts = {}
    for workflow in catalogue.load().workflows:
        needed = [outcomes.get(pattern, "unknown") for pattern in workflow.needs]
        if any(outcome in CLOSED_OUTCOMES for outcome in needed):
            verdicts[workflow.id] = "blocked"
        elif all(outcome in OPEN_OUTCOMES for outcome in needed):
            verdicts[workflow.id] = "open"
        else:
            verdicts[workflow.id] = "unknown"
    return verdicts


def _known_patterns() -> frozenset[str]:
    current = catalogue.load()
    if _PATTERNS.get(current.etag) is None:
        _PATTERNS.clear()
        _PATTERNS[current.etag] = frozenset(pattern.id for pattern in current.patterns)
    return _PATTERNS[current.etag]


_PATTERNS: dict[str, frozenset[str]] = {}
