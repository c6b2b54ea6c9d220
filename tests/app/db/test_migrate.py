"""Migrations make exactly the declared tables, on both databases, and can be run again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from app.all_tables import metadata
from app.db.engine import WRITES
from app.db.migrate import is_current, schema_drift, upgrade
from app.db.partitions import drop_old_partitions, make_month_partitions


def test_the_migrations_make_the_declared_tables(database: Engine) -> None:
    with database.connect().execution_options(**{WRITES: False}) as connection:
        assert schema_drift(connection, metadata()) == []
    assert is_current(database)


def test_a_forgotten_migration_is_noticed(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE host ADD COLUMN forgotten INTEGER"))
    with database.connect().execution_options(**{WRITES: False}) as connection:
        assert "forgotten" in str(schema_drift(connection, metadata()))


def test_upgrading_twice_does_nothing(database: Engine) -> None:
    upgrade(database)
    assert is_current(database)


def test_sqlite_survives_power_loss_and_checks_keys(database: Engine) -> None:
    if database.name != "sqlite":
        return
    with database.connect() as connection:
        pragma = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in PRAGMAS}
    assert pragma == PRAGMAS


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@pytest.mark.postgresql
def test_months_are_made_ahead_and_dropped_whole(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with database.begin() as connection:
        made = make_month_partitions(connection, datetime(2031, 12, 15, tzinfo=UTC))
    assert made == [f"{table}_y{month}" for table in ("transition", "sighting") for month in MONTHS]
    with database.begin() as connection:
        assert make_month_partitions(connection, datetime(2031, 12, 15, tzinfo=UTC)) == []
        dropped = drop_old_partitions(connection, datetime(2032, 1, 1, tzinfo=UTC))
    assert "sighting_y2031m12" in dropped
    assert "sighting_y2032m01" not in dropped


MONTHS = ("2031m11", "2031m12", "2032m01", "2032m02")
