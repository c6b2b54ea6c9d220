"""Far more agents than connections: all send within half a minute, each over a connection of its own.

At most 2,000 connections are open at once; of those 1,000 are taken, the others get 503 and come back.
FULL=1: 50,000 agents; else 5,000.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from parts.figures import MISSED, emit, emit_held, quantile
from parts.fleets import count_unequal, make_measured_fleet, pick_stations, read_received, serving
from parts.postgresql import cpu_s, running_postgresql

from app.ingest.generator import Answer, Fleet, Station

FULL = os.environ.get("FULL") == "1"
AGENTS = 50_000 if FULL else 5_000
WITHIN_S = 30.0 if FULL else 3.0
OPEN = 2000
"""Connections that are open at once."""
IN_FLIGHT = 1000
"""Reports that the server takes at once; the others get 503."""


def main() -> int:
    """Exit code 1: a target was missed."""
    with running_postgresql("wal_compression=lz4") as cluster, tempfile.TemporaryDirectory() as home:
        fleet = make_measured_fleet(cluster, max(AGENTS, 20_000), profile="uniform")
        sender = Fleet("http://127.0.0.1:1")
        pick_stations(sender, fleet, AGENTS)
        stations = sender.stations
        before = read_received(fleet)
        with serving(fleet, Path(home), WAYLEAVE_REPORTS_IN_FLIGHT=str(IN_FLIGHT)) as (address, pid):
            crowd = Crowd(address, stations)
            watch = Watch(pid)
            used, own_s, began_s = cpu_s(pid, cluster.pid), time.process_time(), time.monotonic()
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
            open_at_most=crowd.most_open,
            turned_away=crowd.tally.turned_away,
            lost=crowd.tally.lost,
            cpu_ms=round(used * 1000 / taken, 3),
            generator_ms=round(own_s * 1000 / taken, 3),
        )
        emit("connections_p99", quantile(crowd.tally.latencies_s, 0.99), "s")
        emit_held("connections_drained", took_s, "s", most=60.0)
        emit_held("connections_memory", watch.most_mb, "MB of the process", most=200.0)
        emit_held("connections_not_exactly_once", count_unequal(fleet, before, stations), "hosts", most=0)
        emit_held("connections_unanswered", AGENTS - taken, "agents", most=0)
        fleet.engine.dispose()
    return 1 if MISSED else 0


class Crowd(Fleet):
    """Agents that come at any moment of the half minute, each over a connection of its own."""

    def __init__(self, address: str, stations: list[Station]) -> None:
        super().__init__(address, new_connection=True)
        self.stations = stations
        self.most_open = 0
        self._open = 0
        self._places = asyncio.Semaphore(OPEN)

    async def send(self) -> None:
        chance = random.Random(5)
        moments = sorted(chance.random() * WITHIN_S for _ in self.stations)
        began_s = time.perf_counter()
        tasks = []
        for station, moment in zip(self.stations, moments, strict=True):
            wait_s = began_s + moment - time.perf_counter()
            if wait_s > 0.002:
                await asyncio.sleep(wait_s)
            tasks.append(asyncio.create_task(self.report(station, due_s=began_s + moment)))
        await asyncio.gather(*tasks)

    async def _ask(self, request: bytes) -> Answer:
        async with self._places:
            self._open += 1
            self.most_open = max(self.most_open, self._open)
            try:
                return await super()._ask(request)
            finally:
                self._open -= 1


class Watch:
    """The most memory that a process had."""

    def __init__(self, pid: int) -> None:
        self.most_mb = 0.0
        self._status = Path(f"/proc/{pid}/status")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.2):
            line = next(line for line in self._status.read_text().splitlines() if line.startswith("VmRSS"))
            self.most_mb = max(self.most_mb, int(line.split()[1]) / 1024)


if __name__ == "__main__":
    sys.exit(main())
