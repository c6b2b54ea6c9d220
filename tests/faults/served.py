"""What the tests of faults share: the server as a process that can be killed, and a fleet that reports on."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine, select

from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.fleet.made_sets import policy_set, uv_set
from app.fleet.rule_uses import fold_uses
from app.fleet.tables import Pulse, Subject
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.generator import Fleet, Station
from app.ingest.ledger import find_untold, find_wrong_days, find_wrong_states, line_of
from app.settings import Settings
from tests.faults.cluster import command_line, is_alive, kill
from tests.forked import Forked
from tests.free_port import free_port

KILLS = int(os.environ.get("WAYLEAVE_KILLS", "10"))
AWAY_S = float(os.environ.get("WAYLEAVE_AWAY_S", "3"))
STATIONS = 40
OFTEN = 0.3
"""The share of reports that tell sightings, and of those that tell uses of rules: short runs have few reports."""


def chosen_seed() -> int:
    """WAYLEAVE_SEED, or a new one; printed, so that a failure can be had again."""
    seed = int(os.environ.get("WAYLEAVE_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    return seed


class Served:
    """The server as a process of its own, always on the same port."""

    def __init__(self, settings: Settings, *, workers: int = 1, **environment: str) -> None:
        self.port = free_port()
        self.workers = workers
        self.environment = {
            **os.environ,
            "WAYLEAVE_DATA_DIR": str(settings.data_dir),
            "WAYLEAVE_DATABASE_URL": settings.database_url,
            # Forty hosts report in an hour what ten thousand do.
            "WAYLEAVE_SIGHTINGS_PER_DAY": "1000000",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = ["serve", "--port", str(self.port), "--workers", str(self.workers)]
        if self.workers == 1:
            self.process = Forked(arguments, self.environment, Path(os.devnull))
        else:
            # Its own processes read the modules anew, and so does it.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli.main", *arguments],
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, "the server ended at its start"
                time.sleep(0.02)
            else:
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def kill_one(self, chance: random.Random, *, sure: Sequence[str] = ()) -> str:
        """kill -9 of the supervisor (the others then end by themselves) or of one of its processes; which it was."""
        assert self.process is not None
        workers = self._processes()
        what = chance.choices(sure or ("supervisor", "worker"), None if sure else (3, 7))[0]
        if what == "supervisor" or not workers:
            self.process.kill()
            self.process.wait(30)
            until_s = time.monotonic() + 30
            while any(is_alive(one) for one in workers):
                assert time.monotonic() < until_s, "processes outlive their supervisor"
                time.sleep(0.05)
            return "supervisor"
        kill(chance.choice(workers))
        return "worker"

    def wait_for_workers(self, seconds: float = 60) -> None:
        """Until as many processes serve as were asked for."""
        until_s = time.monotonic() + seconds
        while len(self._processes()) < self.workers:
            assert time.monotonic() < until_s, "a process that was killed is not replaced"
            time.sleep(0.05)

    def _processes(self) -> list[int]:
        assert self.process is not None
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        return [int(one) for one in found if b"spawn_main" in command_line(int(one)) and is_alive(int(one))]

    def memory_bytes(self) -> int:
        """The process's memory that is in RAM."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def prepared(settings: Settings) -> str:
    """Makes the tables and groups; an enrolment secret good for any number of hosts."""
    engine = open_engine(settings)
    upgrade(engine)
    with session_scope(engine) as session:
        make_standard_groups(session)
        secret = create_enrolment_secret(session, uses=None)
    engine.dispose()
    return secret


def change(chance: random.Random, station: Station) -> bool:
    """Some reports change something, so that transitions and counts are at stake too."""
    if chance.random() < 0.3:
        station.sets["policy"] = policy_set(chance.choice(["defaults", "engineers", "audit"]))
        station.sets["uv"] = uv_set(chance.choice(["0.9.13", "0.12.4", "0.13.8"]))
        station.say()
    return False


async def report_while(fleet: Fleet, chance: random.Random, harm: Callable[[], Awaitable[None]]) -> None:
    """Lets all stations report, each as soon as its last report was acknowledged, until the harm is done."""
    stop = asyncio.Event()

    async def work(own: list[Station]) -> None:
        while not stop.is_set():
            for station in own:
                await fleet.report(station, bodies=change(chance, station))

    workers = [asyncio.create_task(work(fleet.stations[at::8])) for at in range(8)]
    try:
        await harm()
    except BaseException:
        for worker in workers:
            worker.cancel()
        raise
    stop.set()
    await asyncio.gather(*workers)


async def under_load(server: Served, secret: str, chance: random.Random, harm: Callable[[], Awaitable[None]]) -> Fleet:
    """A fleet that enrolled, and reported on until the harm was done."""
    fleet = Fleet(server.url, most_wait_s=0.5, tells=OFTEN)
    await fleet.enrol(secret, STATIONS, connections=8)
    await report_while(fleet, chance, harm)
    fleet.close()
    return fleet


def assert_ledger_is_kept(engine: Engine, fleet: Fleet) -> None:
    """Every acknowledged report and what was in it is in the database exactly once; every state and count is right."""
    assert fleet.tally.refused == 0
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(Subject.host_id, Pulse.epoch, Pulse.sequence, Pulse.received, Pulse.missed).join(
                Pulse, Pulse.subject_id == Subject.id
            )
        ).all()
    kept = {row.host_id: row for row in rows}
    for station in fleet.stations:
        row = kept[int(station.host_id)]
        # Each report was sent until it was acknowledged, so what is there and what was acknowledged are the same.
        assert (row.epoch, row.sequence, row.received, row.missed) == (
            station.epoch,
            station.sequence,
            station.acknowledged,
            0,
        )
    assert_counts_are_right(engine)
    assert sum(station.sighted for station in fleet.stations) > 0, "no sighting was told: nothing was tested"
    assert any(station.uses for station in fleet.stations), "no use of a rule was told: nothing was tested"
    with session_scope(engine, writes=False) as session:
        assert find_untold(session, fleet.stations) == []
        assert find_wrong_days(session) == []
        lines = [line_of(station) for station in fleet.stations]
        assert all(line.state is not None for line in lines)
        wrong = list(find_wrong_states(session, lines))
        assert wrong == [], f"of {len(wrong)} hosts another state is there: {wrong[:3]}"


def assert_counts_are_right(engine: Engine) -> None:
    """What `wayleave db check` says, after what is pending was folded."""
    with engine.connect() as connection:
        while fold(connection, ContributionCache()) or fold_uses(connection, wait=True):
            pass
    with engine.connect() as connection:
        assert check_tallies(connection) == []
