"""What is kept how long: transitions and sightings for months, unreferenced sets a day, daily counts for ever."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection, Delete, Update, delete, exists, insert, literal, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import InstrumentedAttribute

from app.db.base import to_ms
from app.db.partitions import drop_old_partitions, make_month_partitions
from app.db.slices import ROWS, is_among, slice_of, walk
from app.fleet.buckets import parts_of
from app.fleet.standing import Standing
from app.fleet.tables import (
    KIND_NUMBERS,
    NO_SET,
    Daily,
    FactSet,
    JudgedSet,
    PatternTally,
    Subject,
    Tally,
    VersionTally,
    WorkflowTally,
)

DAY_MS = 86_400_000
BATCH = 5000
RETIRED_FOR = timedelta(days=1)
LAST_ROW = 2**63 - 1
"""The highest number that SQLite gives to a row."""
SETS_AT_ONCE = 50_000
"""So many sets at most are looked for while the subjects are gone over once."""
LOOKED_UP = 500
"""Sets whose subjects are looked for by index: of more the planner would rather read all subjects."""
LOCK_TRIES = 20
LOCK_TIMEOUT_MS = 50
"""Reports queue behind whoever waits for the lock on a month: it is waited for briefly, and often."""


def drop_old(connection: Connection, at: datetime, *, days: int) -> int:
    """Deletes transitions and sightings older than `days`: whole months on PostgreSQL, bounded batches of the rest.

    Commits; how many rows were deleted one by one.
    """
    before = at - timedelta(days=days)
    if connection.dialect.name == "postgresql":
        _turn_months(connection, at, before)
    return _delete_old(connection, "transition", before) + _delete_old(connection, "sighting", before)


def _turn_months(connection: Connection, at: datetime, before: datetime) -> None:
    """Makes the months to come and drops those past. raises: OperationalError when a lock can't be had."""
    for left in reversed(range(LOCK_TRIES)):
        try:
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'"))
                make_month_partitions(connection, at)
                drop_old_partitions(connection, before)
        except OperationalError:
            if not left:
                raise
            time.sleep(4 * LOCK_TIMEOUT_MS / 1000)
        else:
            return


def _delete_old(connection: Connection, table: str, before: datetime) -> int:
    """On PostgreSQL only the default partition can still hold old rows."""
    if parts_of(connection) != (None,):
        # A row has no place of its own in a distributed table; what no month covers is little.
        whole = text(f"DELETE FROM {table} WHERE at < :before")  # noqa: S608 - our own tables
        with slice_of(connection):
            return connection.execute(whole, {"before": to_ms(before)}).rowcount
    if connection.dialect.name == "sqlite":
        return _delete_old_by_row(connection, table, before)
    statement = text(
        # Names of our own tables and columns; the time is a parameter.
        f"DELETE FROM {table}_default WHERE ctid IN"  # noqa: S608 - names of our own tables
        f" (SELECT ctid FROM {table}_default WHERE at < :before LIMIT {BATCH})"
    )
    deleted = 0
    while True:
        with slice_of(connection):
            count = connection.execute(statement, {"before": to_ms(before)}).rowcount
        deleted += count
        if count < BATCH:
            return deleted


def _delete_old_by_row(connection: Connection, table: str, before: datetime) -> int:
    """The same on SQLite, where reports wait for whoever writes: no index has the time first, so old rows are looked
    for as a reader, and only what was found is deleted, so many at once.
    """
    # Names of our own tables; numbers and the time are parameters.
    ending = text(f"SELECT rowid FROM {table} WHERE rowid > :after ORDER BY rowid LIMIT 1 OFFSET {ROWS - 1}")  # noqa: S608 - names of our own tables
    finding = text(f"SELECT rowid FROM {table} WHERE rowid > :after AND rowid <= :until AND at < :before")  # noqa: S608 - names of our own tables
    # A number may have been given anew since it was read: the time is looked at again.
    deleting = text(
        f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(:rows)) AND at < :before"  # noqa: S608 - names of our own tables
    )
    after: int | None = -1
    deleted = 0
    while after is not None:
        with slice_of(connection, writes=False):
            until = connection.scalar(ending, {"after": after})
            values = {"after": after, "until": LAST_ROW if until is None else until, "before": to_ms(before)}
            old = set(connection.scalars(finding, values))
        for some in _batches_of(old, BATCH):
            with slice_of(connection):
                deleted += connection.execute(deleting, {"rows": json.dumps(some), "before": to_ms(before)}).rowcount
        after = until
    return deleted


