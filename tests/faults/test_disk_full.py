"""The disk is full: reports are told to come back, nothing that was acknowledged is lost, and space is all it takes."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import select

from agent.contract.facts import TokenSet
from app.db.engine import open_engine
from app.db.session import session_scope
from app.fleet.tables import Pulse
from app.settings import Settings
from tests.app.ingest.workstation import Workstation
from tests.faults.cluster import made_cluster
from tests.faults.served import Served, assert_counts_are_right, prepared

SIZES_MIB = {"sqlite": 24, "postgresql": 160, "log": 24}


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own that can be filled. Its path is short: PostgreSQL's socket lies in it."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    disk = Path(tempfile.mkdtemp(prefix="wayleave-full-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZES_MIB[request.param]}m,mode=755", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        disk.rmdir()
        pytest.skip("needs the right to mount")
    # PostgreSQL's user must be able to come here.
    disk.chmod(0o755)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


@pytest.fixture
def settings(request: pytest.FixtureRequest, small_disk: Path, tmp_path: Path) -> Iterator[Settings]:
    if "postgresql" not in request.node.callspec.id:
        yield Settings(data_dir=small_disk, database_url="")
        return
    with made_cluster(within=small_disk) as cluster:
        cluster.start()
        yield Settings(data_dir=tmp_path, database_url=cluster.url)


def fill(disk: Path, *, but_bytes: int) -> Path:
    """Takes all space there is, but for a little."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1_048_576, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
        file.truncate(file.tell() - but_bytes)
    return ballast


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize(
    "small_disk", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
def test_a_full_disk_turns_reports_away_and_loses_none(small_disk: Path, settings: Settings) -> None:
    fill_and_free(small_disk, settings, but_bytes=400_000, mend=lambda: None)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.postgresql
@pytest.mark.parametrize("small_disk", ["log"], indirect=True)
def test_a_full_volume_of_the_write_ahead_log_ends_postgresql_and_nothing_is_lost(
    small_disk: Path, tmp_path: Path
) -> None:
    """PostgreSQL can't go on without its log: it ends, and comes back when there is space again."""
    with made_cluster(wal_within=small_disk) as cluster:
        cluster.start()

        settings = Settings(data_dir=tmp_path, database_url=cluster.url)

        def mend() -> None:
            cluster.stop()
            cluster.start()

        def use_up_segments() -> None:
            """Files that PostgreSQL keeps for later hold some hundred reports: all but one of them are written.

            In the last alone the first report might not fit: it is logged with every page that it touches.
            """
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                for _ in range(100):
                    row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
                    assert row is not None
                    if sum(file.name > row[0] for file in (small_disk / "wal").glob("0*")) <= 1:
                        return
                    connection.execute("SELECT pg_logical_emit_message(false, 'wayleave', repeat('x', 500000))")
            raise AssertionError("the log does not end")

        fill_and_free(small_disk, settings, but_bytes=200_000, mend=mend, before=use_up_segments)
        assert "No space left on device" in (cluster.home / "log").read_text()


def fill_and_free(
    small_disk: Path,
    settings: Settings,
    *,
    but_bytes: int,
    mend: Callable[[], None],
    before: Callable[[], None] = lambda: None,
) -> None:
    """Reports until nothing fits any more, then makes room and goes on.

    `before`: done as soon as the disk is full but for `but_bytes`. `mend`: what an operator does then.
    """
    secret = prepared(settings)
    server = Served(settings, WAYLEAVE_NEW_SETS_PER_DAY="5000")
    server.start()
    chance = random.Random(4)
    try:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            enrolled = client.post(
                "/api/v1/enrol", json={"contract": 1, "secret": secret, "host": {"name": "PC-1", "os": "Windows 11"}}
            )
            station = Workstation(client, enrolled.json()["token"])
            acknowledged = 0
            statuses: list[int] = []
            ballast = fill(small_disk, but_bytes=but_bytes)
            before()
            until_s = time.monotonic() + 60
            report = station.report()
            while time.monotonic() < until_s and statuses.count(503) < 3:
                answer = station.send(report)
                statuses.append(answer.status_code)
                if answer.status_code != 503:
                    assert answer.status_code == 200, answer.text
                    acknowledged += 1
                    sids = [f"S-1-5-21-{chance.randrange(10**9)}-{n}-1-{1000 + n}" for n in range(800)]
                    station.put(TokenSet(sids=("S-1-5-32-545", *sids)))
                    report = station.report()
            assert statuses.count(503) == 3, statuses
            assert client.get("/healthz").status_code == 200
            assert client.get("/login").status_code in (200, 503)
            again = client.post("/api/v1/enrol", json={"contract": 1, "secret": secret, "host": {"name": "PC-2"}})
            assert again.status_code in (201, 503)
            ballast.unlink()
            mend()
            until_s = time.monotonic() + 60
            while (answer := station.send(report)).status_code == 503 and time.monotonic() < until_s:
                time.sleep(0.2)
            assert answer.status_code == 200, answer.text
            acknowledged += 1
            assert station.send(report).status_code == 200
    finally:
        server.kill()
    assert acknowledged > 2, "it was full at once"
    print(f"{acknowledged} reports acknowledged before and after, answers while full: {statuses[-6:]}")
    engine = open_engine(settings)
    with session_scope(engine, writes=False) as session:
        pulse = session.scalars(select(Pulse)).one()
    assert (pulse.received, pulse.sequence, pulse.missed) == (acknowledged, station.sequence, 0)
    assert_counts_are_right(engine)
    engine.dispose()
