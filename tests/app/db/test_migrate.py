"""Migrations make exactly the declared tables, on both databases, and can be run again."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, text

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


def change_constraint(connection: Connection, table: str, name: str, new: str) -> None:
    """Puts another constraint in the place of one, or none; SQLite can only make the table anew."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}" + (f", ADD {new}" if new else "")))
        return
    made = connection.scalars(
        text("SELECT sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL ORDER BY type DESC"),
        {"table": table},
    ).all()
    changed, count = re.subn(rf",\s*CONSTRAINT {name} .*?(?=,?\s*\n)", f", {new}" if new else "", made[0])
    assert count == 1, made[0]
    connection.execute(text(f"DROP TABLE {table}"))
    for statement in (changed, *made[1:]):
        connection.exec_driver_sql(statement)


STATES = ["approved", "draft", "exported", "in_review", "retired"]
KEY = ["group_id", "standing", "set_id"]


@pytest.mark.parametrize(
    ("table", "name", "new", "expected"),
    [
        ("tally", "pk_tally", "", ("primary_key", "tally", {"declared": KEY, "found": []})),
        (
            "tally",
            "pk_tally",
            "CONSTRAINT pk_tally PRIMARY KEY (group_id, set_id, standing)",
            ("primary_key", "tally", {"declared": KEY, "found": ["group_id", "set_id", "standing"]}),
        ),
        (
            "rule_set",
            "ck_rule_set_state",
            "",
            ("check", "rule_set", "ck_rule_set_state", {"declared": STATES, "found": None}),
        ),
        (
            "rule_set",
            "ck_rule_set_state",
            "CONSTRAINT ck_rule_set_state CHECK (state IN ('draft', 'in_review'))",
            ("check", "rule_set", "ck_rule_set_state", {"declared": STATES, "found": ["draft", "in_review"]}),
        ),
    ],
)
def test_another_key_or_check_is_noticed(
    database: Engine, table: str, name: str, new: str, expected: tuple[object, ...]
) -> None:
    with database.connect() as connection:
        change_constraint(connection, table, name, new)
        assert schema_drift(connection, metadata()) == [expected]


@pytest.mark.postgresql
def test_a_key_that_lost_its_bucket_is_noticed(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with database.connect() as connection:
        change_constraint(connection, "host_tag", "pk_host_tag", "CONSTRAINT pk_host_tag PRIMARY KEY (tag, host_id)")
        found = {"declared": ["tag", "host_id", "bucket"], "found": ["tag", "host_id"]}
        assert schema_drift(connection, metadata()) == [("primary_key", "host_tag", found)]


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
