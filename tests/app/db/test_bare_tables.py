"""Indexes and keys that are taken away for a bulk load are there again afterwards, also when it failed."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, text

from app.db.bare_tables import bare_tables
from app.fleet.make_bulk import make_fleet_in_bulk


def describe(connection: Connection) -> list[tuple[str, ...]]:
    """Every index and constraint there is."""
    rows = connection.execute(
        text(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL"
            " SELECT conname, conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
        )
    )
    return [tuple(row) for row in rows]


@pytest.mark.postgresql
def test_the_indexes_come_back(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with database.connect() as connection:
        before = describe(connection)
    with database.begin() as connection:
        with bare_tables(connection, ["host", "subject", "pulse"]):
            without = describe(connection)
        assert describe(connection) == before
    assert len(without) < len(before) - 8
    make_fleet_in_bulk(database, 60)
    with database.connect() as connection:
        assert describe(connection) == before


@pytest.mark.postgresql
def test_a_failed_load_changes_nothing(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with database.connect() as connection:
        before = describe(connection)
    with (
        pytest.raises(RuntimeError, match="power"),
        database.begin() as connection,
        bare_tables(connection, ["host", "subject", "pulse"]),
    ):
        raise RuntimeError("no power")
    with database.connect() as connection:
        assert describe(connection) == before
