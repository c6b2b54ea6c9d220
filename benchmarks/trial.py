"""The trial form: SQLite with a full sync at each commit, one process, and every workstation of a fleet reporting.

A hundred thousand workstations that report every 15 minutes are 111 reports a second; the target is ten times that.
FULL=1: 100,000 hosts; else 5,000. Of the reports 90 % say nothing new, 9 % what is known, 1 % something new.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from parts.changes import new_probes, other_policy, take_policy
from parts.figures import MISSED, emit, emit_held, quantile
from parts.fleets import hold_tellings
from parts.postgresql import cpu_s
from parts.served import WAYLEAVE, served
from sqlalchemy import Engine, bindparam, func, insert, select, update

from app.db.base import now
from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.buckets import bucket_of
from app.fleet.check import check_tallies
from app.fleet.groups import make_standard_groups
from app.fleet.standing import HostState
from app.fleet.tables import Host, Pulse
from app.ingest.generator import Fleet, Station

FULL = os.environ.get("FULL") == "1"
HOSTS = 100_000 if FULL else 5_000
REPORTS = 40_000 if FULL else 5_000
LEAST_RATE = 1111.0
CONNECTIONS = 64
SECRET = "measured-and-thrown-away"


def main() -> int:
    """Exit code 1: a target was missed."""
    with tempfile.TemporaryDirectory(prefix="wayleave-bench-") as home:
        engine = open_url(f"sqlite:///{home}/wayleave.sqlite")
        upgrade(engine)
        ids = insert_hosts(engine)
        environment = {**os.environ, "WAYLEAVE_DATABASE_URL": "", "WAYLEAVE_DATA_DIR": home}
        with served(WAYLEAVE, environment) as (address, pid):
            acknowledged, stations = asyncio.run(measure(address, pid, ids))
        hold_tellings("trial", engine, stations)
        with engine.connect() as connection:
            emit_held("trial_wrong_counts", len(check_tallies(connection)), "counts", most=0)
        with session_scope(engine, writes=False) as session:
            received = session.scalar(select(func.sum(Pulse.received))) or 0
        emit_held("trial_lost_or_doubled", abs(received - acknowledged), "reports", most=0)
        emit("trial_database", (Path(home) / "wayleave.sqlite").stat().st_size / 1e6, "MB")
        engine.dispose()
    return 1 if MISSED else 0


def insert_hosts(engine: Engine) -> list[int]:
    """Enrolled hosts, without asking the server for each."""
    with session_scope(engine) as session:
        group_id = make_standard_groups(session)[0]
    rows = [
        {
            "group_id": group_id,
            "state": HostState.ACTIVE,
            "token_hash": hashlib.sha256(f"{SECRET}{number:08}".encode()).digest(),
            "enrolled_at": now(),
            "name": f"TRIAL-{number:06}",
            "platform": "windows",
        }
        for number in range(HOSTS)
    ]
    with engine.begin() as connection:
        ids = list(connection.scalars(insert(Host).returning(Host.id, sort_by_parameter_order=True), rows))
        # As enrolment numbers them: what joins hosts to their users goes by the bucket too.
        connection.execute(
            update(Host).where(Host.id == bindparam("of")).values(bucket=bindparam("its")),
            [{"of": host_id, "its": bucket_of(host_id)} for host_id in ids],
        )
    return ids


async def measure(address: str, pid: int, ids: list[int]) -> tuple[int, list[Station]]:
    """How many reports were acknowledged, and what the stations told; prints the figures."""
    fleet = Fleet(address)
    for number, host_id in enumerate(ids):
        name = f"TRIAL-{number:06}"
        fleet.stations.append(fleet.station(number, str(host_id), f"wl_{host_id}_{SECRET}{number:08}", name))
    for policy in ("engineers", "defaults"):
        for station in fleet.stations[:4]:
            take_policy(station, policy)
            await fleet.report(station, bodies=True)
    began_s = time.monotonic()
    await fleet.saturate(HOSTS, connections=CONNECTIONS)
    emit("trial_first_reports", HOSTS / (time.monotonic() - began_s), "reports/s", hosts=HOSTS)
    chance = random.Random(11)

    def change(station: Station) -> bool:
        drawn = chance.random()
        if drawn < 0.01:
            new_probes(station, chance.randrange(10**9))
        elif drawn < 0.1:
            other_policy(station)
        return False

    chance.shuffle(fleet.stations)
    fleet.tally.latencies_s.clear()
    before, used, own_s, began_s = fleet.tally.acknowledged, cpu_s(pid), time.process_time(), time.monotonic()
    await fleet.saturate(REPORTS, connections=CONNECTIONS, change=change)
    taken, took_s = fleet.tally.acknowledged - before, time.monotonic() - began_s
    emit_held(
        "trial_rate",
        taken / took_s,
        "reports/s",
        least=LEAST_RATE,
        hosts=HOSTS,
        cpu_ms=round((cpu_s(pid) - used) * 1000 / taken, 3),
        generator_ms=round((time.process_time() - own_s) * 1000 / taken, 3),
    )
    emit("trial_p99", quantile(fleet.tally.latencies_s, 0.99) * 1000, "ms")
    emit_held("trial_refused", fleet.tally.refused, "reports", most=0)
    fleet.close()
    return fleet.tally.acknowledged, fleet.stations


if __name__ == "__main__":
    sys.exit(main())
