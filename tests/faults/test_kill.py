"""kill -9 of the server under load: no acknowledged report is lost, none counted twice, every count is right.

WAYLEAVE_KILLS says how often (10 unless given); the seed of the kill points is printed with a failure.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.fleet.made_sets import policy_set, uv_set
from app.fleet.tables import Pulse, Subject
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.generator import Fleet, Station
from app.settings import Settings

KILLS = int(os.environ.get("WAYLEAVE_KILLS", "10"))
STATIONS = 40


class Served:
    """The server as a process of its own, always on the same port."""

    def __init__(self, settings: Settings) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.environment = {
            **os.environ,
            "WAYLEAVE_DATA_DIR": str(settings.data_dir),
            "WAYLEAVE_DATABASE_URL": settings.database_url,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "serve", "--port", str(self.port)],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path, database_url="")
    else:
        yield Settings(data_dir=tmp_path, database_url=request.getfixturevalue("durable_postgresql"))


@pytest.fixture
def durable_postgresql(tmp_path: Path) -> Iterator[str]:
    """A cluster that flushes to disk, as the promise is about what survives."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.getuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("needs postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    home = Path("/tmp") / f"wayleave-faults-{os.getpid()}"
    home.mkdir()
    if as_user:
        shutil.chown(home, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs, data = found[-1].parent, str(home / "data")

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd=home, stdout=subprocess.DEVNULL, timeout=60)

    run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    run(str(programs / "pg_ctl"), "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home)


def change(chance: random.Random, station: Station) -> bool:
    """Some reports change something, so that transitions and counts are at stake too."""
    if chance.random() < 0.3:
        station.sets["policy"] = policy_set(chance.choice(["defaults", "engineers", "audit"]))
        station.sets["uv"] = uv_set(chance.choice(["0.9.13", "0.12.4", "0.13.8"]))
        station.say()
    return False


async def send_and_kill(server: Served, fleet: Fleet, chance: random.Random) -> None:
    stop = asyncio.Event()

    async def work(own: list[Station]) -> None:
        while not stop.is_set():
            for station in own:
                await fleet.report(station, bodies=change(chance, station))

    workers = [asyncio.create_task(work(fleet.stations[at::8])) for at in range(8)]
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.05, 0.6))
        server.kill()
        await asyncio.to_thread(server.start)
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(*workers)


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(settings: Settings) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    engine = open_engine(settings)
    upgrade(engine)
    with session_scope(engine) as session:
        make_standard_groups(session)
        secret = create_enrolment_secret(session, uses=None)
    server = Served(settings)
    server.start()
    fleet = Fleet(server.url)

    async def run() -> None:
        await fleet.enrol(secret, STATIONS, connections=8)
        await send_and_kill(server, fleet, random.Random(seed))
        fleet.close()

    try:
        asyncio.run(run())
    finally:
        server.kill()
    assert fleet.tally.refused == 0
    assert fleet.tally.lost > 0, "no connection was cut: nothing was tested"
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(Subject.host_id, Pulse.sequence, Pulse.received, Pulse.missed).join(
                Pulse, Pulse.subject_id == Subject.id
            )
        ).all()
    kept = {row.host_id: row for row in rows}
    for station in fleet.stations:
        row = kept[int(station.host_id)]
        # Each report was sent until it was acknowledged, so what is there and what was acknowledged are the same.
        assert (row.sequence, row.received, row.missed) == (station.sequence, station.acknowledged, 0)
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    with engine.connect() as connection:
        assert check_tallies(connection) == []
    engine.dispose()
