"""The folder: takes the deltas that report writers appended and adds them to the tallies. One at a time, anywhere.

On PostgreSQL an advisory lock says who folds; on SQLite the writing transaction does.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, case, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from agent import catalogue
from app.db.base import Base, now, to_ms
from app.db.tables import Setting
from app.fleet.add_counts import add_counts
from app.fleet.derive import DERIVATION, Contribution, contribution
from app.fleet.judged import note_judged
from app.fleet.tables import (
    KIND_NUMBERS,
    NO_SET,
    FactSet,
    ObstacleTally,
    PatternTally,
    Tally,
    TallyDelta,
    VersionTally,
    WorkflowTally,
)

FOLD_LOCK = 0x77617966
"""The advisory lock of whoever writes tallies."""
MAX_DELTAS = 100_000
MANY_DELTAS = 10_000
DERIVED_FROM = "derived_from_catalogue"
"""The setting that says by which catalogue and rules the derived tallies were made."""

TallyKey = tuple[int, int, int]
Sums = Mapping[TallyKey, int]
_ByPlace = defaultdict[tuple[int, int], defaultdict[tuple[str, ...], int]]
"""Group and standing -> row of a derived tally -> by how much it changes."""


class ContributionCache:
    """What recently folded sets add. Belongs to one thread. Of what is not in it a row of `JudgedSet` is written."""

    def __init__(self, size: int = 4000) -> None:
        self._size = size
        self._etag = ""
        self._known: OrderedDict[int, Contribution] = OrderedDict()

    def forget(self) -> None:
        self._known.clear()

    def find(self, connection: Connection, set_ids: Iterable[int]) -> dict[int, Contribution]:
        """What each set adds; sets that are gone add nothing."""
        etag = catalogue.load().etag
        if etag != self._etag:
            self._known.clear()
            self._etag = etag
        wanted = set(set_ids)
        found = {}
        for set_id in wanted & self._known.keys():
            self._known.move_to_end(set_id)
            found[set_id] = self._known[set_id]
        for chunk in _chunks(sorted(wanted - found.keys()), 500):
            # Bodies are long, and only those of uv sets say something that the marks don't.
            body = case((FactSet.kind == KIND_NUMBERS["uv"], FactSet.body))
            rows = connection.execute(
                select(FactSet.id, FactSet.kind, FactSet.facts, body).where(FactSet.id.in_(chunk))
            )
            for set_id, kind, marks, text_of_uv in rows:
                found[set_id] = self._known[set_id] = contribution(kind, marks, text_of_uv)
            note_judged(connection, {set_id: found[set_id].judged for set_id in chunk if set_id in found})
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many changes wait to be folded; of many only that there are more than so many."""

    changes: int
    is_many: bool


def count_waiting(session: Session) -> Waiting:
    """The deltas that no folder has taken yet."""
    some = select(TallyDelta.id).limit(MANY_DELTAS + 1).subquery()
    found = session.scalar(select(func.count()).select_from(some)) or 0
    return Waiting(changes=min(found, MANY_DELTAS), is_many=found > MANY_DELTAS)


def find_oldest_delta(connection: Connection) -> int | None:
    """The number of the delta that waits longest."""
    with connection.begin():
        return connection.execute(select(func.min(TallyDelta.id))).scalar()


def fold(connection: Connection, cache: ContributionCache) -> int:
    """Folds pending deltas and commits; how many there were. 0 also when somebody else is folding, or has to.

    Where a server of another release made the derived tallies by its catalogue, adding to them by ours would leave
    counts that neither means.
    """
    with connection.begin():
        if not take_fold_lock(connection, wait=False) or _derived_from(connection) not in (None, _own_derivation()):
            return 0
        count, sums = _take_deltas(connection)
        if sums:
            add_to_tallies(connection, sums)
            add_to_derived(connection, sums, cache)
    return count


def take_fold_lock(connection: Connection, *, wait: bool) -> bool:
    """Holds the folder's lock until the transaction ends; False when somebody else does and we don't wait."""
    if connection.dialect.name != "postgresql":
        return True
    if wait:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FOLD_LOCK})
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": FOLD_LOCK}).scalar())


def _take_deltas(connection: Connection) -> tuple[int, dict[TallyKey, int]]:
    if connection.dialect.name == "postgresql":
        # Deleted and read in one statement: ids below the highest may still be uncommitted elsewhere.
        rows = connection.execute(
            text(
                "WITH gone AS (DELETE FROM tally_delta WHERE id IN (SELECT id FROM tally_delta ORDER BY id LIMIT :most)"
                " RETURNING group_id, standing, set_id, delta)"
                " SELECT group_id, standing, set_id, sum(delta), count(*) FROM gone GROUP BY 1, 2, 3"
            ),
            {"most": MAX_DELTAS},
        ).all()
    else:
        last = connection.execute(select(func.max(TallyDelta.id))).scalar()
        if last is None:
            return 0, {}
        rows = connection.execute(
            select(
                TallyDelta.group_id, TallyDelta.standing, TallyDelta.set_id, func.sum(TallyDelta.delta), func.count()
            ).group_by(TallyDelta.group_id, TallyDelta.standing, TallyDelta.set_id)
        ).all()
        connection.execute(delete(TallyDelta).where(TallyDelta.id <= last))
    return sum(row[4] for row in rows), {(row[0], row[1], row[2]): int(row[3]) for row in rows if row[3]}


