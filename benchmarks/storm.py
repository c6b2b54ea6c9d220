"""A policy that reaches a whole group at once: every workstation of it changes what it says, as fast as it is taken.

Each sends the texts of its new policy and probes, as agents do that have not yet had them acknowledged.

No deadlock, no report lost or doubled, no count wrong afterwards. FULL=1: 100,000 hosts; else 10,000.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from parts.changes import take_policy
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
from parts.postgresql import cpu_s, running_postgresql
from sqlalchemy import text

from app.fleet.check import check_tallies
from app.ingest.generator import Fleet, Station

FULL = os.environ.get("FULL") == "1"
GROUP = 100_000 if FULL else 10_000
SHARE = 0.45
"""Of the fleet, in the department that is reached."""
LEAST_RATE = 3000.0
CONNECTIONS = 256


def main() -> int:
    """Exit code 1: a target was missed."""
    with running_postgresql("wal_compression=lz4") as cluster, tempfile.TemporaryDirectory() as home:
        fleet = make_measured_fleet(cluster, int(GROUP / SHARE * 1.03), profile="uniform")
        sender = Fleet("http://127.0.0.1:1")
        pick_stations(sender, fleet, GROUP, group="FIN")
        stations = sender.stations
        before, deadlocks = read_received(fleet), count_deadlocks(fleet)
        with serving(fleet, Path(home), workers=2) as (address, pid):
            sender = Fleet(address)
            sender.stations = stations
            asyncio.run(warm_up(sender))
            warm = sender.tally.acknowledged
            sender.tally.latencies_s.clear()
            used, own_s, began_s = cpu_s(pid, cluster.pid), time.process_time(), time.monotonic()
            asyncio.run(reach_all(sender))
            took_s = time.monotonic() - began_s
            taken = sender.tally.acknowledged - warm
            emit_held(
                "storm_rate",
                taken / took_s,
                "reports/s",
                least=LEAST_RATE,
                hosts=len(stations),
                cpu_ms=round((cpu_s(pid, cluster.pid) - used) * 1000 / taken, 3),
                generator_ms=round((time.process_time() - own_s) * 1000 / taken, 3),
                turned_away=sender.tally.turned_away,
            )
            emit("storm_p99", quantile(sender.tally.latencies_s, 0.99) * 1000, "ms")
            time.sleep(1.5)
        emit_held("storm_deadlocks", count_deadlocks(fleet) - deadlocks, "deadlocks", most=0)
        emit_held("storm_refused", sender.tally.refused, "reports", most=0)
        emit_held("storm_not_exactly_once", count_unequal(fleet, before, stations), "hosts", most=0)
        hold_tellings("storm", fleet.engine, stations)
        with fleet.engine.connect() as connection:
            emit_held("storm_wrong_counts", len(check_tallies(connection)), "counts", most=0)
        fleet.engine.dispose()
    return 1 if MISSED else 0


async def warm_up(sender: Fleet) -> None:
    """Until both workers have started and know their statements."""
    await sender.pace(200, 6.0)
    sender.close()


async def reach_all(sender: Fleet) -> None:
    kinds = ("policy", "probes")
    await sender.saturate(len(sender.stations), connections=CONNECTIONS, change=follow_policy, kinds=kinds)
    sender.close()


def follow_policy(station: Station) -> bool:
    """The engineers' policy reaches this workstation: another policy set, and other probes, with their bodies."""
    take_policy(station, "engineers")
    return True


def count_deadlocks(fleet: MadeFleet) -> int:
    with fleet.engine.connect() as connection:
        query = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(connection.execute(query).scalar_one())


if __name__ == "__main__":
    sys.exit(main())
