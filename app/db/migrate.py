"""Bringing the database up to date, by the same code from a checkout and from the installed package."""

from __future__ import annotations

import re
import sqlite3
from enum import Enum
from functools import cache

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, Engine, Index, Inspector, MetaData, Table, inspect, text
from sqlalchemy.schema import SchemaItem

from app.db.engine import BUSY_TIMEOUT_MS, WRITES
from app.db.partitions import make_month_partitions
from app.settings import bundled

MIGRATION_LOCK = 0x7761796C
LOCK_TIMEOUT_MS = 10_000
"""A migration that can't have its lock soon gives up: waiting, it would hold up every report behind it."""
MIGRATED_WITHIN_MS = 120_000
"""So long a second process waits for SQLite's one lock while the first migrates."""
UNDECLARED_INDEXES = frozenset({"ix_host_lower_name"})
"""Indexes on expressions: only the migrations know them."""
BUCKET_ENDS_KEY = frozenset(
    {"host", "host_tag", "pulse", "rule_use", "rule_use_delta", "sighting", "subject", "tally_delta", "transition"}
)
"""Tables whose key ends in their bucket on PostgreSQL, where they may be distributed, and not on SQLite. A class has
one key for both databases, so theirs is declared without it (see docs/decisions/0210)."""
_WORD = re.compile(r"'((?:[^']|'')*)'")


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrates up to a revision; a second process waits for the first.

    On PostgreSQL each step is a transaction, on SQLite all of them together are one.
    """
    config = alembic_config()
    with engine.connect() as connection:
        on_postgresql = connection.dialect.name == "postgresql"
        if on_postgresql:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
        else:
            _wait_for_lock(connection, MIGRATED_WITHIN_MS)
        try:
            config.attributes["connection"] = connection
            config.attributes["lock_timeout_ms"] = LOCK_TIMEOUT_MS
            command.upgrade(config, revision)
            connection.commit()
            if on_postgresql:
                make_month_partitions(connection)
                connection.commit()
        finally:
            if on_postgresql:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
            else:
                connection.rollback()
                _wait_for_lock(connection, BUSY_TIMEOUT_MS)


def _wait_for_lock(connection: Connection, timeout_ms: int) -> None:
    # By the driver: SQLAlchemy would begin a transaction first, and wait for the lock with that.
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for the type checker
    driver.execute(f"PRAGMA busy_timeout={timeout_ms}").close()


def is_current(engine: Engine) -> bool:
    """Whether the database has the newest revision."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    with engine.connect().execution_options(**{WRITES: False}) as connection:
        return MigrationContext.configure(connection).get_current_revision() == head


class Schema(Enum):
    """How the database's tables stand to this release."""

    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    """Of a later release: its servers may start while ours still run."""
    NONE = "none"


def judge_schema(connection: Connection) -> Schema:
    """Whether the database's newest revision is ours."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return Schema.NONE
    revisions = _revisions()
    if revision == revisions[0]:
        return Schema.CURRENT
    return Schema.OLDER if revision in revisions else Schema.NEWER


@cache
def _revisions() -> tuple[str, ...]:
    """Of this release, the newest first."""
    return tuple(one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def schema_drift(connection: Connection, metadata: MetaData) -> list[object]:
    """What differs between the database and the declared tables; empty when a migration was not forgotten."""
    on_postgresql = connection.dialect.name == "postgresql"

    def is_wanted(item: SchemaItem, name: str | None, kind: str, reflected: bool, other: SchemaItem | None) -> bool:
        if isinstance(item, Index) and not on_postgresql and _is_for_postgresql(item):
            return False
        if "dialect" in item.info and item.info["dialect"] != connection.dialect.name:
            return False  # another database says it in another way
        return is_declared(item, name, kind, reflected, other)

    context = MigrationContext.configure(
        connection, opts={"include_object": is_wanted, "target_metadata": metadata, "compare_type": True}
    )
    drift: list[object] = list(compare_metadata(context, metadata))
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name in there:
            drift += _find_key_drift(inspector, table)
            drift += _find_check_drift(inspector, table)
    return drift


def _find_key_drift(inspector: Inspector, table: Table) -> list[object]:
    """What Alembic does not compare: the primary key, its name and its columns in their order."""
    declared = [column.name for column in table.primary_key]
    if inspector.dialect.name == "postgresql" and table.name in BUCKET_ENDS_KEY:
        declared.append("bucket")
    found = inspector.get_pk_constraint(table.name)
    if (found["name"], found["constrained_columns"]) == (table.primary_key.name, declared):
        return []
    return [("primary_key", table.name, {"declared": declared, "found": found["constrained_columns"]})]


def _find_check_drift(inspector: Inspector, table: Table) -> list[object]:
    """What Alembic does not compare either: CHECKs, by their names and the words they name.

    PostgreSQL writes a condition in another way than it was told, and leaves the words as they are.
    """
    declared = {
        str(one.name): sorted(_WORD.findall(str(one.sqltext)))
        for one in table.constraints
        if isinstance(one, CheckConstraint)
    }
    found = {
        str(one["name"]): sorted(_WORD.findall(one["sqltext"])) for one in inspector.get_check_constraints(table.name)
    }
    return [
        ("check", table.name, name, {"declared": declared.get(name), "found": found.get(name)})
        for name in sorted(declared.keys() | found.keys())
        if declared.get(name) != found.get(name)
    ]


def alembic_config() -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(bundled("migrations")).replace("%", "%%"))
    return config


def is_declared(item: SchemaItem, name: str | None, kind: str, reflected: bool, _compare_to: SchemaItem | None) -> bool:
    """Leaves out the partitions of tables that are kept by month: they come and go by the clock."""
    if kind == "index" and name in UNDECLARED_INDEXES:
        return False
    if kind == "table" and reflected and name:
        return not name.startswith(("transition_", "sighting_"))
    table = getattr(item, "table", None)
    return not (
        kind == "index" and reflected and table is not None and table.name.startswith(("transition_", "sighting_"))
    )


def _is_for_postgresql(index: Index) -> bool:
    """Whether SQLite has no such kind of index."""
    return bool(index.dialect_options["postgresql"]["using"])
