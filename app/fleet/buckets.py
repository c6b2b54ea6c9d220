"""Which of 256 buckets a host is in, with all that is told of it: what a cluster of databases shares hosts out by.

One database needs no buckets. The column is there, and in each key, so that Citus can distribute the tables by it, and
a commit of one bucket stays on one node (see docs/scale.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapper, object_session

from app.db.engine import BY_BUCKET

BUCKETS = 256


def bucket_of(host_id: int) -> int:
    """The bucket of a host. Ids count up, so hosts are spread evenly.

    >>> bucket_of(513)
    1
    """
    return host_id % BUCKETS


def parts_of(connection: Connection) -> Sequence[int | None]:
    """The buckets in which rows are locked one after the other; on one database there is one part, None, of all."""
    return range(BUCKETS) if connection.get_execution_options().get(BY_BUCKET) else (None,)


def are_in(bucket: int | None, *tables: Any) -> list[ColumnElement[bool]]:
    """Conditions that keep a statement to one part."""
    return [] if bucket is None else [table.bucket == bucket for table in tables]


def bucket_of_row(context: DefaultExecutionContext) -> int:
    """The bucket of a row that names its host: a column's default."""
    return bucket_of(context.get_current_parameters()["host_id"])  # type: ignore[no-untyped-call]  # SQLAlchemy's context comes without types


def number_host(_mapper: Mapper[Any], connection: Connection, host: Any) -> None:
    """Gives a new host its id before its row is written, since its bucket follows from it."""
    if host.id is None:
        (host.id,) = take_host_ids(connection, 1)
        if connection.dialect.name != "postgresql":
            # Several are numbered before the first of them is written, and SQLite sees only what is.
            session = object_session(host)
            others = (one.id for one in (session.new if session else ()) if type(one) is type(host) and one is not host)
            host.id = max([host.id, *(other + 1 for other in others if other is not None)])
    host.bucket = bucket_of(host.id)


def take_host_ids(connection: Connection, count: int) -> list[int]:
    """Ids for new hosts, which nobody else will get."""
    if connection.dialect.name == "postgresql":
        taken = text("SELECT nextval(pg_get_serial_sequence('host', 'id')) FROM generate_series(1, :count)")
        return list(connection.scalars(taken, {"count": count}))
    # What SQLite itself would do; nobody else writes meanwhile.
    last = connection.scalar(text("SELECT max(id) FROM host")) or 0
    return list(range(last + 1, last + 1 + count))


# On PostgreSQL the migrations put the bucket into each primary key, last: what is found by its id alone still is. The
# classes keep the id as their key, which is unique by itself. SQLite is never distributed, and keeps the plain keys.


def one_of(*columns: str) -> tuple[UniqueConstraint, ...]:
    """That there is one row of these columns; a distributed table can only say so within a bucket."""
    return (
        UniqueConstraint(*columns, info={"dialect": "sqlite"}).ddl_if(dialect="sqlite"),
        UniqueConstraint(*columns, "bucket", info={"dialect": "postgresql"}).ddl_if(dialect="postgresql"),
    )


def key_in_bucket(*columns: str) -> UniqueConstraint:
    """What stands for the primary key of the migrations where tables are made without them, for tests."""
    return UniqueConstraint(*columns, "bucket", info={"dialect": None}).ddl_if(dialect="postgresql")


def refer_in_bucket(column: str, table: str) -> tuple[ForeignKeyConstraint, ...]:
    """That a row goes with a host or user of its own bucket."""
    plain = ForeignKeyConstraint([column], [f"{table}.id"], ondelete="CASCADE", info={"dialect": "sqlite"})
    both = ForeignKeyConstraint(
        [column, "bucket"], [f"{table}.id", f"{table}.bucket"], ondelete="CASCADE", info={"dialect": "postgresql"}
    )
    return plain.ddl_if(dialect="sqlite"), both.ddl_if(dialect="postgresql")
