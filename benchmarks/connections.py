"""Far more agents than connections: all send within half a minute, most of them in its first second.

Each comes over a connection of its own, with the settings as they are. The server keeps 2,000 connections; who comes
beyond gets 503 and comes back when agents do. FULL=1: 50,000 agents; else 12,000. AT_ONCE=4000: no more than so many
at the same moment, where a process may not have ten thousand sockets.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from parts.figures import MISSED, emit, emit_held, quantile
from parts.fleets import count_unequal, hold_tellings, make_measured_fleet, pick_stations, read_received, serving
from parts.postgresql import cpu_s, running_postgresql

from agent.schedule import wait_after
from app.fleet.check import check_tallies
from app.ingest.connections import UNANSWERED_BEYOND
from app.ingest.generator import Fleet, Station
from app.ingest.line import Answer, Line, spared_collections
from app.settings import Settings

FULL = os.environ.get("FULL") == "1"
AGENTS = 50_000 if FULL else 12_000
WITHIN_S = 30.0 if FULL else 10.0
CROWD_S = 1.0
"""Within so long comes the larger part."""
CROWD = 0.8
OPEN = Settings.model_fields["connections"].default
"""Connections that the server keeps."""
AT_ONCE = int(os.environ.get("AT_ONCE", "10000"))
"""And so many agents try to have one at the same time: a process may not have any number of files open."""


def main() -> int:
    """Exit code 1: a target was missed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running_postgresql("wal_compression=lz4") as cluster, tempfile.TemporaryDirectory() as home:
        fleet = make_measured_fleet(cluster, max(AGENTS, 20_000), profile="uniform")
        sender = Fleet("http://127.0.0.1:1")
        pick_stations(sender, fleet, AGENTS)
        stations = sender.stations
        before = read_received(fleet)
        with serving(fleet, Path(home)) as (address, pid):
            crowd = Crowd(address, stations)
            watch = Watch(pid)
            used, own_s, began_s = cpu_s(pid, cluster.pid), time.process_time(), time.monotonic()
            with spared_collections():
                asyncio.run(crowd.send())
            took_s = time.monotonic() - began_s
            used, own_s = cpu_s(pid, cluster.pid) - used, time.process_time() - own_s
            watch.stop()
        taken = crowd.tally.acknowledged
        emit(
            "connections_rate",
            taken / took_s,
            "reports/s",
            agents=AGENTS,
            lost=crowd.tally.lost,
            cpu_ms=round(used * 1000 / taken, 3),
            generator_ms=round(own_s * 1000 / taken, 3),
        )
        emit_held("connections_open", watch.most_open, "open at most", least=OPEN * 0.99, most=OPEN * UNANSWERED_BEYOND)
        emit_held("connections_wanted", crowd.most_open, "that agents had open at most", least=OPEN + 1)
        emit_held("connections_turned_away", crowd.tally.turned_away, "times 503", least=1)
        emit("connections_p99", quantile(crowd.tally.latencies_s, 0.99), "s")
        emit_held("connections_drained", took_s, "s", most=60.0)
        emit_held("connections_memory", watch.most_mb, "MB of the process", most=200.0)
        emit_held("connections_not_exactly_once", count_unequal(fleet, before, stations), "hosts", most=0)
        emit_held("connections_unanswered", AGENTS - taken, "agents", most=0)
        hold_tellings("connections", fleet.engine, stations)
        with fleet.engine.connect() as connection:
            emit_held("connections_wrong_counts", len(check_tallies(connection)), "counts", most=0)
        fleet.engine.dispose()
    return 1 if MISSED else 0


class Crowd(Fleet):
    """Agents that nearly all come at once, each over a connection of its own."""

    def __init__(self, address: str, stations: list[Station]) -> None:
        super().__init__(address, new_connection=True, lost_wait_s=(15.0, 30.0), seed=5)
        self.stations = stations
        self.open = self.most_open = 0
        self._places = AT_ONCE
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def send(self) -> None:
        chance = random.Random(5)
        moments = sorted(chance.random() * (CROWD_S if chance.random() < CROWD else WITHIN_S) for _ in self.stations)
        began_s = time.perf_counter()
        tasks = []
        for station, moment in zip(self.stations, moments, strict=True):
            wait_s = began_s + moment - time.perf_counter()
            if wait_s > 0.002:
                await asyncio.sleep(wait_s)
            tasks.append(asyncio.create_task(self.report(station, due_s=began_s + moment)))
        await asyncio.gather(*tasks)

    def _wait_s(self, station: Station, answer: Answer) -> float:
        return wait_after(1, answer.retry_after_s, station.host_id)

    def _make_line(self) -> Line:
        return CountedLine(self)

    async def _ask(self, request: bytes) -> Answer:
        # asyncio's semaphore looks through all whose turn it is already, each time one more may come.
        if self._places:
            self._places -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        try:
            return await super()._ask(request)
        finally:
            if self._waiting:
                self._waiting.popleft().set_result(None)
            else:
                self._places += 1


class CountedLine(Line):
    """A connection that is counted while it is open."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__()
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._crowd.open += 1
        self._crowd.most_open = max(self._crowd.most_open, self._crowd.open)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._crowd.open -= 1


class Watch:
    """The most memory that a process had, and the most connections."""

    def __init__(self, pid: int) -> None:
        self.most_mb = 0.0
        self.most_open = 0
        self._process = Path(f"/proc/{pid}")
        self._quiet = self._count_sockets()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.1):
            line = next(
                line for line in (self._process / "status").read_text().splitlines() if line.startswith("VmRSS")
            )
            self.most_mb = max(self.most_mb, int(line.split()[1]) / 1024)
            self.most_open = max(self.most_open, self._count_sockets() - self._quiet)

    def _count_sockets(self) -> int:
        """Open files, which are connections but for a few."""
        return sum(1 for _ in (self._process / "fd").iterdir())


if __name__ == "__main__":
    sys.exit(main())
