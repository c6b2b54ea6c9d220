"""The database goes away under a running server: reports are told to come back, and are taken later."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.db.migrate import upgrade
from app.main import create_app
from app.settings import Settings
from tests.app.ingest.workstation import enrolled

Control = Callable[..., None]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Control]]:
    """A PostgreSQL that a test may stop and start: its address and its pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.getuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("needs postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    home = Path(tempfile.mkdtemp(prefix="wayleave-away-"))
    if as_user:
        shutil.chown(home, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs, data = found[-1].parent, str(home / "data")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=60)

    def control(action: str, *more: str) -> None:
        extra = ["-l", str(home / "log"), "-o", options] if action == "start" else []
        run(str(programs / "pg_ctl"), "-D", data, "-w", *extra, *more, action)

    run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
    control("start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", control
    finally:
        if (home / "data" / "postmaster.pid").exists():
            control("stop", "-m", "immediate")
        shutil.rmtree(home)


@pytest.fixture
def server(cluster: tuple[str, Control], tmp_path: Path) -> Iterator[FastAPI]:
    made = create_app(Settings(data_dir=tmp_path, database_url=cluster[0]))
    upgrade(made.state.engine)
    yield made
    made.state.engine.dispose()


@pytest.mark.slow
@pytest.mark.postgresql
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_reports_are_turned_away_and_taken_later(server: FastAPI, cluster: tuple[str, Control], how: str) -> None:
    _url, control = cluster
    with TestClient(server, base_url="http://wayleave.example") as client:
        station = enrolled(client, server)
        assert station.send().status_code == 200
        control("stop", "-m", how)
        report = station.report()
        for _ in range(3):
            answer = station.send(report)
            assert (answer.status_code, answer.json()["error"]) == (503, "busy")
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        away = client.post("/api/v1/enrol", json={"contract": 1, "secret": "wle_1_" + "x" * 32, "host": {"name": "B"}})
        assert away.status_code == 503
        control("start")
        until = time.monotonic() + 30
        while (answer := station.send(report)).status_code == 503 and time.monotonic() < until:
            time.sleep(0.2)
        assert answer.status_code == 200
        assert station.send(report).status_code == 200
        assert client.get("/readyz").status_code == 200
