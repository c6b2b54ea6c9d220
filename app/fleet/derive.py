"""What one set adds to the counts of patterns, workflows and versions, given the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent import catalogue
from agent.contract.canonical import ContractError
from agent.contract.facts import Engine, Outcome
from app.fleet.facts import read_set
from app.fleet.judged import Judged, judge_set
from app.fleet.obstacles import rows_of, words_of
from app.fleet.probes import PatternFact, mark
from app.fleet.tables import KIND_NAMES

DERIVATION = 4
"""To be raised with every change of what a set adds: a server that starts then makes the tallies anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one subject with a set adds: rows as their tallies have them."""

    patterns: tuple[PatternFact, ...] = ()
    workflows: tuple[tuple[str, str], ...] = ()
    obstacles: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str], ...] = ()
    judged: Judged | None = None


def contribution(kind: int, marks: Iterable[int] | None, body: str | None) -> Contribution:
    """What a stored set adds. Probes are told by their marks alone; `body` is needed for uv sets only."""
    name = KIND_NAMES.get(kind)
    if name == "probes":
        known = known_marks()
        return _of_patterns(tuple(known[number] for number in marks or () if number in known))
    if name != "uv" or body is None:
        return Contribution()
    try:
        return Contribution(versions=((read_set(name, body).version or "",),))
    except ContractError:
        return Contribution()


def _of_patterns(facts: tuple[PatternFact, ...]) -> Contribution:
    if not facts:
        return Contribution()
    workflows: list[tuple[str, str]] = []
    obstacles: list[tuple[str, str]] = []
    words = words_of(facts)
    for workflow, word in words:
        verdicts, changing = rows_of(workflow, word)
        workflows += verdicts
        obstacles += changing
    return Contribution(
        patterns=facts,
        workflows=tuple(workflows),
        obstacles=tuple(obstacles),
        judged=judge_set(facts, (word for _, word in words)),
    )


def known_marks() -> Mapping[int, PatternFact]:
    """What each mark means, of the patterns of the server's catalogue.

    Others are left out of the counts: a host could invent any number of them.
    """
    current = catalogue.load()
    if current.etag not in _MARKS:
        _MARKS.clear()
        _MARKS[current.etag] = {
            mark(pattern.id, outcome, engine): PatternFact(pattern=pattern.id, outcome=outcome, engine=engine)
            for pattern in current.patterns
            for outcome in Outcome
            for engine in ("", *Engine)
        }
    return _MARKS[current.etag]


_MARKS: dict[str, Mapping[int, PatternFact]] = {}
