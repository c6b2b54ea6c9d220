"""Adds to the counts of a tally, many rows in one statement; counts that reach nothing leave the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, SmallInteger, Table, delete
from sqlalchemy.dialects import sqlite

from app.db.arrays import Int4s, Int8s, Texts
from app.db.base import from_ms

_PREPARED = {"prepare": True, "binary": True}


def add_counts(connection: Connection, table: Table, keys: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Adds `rows` to `subjects`: values in the order of keys, then by how much, then `since_at` in milliseconds for
    counts that begin now, if the table has it. No two rows have the same key.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _add_on_postgresql(connection, table, keys, rows)
    else:
        _add_on_sqlite(connection, table, keys, rows)


def _add_on_postgresql(
    connection: Connection, table: Table, keys: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    cursor: Any = connection.connection.cursor()
    names = [*keys, "subjects", "since_at"][: len(rows[0])]
    cursor.execute(
        f"INSERT INTO {table.name} AS t ({', '.join(names)})"  # noqa: S608 - names of our own tables
        f" SELECT * FROM unnest({', '.join(['%b'] * len(names))})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET subjects = t.subjects + excluded.subjects",
        _arrays(table, names, rows),
        **_PREPARED,
    )
    fallen = [row for row in rows if row[len(keys)] < 0]
    if fallen:
        # By key: the tally of a fleet that shares little has as many rows as hosts.
        same = " AND ".join(f"t.{name} = n.{name}" for name in keys)
        cursor.execute(
            f"DELETE FROM {table.name} AS t USING unnest({', '.join(['%b'] * len(keys))}) AS n({', '.join(keys)})"  # noqa: S608 - names of our own tables
            f" WHERE {same} AND t.subjects = 0",
            _arrays(table, keys, fallen),
            **_PREPARED,
        )


def _arrays(table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The first columns of the rows, one array each."""
    return tuple(_array_of(table, name)(row[at] for row in rows) for at, name in enumerate(names))


def _array_of(table: Table, name: str) -> type[Int4s] | type[Int8s] | type[Texts]:
    kind = table.c[name].type
    if isinstance(kind, BigInteger) or name == "since_at":
        return Int8s
    return Int4s if isinstance(kind, (Integer, SmallInteger)) else Texts


def _add_on_sqlite(connection: Connection, table: Table, keys: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    statement: Any = sqlite.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=list(keys), set_={"subjects": table.c.subjects + statement.excluded.subjects}
    )
    names = [*keys, "subjects", "since_at"][: len(rows[0])]
    values = [dict(zip(names, row, strict=True)) for row in rows]
    connection.execute(
        statement, [{**one, "since_at": from_ms(one["since_at"])} if "since_at" in one else one for one in values]
    )
    if any(one["subjects"] < 0 for one in values):
        connection.execute(delete(table).where(table.c.subjects == 0))
