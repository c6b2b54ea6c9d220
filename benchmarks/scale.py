"""Reports from all over a large fleet at a steady rate: latency, journal, updates in place, exactly once by the ledger.

Two workers, an open loop, a checkpoint every 30 s, 90 % unchanged, 9 % changed to sets that the server knows, 1 % to
sets that nobody else has; of each run others. One in twenty tells sightings, one in twenty uses of rules. FULL=1:
1,000,000 hosts, 60 s each; else a short form.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from parts.changes import new_probes, other_policy
from parts.figures import MISSED, emit, emit_held, quantile
from parts.fleets import (
    MadeFleet,
    count_unequal,
    hold_tellings,
    make_measured_fleet,
    pick_stations,
    read_received,
    serving,
)
from parts.postgresql import Cluster, cpu_s, running_postgresql
from sqlalchemy import text

from app.fleet.check import check_tallies
from app.ingest.generator import Fleet, Station

FULL = os.environ.get("FULL") == "1"
HOSTS = 1_000_000 if FULL else 100_000
DURATION_S = 60.0 if FULL else 10.0
RUNS = (("1000", 1000, 0, 50.0), ("2000", 2000, 0, 100.0), ("1000_commit_delay", 1000, 5000, 100.0))
"""Name, reports a second, commit_delay in microseconds, the target for the 99th percentile in milliseconds."""
LEAST_NEW = 0.8 if FULL else 0.5
"""Of a hundred reports so many must have brought sets that the server had to ask for; a short run has few reports."""


def main() -> int:
    """Exit code 1: a target was missed."""
    with (
        running_postgresql("wal_compression=lz4", "checkpoint_timeout=30s") as cluster,
        tempfile.TemporaryDirectory() as home,
    ):
        fleet = make_measured_fleet(cluster, HOSTS)
        most = max(rate for _name, rate, _delay, _target in RUNS)
        picked = Fleet("http://127.0.0.1:1")
        pick_stations(picked, fleet, min(int(most * DURATION_S * 1.1), fleet.hosts))
        for seed, (name, rate, delay_us, target_ms) in enumerate(RUNS, 1):
            changes = Changes(seed)
            run(cluster, fleet, Path(home), picked.stations, changes, name, rate, delay_us, target_ms)
        began_s = time.monotonic()
        hold_tellings("scale", fleet.engine, picked.stations)
        with fleet.engine.connect() as connection:
            drifts = check_tallies(connection)
        emit_held("scale_wrong_counts", len(drifts), "counts", most=0)
        with fleet.engine.connect() as connection:
            size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        emit("scale_database", size / 1e9, "GB", hosts=fleet.hosts)
        emit("scale_check", time.monotonic() - began_s, "s")
        fleet.engine.dispose()
    return 1 if MISSED else 0


def run(
    cluster: Cluster,
    fleet: MadeFleet,
    home: Path,
    stations: list[Station],
    changes: Changes,
    name: str,
    rate: int,
    delay_us: int,
    target_ms: float,
) -> None:
    """One rate: prints its figures."""
    with psycopg.connect(fleet.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE fleet SET commit_delay = {delay_us}")
    before = read_received(fleet)
    for station in stations:
        station.acknowledged = 0
    with serving(fleet, home, workers=2) as (address, pid):
        sender = Fleet(address)
        sender.stations = stations
        asyncio.run(warm_up(sender))
        was, journal, checkpoints = read_updates(fleet), read_journal(fleet), count_checkpoints(fleet)
        used, own_s, began_s = cpu_s(pid, cluster.pid), time.process_time(), time.monotonic()
        sender.tally.latencies_s.clear()
        sent = sender.tally.acknowledged
        asyncio.run(send(sender, rate, changes))
        took_s = time.monotonic() - began_s
        taken = sender.tally.acknowledged - sent
        generator_ms = (time.process_time() - own_s) * 1000 / taken
        server_ms = (cpu_s(pid, cluster.pid) - used) * 1000 / taken
        journal = read_journal(fleet) - journal
        time.sleep(1.5)
        checkpoints = count_checkpoints(fleet) - checkpoints
        updates, in_place = (now - then for now, then in zip(read_updates(fleet), was, strict=True))
    latencies_ms = [one * 1000 for one in sender.tally.latencies_s]
    more = {"hosts": fleet.hosts, "seconds": round(took_s, 1)}
    emit_held(
        f"scale_{name}_rate",
        taken / took_s,
        "reports/s",
        least=0.97 * rate,
        **more,
        cpu_ms=round(server_ms, 3),
        generator_ms=round(generator_ms, 3),
        turned_away=sender.tally.turned_away,
    )
    emit_held(f"scale_{name}_new_sets", 100 * sender.tally.missing / taken, "% of reports", least=LEAST_NEW)
    emit_held(f"scale_{name}_checkpoints", checkpoints, "begun meanwhile", least=1 if FULL else 0)
    emit(f"scale_{name}_p50", quantile(latencies_ms, 0.5), "ms")
    emit_held(f"scale_{name}_p99", quantile(latencies_ms, 0.99), "ms", most=target_ms)
    emit(f"scale_{name}_slowest", max(latencies_ms), "ms")
    emit_held(f"scale_{name}_journal", journal / taken / 1000, "kB/report", most=6.0)
    emit_held(f"scale_{name}_in_place", 100 * in_place / updates, "% of pulse updates", least=99.0)
    emit_held(f"scale_{name}_not_exactly_once", count_unequal(fleet, before, stations), "hosts", most=0)
    emit_held(f"scale_{name}_refused", sender.tally.refused, "reports", most=0)


async def warm_up(sender: Fleet) -> None:
    """Some seconds that don't count: both workers start, connections, caches, prepared statements."""
    await sender.pace(300, 7.0)
    sender.close()


async def send(sender: Fleet, rate: int, changes: Changes) -> None:
    """The measured reports."""
    await sender.pace(rate, DURATION_S, change=changes)
    sender.close()


def count_checkpoints(fleet: MadeFleet) -> int:
    with fleet.engine.connect() as connection:
        query = text("SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter")
        return int(connection.execute(query).scalar_one())


class Changes:
    """Of a hundred reports nine say something else that is known, and one something new."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._number = seed * 1_000_000

    def __call__(self, station: Station) -> bool:
        drawn = self._chance.random()
        if drawn < 0.01:
            self._number += 1
            new_probes(station, self._number)
        elif drawn < 0.1:
            other_policy(station)
        return False


def read_updates(fleet: MadeFleet) -> tuple[int, int]:
    """Updates of `pulse` so far, and how many of them were made in place."""
    with fleet.engine.connect() as connection:
        row = connection.execute(
            text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'pulse'")
        ).one()
    return int(row[0]), int(row[1])


def read_journal(fleet: MadeFleet) -> int:
    """Bytes of write-ahead log so far."""
    with fleet.engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())


if __name__ == "__main__":
    sys.exit(main())
