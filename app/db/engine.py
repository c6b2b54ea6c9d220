"""Opening the database: SQLite that survives power loss, PostgreSQL through psycopg 3."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url

if TYPE_CHECKING:
    # Reading settings takes longer to load than all of this; who opens a database by its address has none.
    from app.settings import Settings

BUSY_TIMEOUT_MS = 10_000
WRITES = "sqlite_writes"
"""Execution option: the transaction will write, so SQLite takes its lock at once (BEGIN IMMEDIATE)."""


_NOTICES_LOSS = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""A database whose packets are lost says nothing: without these a connection to it waits for a quarter of an hour."""

BY_BUCKET = "by_bucket"
"""Execution option: the tables of hosts are distributed, and rows are locked in one bucket at a time."""


def open_engine(settings: Settings, *, pool_size: int | None = None) -> Engine:
    """The engine of the configured database. Creates the data directory, not the tables."""
    engine = open_url(settings.url, pool_size=pool_size or settings.database_pool)
    return engine.execution_options(**{BY_BUCKET: True}) if settings.commit_by_bucket else engine


def open_url(url: str, *, pool_size: int = 10) -> Engine:
    """The engine of an SQLAlchemy address."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "application_name": "wayleave", **_NOTICES_LOSS},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    try:
        # To compile a statement takes longer than nearly all of ours run.
        connection.execute("SET jit = off").close()
        connection.commit()
    except BaseException:
        # The pool doesn't know it yet, so nobody else would close it.
        connection.close()
        raise


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # We say BEGIN ourselves: the driver would only do so before a write, and then not IMMEDIATE.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}").close()
    _switch_to_wal(connection)
    for pragma in (
        "synchronous=FULL",
        "foreign_keys=ON",
        "cache_size=-65536",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _switch_to_wal(connection: Any) -> None:
    # Of a new file, SQLite answers "locked" at once while another process does the same: this waits as for other locks.
    give_up = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, True)
    # A read that later writes would fail at once when another connection wrote meanwhile: writers lock first.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


DATA_ERRORS = (psycopg.DataError, psycopg.IntegrityError, sqlite3.IntegrityError, sqlite3.DataError, OverflowError)
"""The database refuses a value; another value would pass."""

DRIVER_ERRORS = (psycopg.Error, sqlite3.Error)
"""Anything that the drivers raise."""
