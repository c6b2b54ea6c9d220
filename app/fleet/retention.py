"""What is kept how long: transitions and sightings for months, unreferenced sets a day, daily counts for ever."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, exists, insert, literal, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from app.db.base import to_ms
from app.db.partitions import drop_old_partitions, make_month_partitions
from app.fleet.standing import Standing
from app.fleet.tables import (
    KIND_NUMBERS,
    NO_SET,
    Daily,
    FactSet,
    PatternTally,
    Subject,
    Tally,
    VersionTally,
    WorkflowTally,
)

DAY_MS = 86_400_000
BATCH = 5000
RETIRED_FOR = timedelta(days=1)


def drop_old(connection: Connection, at: datetime, *, days: int) -> int:
    """Deletes transitions and sightings older than `days`: whole months on PostgreSQL, bounded batches of the rest.

    Commits; how many rows were deleted one by one.
    """
    before = at - timedelta(days=days)
    if connection.dialect.name == "postgresql":
        with connection.begin():
            # Dropping a partition needs a lock on its table; reports must not queue behind our waiting for it.
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
            make_month_partitions(connection, at)
            drop_old_partitions(connection, before)
    return _delete_old(connection, "transition", before) + _delete_old(connection, "sighting", before)


def _delete_old(connection: Connection, table: str, before: datetime) -> int:
    on_postgresql = connection.dialect.name == "postgresql"
    row = "ctid" if on_postgresql else "rowid"
    # On PostgreSQL only the default partition can still hold old rows.
    source = f"{table}_default" if on_postgresql else table
    statement = text(
        # Names of our own tables and columns; the time is a parameter.
        f"DELETE FROM {source} WHERE {row} IN (SELECT {row} FROM {source} WHERE at < :before LIMIT {BATCH})"  # noqa: S608
    )
    deleted = 0
    while True:
        with connection.begin():
            count = connection.execute(statement, {"before": to_ms(before)}).rowcount
        deleted += count
        if count < BATCH:
            return deleted


def retire_sets(connection: Connection, at: datetime) -> tuple[int, int]:
    """Retires sets that no subject points to, and deletes those retired for a day; how many of each. Commits.

    A set that is pointed to again is brought back by whoever looks it up (`SetCache`).
    """
    retired = deleted = 0
    for kind, column in _POINTERS.items():
        is_pointed_to = _is_pointed_to(connection, column)
        with connection.begin():
            retired += connection.execute(
                update(FactSet)
                .where(
                    FactSet.kind == kind,
                    FactSet.retired_at.is_(None),
                    FactSet.created_at < at - RETIRED_FOR,
                    ~is_pointed_to,
                )
                .values(retired_at=at)
                .execution_options(synchronize_session=False)
            ).rowcount
        with connection.begin():
            connection.execute(
                update(FactSet)
                .where(FactSet.kind == kind, FactSet.retired_at.is_not(None), is_pointed_to)
                .values(retired_at=None)
                .execution_options(synchronize_session=False)
            )
            deleted += connection.execute(
                delete(FactSet)
                .where(FactSet.kind == kind, FactSet.retired_at < at - RETIRED_FOR, ~is_pointed_to)
                .execution_options(synchronize_session=False)
            ).rowcount
    return retired, deleted


_POINTERS = {
    KIND_NUMBERS["probes"]: Subject.probes_id,
    KIND_NUMBERS["uv"]: Subject.uv_id,
    KIND_NUMBERS["environment"]: Subject.environment_id,
    KIND_NUMBERS["policy"]: Subject.policy_id,
    KIND_NUMBERS["token"]: Subject.token_id,
}


def _is_pointed_to(connection: Connection, column: InstrumentedAttribute[int | None]) -> ColumnElement[bool]:
    """Whether a subject points to the set. Each database has a form that it does not answer set by set."""
    if connection.dialect.name == "postgresql":
        return exists().where(column == FactSet.id)
    return FactSet.id.in_(select(column).where(column.is_not(None)))


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
