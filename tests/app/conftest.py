"""Real databases for the server's tests: SQLite files, and a private PostgreSQL cluster for the run."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.main import create_app
from app.settings import Settings
from tests.free_port import free_port


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The address of a PostgreSQL server of our own, without a database name."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs postgresql")
    user: list[str] = []
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("needs postgresql")
        user = ["runuser", "-u", "postgres", "--"]
    home = Path(tempfile.mkdtemp(prefix="wayleave-pg-"))
    if user:
        shutil.chown(home, "postgres")
    port = free_port()

    def run(*command: str) -> None:
        subprocess.run([*user, *command], check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=60)

    data = str(home / "data")
    run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    control = str(programs / "pg_ctl")
    run(control, "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}"
    finally:
        run(control, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    """A migrated database, from which tests get theirs by copying it."""
    with psycopg.connect(f"{postgresql_server}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_wayleave")
    engine = open_engine(Settings(database_url=f"{postgresql_server}/template_wayleave"))
    upgrade(engine)
    engine.dispose()
    return "template_wayleave"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, from which tests get theirs by copying it."""
    home = tmp_path_factory.mktemp("sqlite")
    engine = open_engine(Settings(data_dir=home, database_url=""))
    upgrade(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    return home / "wayleave.sqlite"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings whose database is fresh and migrated, on each kind of database."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "wayleave.sqlite")
        yield Settings(data_dir=tmp_path, database_url="")
        return
    server = request.getfixturevalue("postgresql_server")
    template = request.getfixturevalue("postgresql_template")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield Settings(data_dir=tmp_path, database_url=f"{server}/{name}")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        left = _left_open(connection, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert not left, f"connections that nobody closed, each with its last statement: {left}"


def _left_open(connection: psycopg.Connection[Any], name: str) -> list[str]:
    """What is still connected to a database of which a test is done. Somebody has to close it, or the garbage
    collector complains in a later test that has nothing to do with it."""
    deadline = time.monotonic() + 5
    while True:
        # The server's own, such as an autovacuum, are none of ours.
        query = "SELECT query FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        rows = connection.execute(query, [name]).fetchall()
        # A connection that was closed takes a moment to go.
        if not rows or time.monotonic() > deadline:
            return [query for (query,) in rows]
        time.sleep(0.01)


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    """An engine on the fresh database."""
    engine = open_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def server(settings: Settings) -> Iterator[FastAPI]:
    """The application on the fresh database."""
    made = create_app(settings)
    yield made
    made.state.engine.dispose()


@pytest.fixture
def client(server: FastAPI) -> Iterator[TestClient]:
    """A client of the running application, with its writer and clock at work."""
    with TestClient(server, base_url="http://wayleave.example") as running:
        yield running