def add_to_tallies(connection: Connection, sums: Sums) -> None:
    """Adds to `tally`; counts that reach nothing leave it."""
    keys = ("group_id", "standing", "set_id")
    add_counts(connection, _table(Tally), keys, [(*key, by) for key, by in sorted(sums.items())])


def add_to_derived(connection: Connection, sums: Sums, cache: ContributionCache) -> None:
    """Adds what the sets mean to the tallies of patterns, workflows and versions."""
    patterns: _ByPlace = defaultdict(lambda: defaultdict(int))
    workflows: _ByPlace = defaultdict(lambda: defaultdict(int))
    obstacles: _ByPlace = defaultdict(lambda: defaultdict(int))
    versions: _ByPlace = defaultdict(lambda: defaultdict(int))
    counted = {key: by for key, by in sums.items() if key[2] != NO_SET}
    for chunk in _chunks(sorted(counted), 2000):
        found = cache.find(connection, (key[2] for key in chunk))
        for key in chunk:
            adds = found.get(key[2])
            if adds is None:
                continue
            where, by = key[:2], counted[key]
            for counts, rows in (
                (patterns, adds.patterns),
                (workflows, adds.workflows),
                (obstacles, adds.obstacles),
                (versions, adds.versions),
            ):
                here = counts[where]
                for row in rows:
                    here[row] += by
    since = to_ms(now())
    _add_derived(connection, PatternTally, ("pattern", "outcome", "engine"), patterns, since)
    _add_derived(connection, WorkflowTally, ("workflow", "verdict"), workflows, None)
    _add_derived(connection, ObstacleTally, ("workflow", "word"), obstacles, None)
    _add_derived(connection, VersionTally, ("version",), versions, None)


def rebuild_derived(connection: Connection, cache: ContributionCache) -> None:
    """Makes the derived tallies anew from `tally`. The caller holds the folder's lock."""
    cache.forget()
    began = {
        (row.group_id, row.standing, row.pattern, row.outcome, row.engine): row.since_at
        for row in connection.execute(select(PatternTally.__table__))
    }
    for table in (PatternTally, WorkflowTally, ObstacleTally, VersionTally):
        connection.execute(delete(table))
    sums = {
        (row.group_id, row.standing, row.set_id): row.subjects
        for row in connection.execute(
            # The other kinds add nothing, and may be as many as there are users.
            select(Tally.__table__)
            .join(FactSet, FactSet.id == Tally.set_id)
            .where(FactSet.kind.in_((KIND_NUMBERS["probes"], KIND_NUMBERS["uv"])))
        )
    }
    add_to_derived(connection, sums, cache)
    columns = PatternTally.__table__.c
    names = ("group_id", "standing", "pattern", "outcome", "engine")
    if began:
        connection.execute(
            update(PatternTally.__table__)  # type: ignore[arg-type]  # a mapped class's __table__ is a Table
            .where(*(columns[name] == bindparam(f"old_{name}") for name in names))
            .values(since_at=bindparam("old_since")),
            [
                {**{f"old_{name}": value for name, value in zip(names, key, strict=True)}, "old_since": at}
                for key, at in began.items()
            ],
        )


def rebuild_if_catalogue_changed(connection: Connection, cache: ContributionCache) -> bool:
    """Rebuilds the derived tallies when they were made by another catalogue or other rules than ours; commits."""
    own = _own_derivation()
    with connection.begin():
        take_fold_lock(connection, wait=True)
        if _derived_from(connection) == own:
            return False
        if connection.dialect.name == "postgresql":
            # As folding does by writing tallies: `check_tallies` counts in a snapshot and then writes the derived ones.
            connection.execute(text("LOCK TABLE tally IN ROW EXCLUSIVE MODE"))
        rebuild_derived(connection, cache)
        connection.execute(delete(Setting).where(Setting.name == DERIVED_FROM))
        connection.execute(insert(Setting).values(name=DERIVED_FROM, value=own, updated_at=now()))
    return True


def _own_derivation() -> str:
    """By which catalogue and which rules this process derives counts."""
    return f"{catalogue.load().etag} rules {DERIVATION}"


def _derived_from(connection: Connection) -> str | None:
    return connection.execute(select(Setting.value).where(Setting.name == DERIVED_FROM)).scalar()


def _add_derived(
    connection: Connection, mapped: type[Base], names: Sequence[str], counts: _ByPlace, since: int | None
) -> None:
    began = () if since is None else (since,)
    rows = [
        (*place, *values, by, *began)
        for place, here in sorted(counts.items())
        for values, by in sorted(here.items())
        if by
    ]
    add_counts(connection, _table(mapped), ("group_id", "standing", *names), rows)


def _table(mapped: type[Base]) -> Table:
    assert isinstance(mapped.__table__, Table)  # noqa: S101 - for the type checker
    return mapped.__table__


def _chunks(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
