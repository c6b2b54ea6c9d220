"""What a list of hosts asks of their users: to have one of certain sets, or to have been seen in a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, any_, bindparam, cast, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import BigInteger, Integer

from agent import catalogue
from agent.contract.facts import Engine
from app.errors import InvalidError
from app.fleet.absence import GAP
from app.fleet.facts import version_mark
from app.fleet.host_wanted import OUTCOME_GROUPS, HostFilter
from app.fleet.installs import find_install_sets
from app.fleet.judged import sets_closed_by, sets_with_outcome
from app.fleet.marks import RANK
from app.fleet.probes import mark
from app.fleet.seen_filter import has_pulse, seen_then, span_of
from app.fleet.tables import (
    KIND_NUMBERS,
    NO_SET,
    Absence,
    FactSet,
    PatternTally,
    Pulse,
    Subject,
    Tally,
    VersionTally,
    WorkflowTally,
)
from app.fleet.versions import versions_before
from app.fleet.workflow_filter import count_workflow, sets_with_verdict
from app.fleet.workflows import CLOSED_OUTCOMES

MAX_SETS_LISTED = 5000
"""So many sets at most are named to the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Whether a subject has one of certain sets, and how many of each group have."""

    holds: ColumnElement[bool]
    have: dict[int, int]


def find_conditions(session: Session, wanted: HostFilter, *, few: int) -> list[Condition]:
    """What is asked for, in parts: once in a session, as a page lists and counts. `few`: so many users at most are
    looked up one by one.
    """
    known: dict[HostFilter, list[Condition]] = session.info.setdefault("host_conditions", {})
    if wanted not in known:
        known[wanted] = _find(session, wanted, few)
    return known[wanted]


def most_that_fit(session: Session, wanted: HostFilter, conditions: list[Condition]) -> dict[int, int]:
    """How many subjects at most fit, by group; groups without any are left out."""
    counts = [one.have for one in conditions]
    if not counts:
        counts = [_by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)]
    fewest = {group: min(have.get(group, 0) for have in counts) for group in counts[0]}
    return {group: count for group, count in fewest.items() if count > 0}


def _holds(session: Session, column: InstrumentedAttribute[int | None], ids: Select[int]) -> ColumnElement[bool]:
    """Whether a subject has one of the sets: by their ids, unless they are too many to name."""
    if session.get_bind().dialect.name != "postgresql":
        return column.in_(ids)
    known = list(session.scalars(ids.limit(MAX_SETS_LISTED + 1)))
    if len(known) <= MAX_SETS_LISTED:
        return _has_one_of(session, column, known)
    return ids.where(ids.selected_columns[0] == column).exists()


def _has_one_of(session: Session, column: InstrumentedAttribute[int | None], ids: list[int]) -> ColumnElement[bool]:
    """Whether a subject has one of these sets: on PostgreSQL one parameter, however many groups are walked."""
    if session.get_bind().dialect.name != "postgresql":
        return column.in_(ids)
    return column == any_(bindparam(None, ids, type_=ARRAY(BigInteger)))


def _by_group(session: Session, wanted: HostFilter, counting: Select[Any], tally: Any) -> dict[int, int]:
    query: Select[Any] = counting.with_only_columns(tally.group_id, func.sum(tally.subjects)).group_by(tally.group_id)
    if wanted.standing is not None:
        query = query.where(tally.standing == wanted.standing.value)
    return {group: int(count) for group, count in session.execute(query)}


def _find(session: Session, wanted: HostFilter, few: int) -> list[Condition]:
    def has_mark(numbers: list[int]) -> ColumnElement[bool]:
        return holds_mark(session, numbers)

    found = []
    span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
    total: Select[Any]
    if wanted.pattern:
        engines = ("", *Engine) if wanted.engine is None else (wanted.engine,)
        outcomes = _outcomes(wanted.outcome or "blocked")
        numbers = [mark(wanted.pattern, outcome, engine) for outcome in outcomes for engine in engines]
        total = select(func.sum(PatternTally.subjects)).where(
            PatternTally.pattern == wanted.pattern,
            PatternTally.outcome.in_(outcomes),
            PatternTally.engine.in_(engines),
        )
        have = _by_group(session, wanted, total, PatternTally)
        found.append(_condition(session, "probes", has_mark(numbers), have))
    elif wanted.outcome or wanted.engine is not None:
        # The most that one pattern has: a lower bound of who has any, and near it where one policy blocks several.
        outcomes = _outcomes(wanted.outcome) if wanted.outcome else tuple(CLOSED_OUTCOMES)
        have = _most_at_a_pattern(session, wanted, outcomes)
        if wanted.engine is None:
            judged = sets_with_outcome(outcomes)
        elif not wanted.outcome:
            judged = sets_closed_by(wanted.engine)
        else:
            names = [one.id for one in catalogue.load().patterns]
            numbers = [mark(name, outcome, wanted.engine) for name in names for outcome in outcomes]
            judged = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS["probes"], has_mark(numbers))
        found.append(Condition(holds=_holds(session, Subject.probes_id, judged), have=have))
    if wanted.workflow:
        judged = sets_with_verdict(wanted.workflow, wanted.verdict)
        have = _by_group(session, wanted, count_workflow(wanted.workflow, wanted.verdict), WorkflowTally)
        found.append(Condition(holds=_holds(session, Subject.probes_id, judged), have=have))
    if wanted.version is not None:
        total = select(func.sum(VersionTally.subjects)).where(VersionTally.version == wanted.version)
        have = _by_group(session, wanted, total, VersionTally)
        sets = has_mark([version_mark(wanted.version)])
        found.append(_condition(session, "uv", sets, have))
    if wanted.older_than is not None:
        older = versions_before(session, wanted.older_than)
        total = select(func.sum(VersionTally.subjects)).where(VersionTally.version.in_(older))
        have = _by_group(session, wanted, total, VersionTally)
        found.append(_condition(session, "uv", has_mark([version_mark(one) for one in older]), have))
    if wanted.install is not None:
        ids = find_install_sets(session, wanted.install, wanted.group_id)
        have = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id.in_(ids)), Tally)
        found.append(Condition(holds=_has_one_of(session, Subject.uv_id, ids), have=have))
    if wanted.policy_id is not None:
        total = select(func.sum(Tally.subjects)).where(Tally.set_id == wanted.policy_id)
        have = _by_group(session, wanted, total, Tally)
        found.append(Condition(holds=Subject.policy_id == wanted.policy_id, have=have))
    if wanted.has_gap:
        counted = select(Absence.group_id, func.sum(Absence.subjects)).where(Absence.what == GAP)
        gaps = {group: int(count) for group, count in session.execute(counted.group_by(Absence.group_id))}
        # Counted once an hour: there may be some by now where there was none.
        every = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)
        gaps = {group: max(gaps.get(group, 0), 1) for group in every}
        # As it stands in the index of those that have any.
        found.append(Condition(holds=has_pulse(Pulse.missed > literal(0, literal_execute=True)), have=gaps))
    if span is not None:
        sizes = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)
        narrow = wanted.standing is not None or wanted.group_id is not None
        in_counts = wanted.standing is None or wanted.standing.in_tallies
        holds, have = seen_then(session, span, sizes, few=few, narrow=narrow, in_counts=in_counts)
        found.append(Condition(holds=holds, have=have))
    return found


def _outcomes(word: str) -> tuple[str, ...]:
    """The outcomes that a word of the filter stands for. raises: InvalidError"""
    outcomes = OUTCOME_GROUPS.get(word, (word,))
    if not RANK.keys() >= set(outcomes):
        raise InvalidError("There is no such outcome.", field="outcome")
    return tuple(outcomes)


def _most_at_a_pattern(session: Session, wanted: HostFilter, outcomes: tuple[str, ...]) -> dict[int, int]:
    """By group, how many have one of the outcomes (from the engine that is asked for) at the pattern where most do."""
    query = select(PatternTally.group_id, PatternTally.pattern, func.sum(PatternTally.subjects)).where(
        PatternTally.outcome.in_(outcomes)
    )
    if wanted.engine is not None:
        query = query.where(PatternTally.engine == wanted.engine)
    if wanted.standing is not None:
        query = query.where(PatternTally.standing == wanted.standing.value)
    most: dict[int, int] = {}
    for group, _pattern, count in session.execute(query.group_by(PatternTally.group_id, PatternTally.pattern)):
        most[group] = max(most.get(group, 0), int(count))
    return most


def _condition(session: Session, kind: str, sets: ColumnElement[bool], have: dict[int, int]) -> Condition:
    column = Subject.probes_id if kind == "probes" else Subject.uv_id
    ids = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS[kind], sets)
    return Condition(holds=_holds(session, column, ids), have=have)


def holds_mark(session: Session, numbers: list[int]) -> ColumnElement[bool]:
    """Whether a set has one of the numbers."""
    if session.get_bind().dialect.name == "postgresql":
        return FactSet.facts.bool_op("&&")(cast(numbers, ARRAY(Integer)))
    each = func.json_each(FactSet.facts).table_valued("value")
    return exists(select(1).select_from(each).where(each.c.value.in_(numbers)))