def retire_sets(connection: Connection, at: datetime) -> tuple[int, int]:
    """Retires sets that no subject points to, and deletes those retired for a day; how many of each. Commits.

    A set that is pointed to again is brought back by whoever looks it up (`SetCache`). The tallies say which sets to
    look into; whether a subject points to one is read from the subjects, as those that left the counts keep theirs.
    """
    retired = deleted = 0
    unused = _unused(connection, at)
    for kind, column in _POINTERS.items():
        for some in _batches(iter(unused[kind])):
            idle = some - _pointed_to(connection, column, some)
            retired += _change(
                connection, idle, update(FactSet).where(FactSet.retired_at.is_(None)).values(retired_at=at)
            )
        for some in _batches(_retired(connection, kind)):
            pointed_to = _pointed_to(connection, column, some)
            _change(connection, pointed_to, update(FactSet).values(retired_at=None))
            # Who looked one up meanwhile has brought it back.
            deleted += _change(
                connection, some - pointed_to, delete(FactSet).where(FactSet.retired_at < at - RETIRED_FOR)
            )
            if kind == KIND_NUMBERS["probes"]:
                _forget_judged(connection, some - pointed_to)
    return retired, deleted


def _forget_judged(connection: Connection, ids: set[int]) -> None:
    """Deletes what was noted of sets that are gone."""
    gone = ~exists().where(FactSet.id == JudgedSet.set_id)
    with slice_of(connection):
        connection.execute(delete(JudgedSet).where(is_among(connection, JudgedSet.set_id, ids), gone))


_POINTERS = {
    KIND_NUMBERS["probes"]: Subject.probes_id,
    KIND_NUMBERS["uv"]: Subject.uv_id,
    KIND_NUMBERS["environment"]: Subject.environment_id,
    KIND_NUMBERS["policy"]: Subject.policy_id,
    KIND_NUMBERS["token"]: Subject.token_id,
}
_INDEXED = (Subject.probes_id, Subject.uv_id, Subject.policy_id)


def _unused(connection: Connection, at: datetime) -> Mapping[int, list[int]]:
    """By kind, sets of a day and older that are in no count and not retired yet."""
    unused: defaultdict[int, list[int]] = defaultdict(list)
    for after, until in walk(connection, FactSet.id):
        # Both sides within the range: else a plan may read all counts for each range.
        counted = exists().where(Tally.set_id == FactSet.id, Tally.set_id > after, Tally.set_id <= until)
        with slice_of(connection):
            for kind, set_id in connection.execute(
                select(FactSet.kind, FactSet.id).where(
                    FactSet.id > after,
                    FactSet.id <= until,
                    FactSet.retired_at.is_(None),
                    FactSet.created_at < at - RETIRED_FOR,
                    ~counted,
                )
            ):
                unused[kind].append(set_id)
    return unused


def _retired(connection: Connection, kind: int) -> Iterator[int]:
    with connection.begin():
        found = connection.scalars(
            select(FactSet.id).where(FactSet.kind == kind, FactSet.retired_at.is_not(None))
        ).all()
    yield from found


def _batches(ids: Iterator[int]) -> Iterator[set[int]]:
    while some := set(islice(ids, SETS_AT_ONCE)):
        yield some


def _pointed_to(connection: Connection, column: InstrumentedAttribute[int | None], ids: set[int]) -> set[int]:
    """Those of the sets that a subject points to."""
    found: set[int] = set()
    if column in _INDEXED:
        for some in _batches_of(ids, LOOKED_UP):
            pointing = select(FactSet.id).where(is_among(connection, FactSet.id, some))
            with slice_of(connection):
                found.update(connection.scalars(pointing.where(exists().where(column == FactSet.id))))
        return found
    for after, until in walk(connection, Subject.id):
        with slice_of(connection):
            pointed_to = connection.scalars(
                select(column).where(Subject.id > after, Subject.id <= until, is_among(connection, column, ids))
            )
            found.update(one for one in pointed_to if one is not None)
    return found


def _change(connection: Connection, ids: set[int], statement: Update | Delete) -> int:
    """Changes or deletes some sets, those of them to which the statement's own condition applies; how many."""
    changed = 0
    for some in _batches_of(ids, BATCH):
        with slice_of(connection):
            changed += connection.execute(
                statement.where(is_among(connection, FactSet.id, some)).execution_options(synchronize_session=False)
            ).rowcount
    return changed


def _batches_of(ids: set[int], size: int) -> Iterator[list[int]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def write_daily(connection: Connection, at: datetime) -> None:
    """Writes today's counts anew: what stands there at the end of the day stays. Commits."""
    day = to_ms(at) // DAY_MS
    counted = Standing.COUNTED.value
    with connection.begin():
        connection.execute(delete(Daily).where(Daily.day == day))
        for what, table, name, value in (
            ("pattern", PatternTally, PatternTally.pattern, PatternTally.outcome + " " + PatternTally.engine),
            ("workflow", WorkflowTally, WorkflowTally.workflow, WorkflowTally.verdict),
            ("version", VersionTally, VersionTally.version, literal("")),
        ):
            connection.execute(
                insert(Daily).from_select(
                    ["day", "group_id", "what", "name", "value", "subjects"],
                    select(literal(day), table.group_id, literal(what), name, value, table.subjects).where(
                        table.standing == counted
                    ),
                )
            )
        connection.execute(
            insert(Daily).from_select(
                ["day", "group_id", "what", "name", "value", "subjects"],
                select(
                    literal(day), Tally.group_id, literal("subjects"), literal(""), literal(""), Tally.subjects
                ).where(Tally.standing == counted, Tally.set_id == NO_SET),
            )
        )
