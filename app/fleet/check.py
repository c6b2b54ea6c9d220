"""Recounting: the tallies plus the pending deltas must be what the subjects say. Finds drift, and repairs it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, Table, func, insert, select, text

from app.fleet.fold import ContributionCache, TallyKey, rebuild_derived
from app.fleet.judged import Judged
from app.fleet.standing import Standing
from app.fleet.tables import (
    NO_SET,
    JudgedSet,
    ObstacleTally,
    PatternTally,
    Subject,
    Tally,
    TallyDelta,
    VersionTally,
    WorkflowTally,
)

_OUT_OF_TALLIES = [standing.value for standing in Standing if not standing.in_tallies]
_DERIVED = (PatternTally, WorkflowTally, ObstacleTally, VersionTally)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One count that is wrong: what it is now, and what the subjects say."""

    what: str
    counted: int
    actual: int


def check_tallies(connection: Connection, *, repair: bool = False) -> list[Drift]:
    """Every count that is wrong, in one snapshot; with `repair` they are right after the next fold. Commits."""
    on_postgresql = connection.dialect.name == "postgresql"
    if on_postgresql:
        connection.execution_options(isolation_level="REPEATABLE READ")
    with connection.begin() as transaction:
        if on_postgresql:
            # Holds the folder back. It must come first: the snapshot is taken by the statement after it.
            connection.execute(text("LOCK TABLE tally IN SHARE ROW EXCLUSIVE MODE"))
        actual = _recount(connection)
        counted = _counted(connection)
        wrong = [key for key in sorted(actual.keys() | counted.keys()) if counted.get(key, 0) != actual.get(key, 0)]
        drifts = [
            Drift(
                what=f"tally group {key[0]} standing {key[1]} set {key[2]}",
                counted=counted.get(key, 0),
                actual=actual.get(key, 0),
            )
            for key in wrong
        ]
        if wrong:
            # As deltas: reports that arrive meanwhile append theirs, and the folder adds all of them.
            connection.execute(
                insert(TallyDelta),
                [
                    {
                        "group_id": key[0],
                        "standing": key[1],
                        "set_id": key[2],
                        "delta": actual.get(key, 0) - counted.get(key, 0),
                    }
                    for key in wrong
                ],
            )
        before, before_judged = _derived(connection), _judged(connection)
        rebuild_derived(connection, ContributionCache())
        after = _derived(connection)
        drifts += [
            Drift(what=" ".join(map(str, key)), counted=before.get(key, 0), actual=after.get(key, 0))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, 0) != after.get(key, 0)
        ]
        drifts += _judged_wrongly(before_judged, _judged(connection))
        if not repair:
            transaction.rollback()
    return drifts


def _recount(connection: Connection) -> dict[TallyKey, int]:
    counts: defaultdict[TallyKey, int] = defaultdict(int)
    inside = Subject.standing.not_in(_OUT_OF_TALLIES)
    by_group = (Subject.group_id, Subject.standing)
    for group_id, standing, subjects in connection.execute(
        select(*by_group, func.count()).where(inside).group_by(*by_group)
    ):
        counts[group_id, standing, NO_SET] = subjects
    for column in (Subject.probes_id, Subject.uv_id, Subject.environment_id, Subject.policy_id, Subject.token_id):
        rows = connection.execute(
            select(*by_group, column, func.count()).where(inside, column.is_not(None)).group_by(*by_group, column)
        )
        for group_id, standing, set_id, subjects in rows:
            counts[group_id, standing, set_id or NO_SET] += subjects
    return counts


def _counted(connection: Connection) -> dict[TallyKey, int]:
    counts: defaultdict[TallyKey, int] = defaultdict(int)
    for row in connection.execute(select(Tally.__table__)):
        counts[row.group_id, row.standing, row.set_id] += row.subjects
    keys = (TallyDelta.group_id, TallyDelta.standing, TallyDelta.set_id)
    for group_id, standing, set_id, by in connection.execute(select(*keys, func.sum(TallyDelta.delta)).group_by(*keys)):
        counts[group_id, standing, set_id] += int(by)
    return counts


def _judged(connection: Connection) -> dict[int, tuple[int, ...]]:
    rows = connection.execute(select(JudgedSet.set_id, *(getattr(JudgedSet, name) for name in Judged._fields)))
    return {row[0]: tuple(row[1:]) for row in rows}


def _judged_wrongly(before: dict[int, tuple[int, ...]], after: dict[int, tuple[int, ...]]) -> list[Drift]:
    """Sets in the counts of which nothing was noted, or something else; what is left of others does no harm."""
    nothing = (0,) * len(Judged._fields)
    return [
        Drift(
            what=f"{JudgedSet.__tablename__} set {set_id} {name}",
            counted=before.get(set_id, nothing)[at],
            actual=now[at],
        )
        for set_id, now in sorted(after.items())
        for at, name in enumerate(Judged._fields)
        if set_id not in before or before[set_id][at] != now[at]
    ]


def _derived(connection: Connection) -> dict[tuple[object, ...], int]:
    counts: dict[tuple[object, ...], int] = {}
    for mapped in _DERIVED:
        table = mapped.__table__
        assert isinstance(table, Table)  # noqa: S101 - for the type checker
        names = [column.name for column in table.primary_key.columns]
        for row in connection.execute(select(table)):
            values = row._mapping
            counts[(table.name, *(values[name] for name in names))] = values["subjects"]
    return counts
