"""CPU of server and database per report, saturated over 64 connections, beside baselines in the same run.

Durable commits, one worker, keep-alive. The generator runs in this process; its CPU is printed and not in the figures.
`python benchmarks/ingest.py quick` measures one short round each.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from parts.changes import new_probes, other_policy, take_policy
from parts.figures import emit
from parts.postgresql import Cluster, cpu_s, running_postgresql
from parts.served import served

from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import make_standard_groups
from app.fleet.made_sets import varied_probe_set
from app.fleet.tables import KIND_NUMBERS, Pulse
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.generator import Fleet, Station

QUICK = "quick" in sys.argv[1:]
STATIONS = 2000
ROUNDS = 1 if QUICK else 5
REPORTS = {"unchanged": 6000, "known": 4000, "new": 2400}
if QUICK:
    REPORTS = {name: count // 3 for name, count in REPORTS.items()}
TARGETS_MS = {"unchanged": 0.20, "known": 0.30, "new": 0.80}
CONNECTIONS = 64
UVICORN = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "warning", "--host", "127.0.0.1"]


def main() -> int:
    """Exit code 1: a target was missed."""
    with running_postgresql() as cluster:
        mine = measure_ingest(cluster)
        others = measure_baselines(cluster)
    missed = False
    for kind, target in TARGETS_MS.items():
        emit(f"ingest_{kind}", mine[kind], "ms CPU/report", target=target)
        missed |= mine[kind] > target
    compare = [
        ("unchanged", "bare", 6.0, False),
        ("unchanged", "fastapi", 1.8, False),
        ("unchanged", "obvious", 30.0, True),
        ("known", "obvious", 18.0, True),
        ("new", "obvious", 7.0, True),
    ]
    for kind, baseline, target, faster in compare:
        ratio = others[baseline] / mine[kind] if faster else mine[kind] / others[baseline]
        missed |= ratio < target if faster else ratio > target
        emit(
            f"ingest_{kind}_{'faster_than' if faster else 'cost_of'}_{baseline}",
            mine[kind],
            "ms CPU/report",
            baseline=round(others[baseline], 4),
            ratio=round(ratio, 2),
            target=target,
        )
    return 1 if missed else 0


def measure_ingest(cluster: Cluster) -> dict[str, float]:
    """CPU milliseconds per report of each kind, and whether all counts were right afterwards."""
    url = cluster.make_database("ingest")
    engine = open_url(url.replace("postgresql://", "postgresql+psycopg://"))
    upgrade(engine)
    with session_scope(engine) as session:
        make_standard_groups(session)
        secret = create_enrolment_secret(session, uses=None)
    wayleave = [sys.executable, "-m", "app.cli.main", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="wayleave-bench-data-") as home:
        environment = {**os.environ, "WAYLEAVE_DATABASE_URL": url, "WAYLEAVE_DATA_DIR": home}
        with served(wayleave, environment) as (address, pid):
            figures = asyncio.run(measure_server(address, secret, pid, cluster))
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    with engine.connect() as connection:
        drifts = check_tallies(connection)
    emit("ingest_wrong_counts", len(drifts), "counts", target=0)
    with session_scope(engine, writes=False) as session:
        received = sum(session.scalars(Pulse.__table__.select().with_only_columns(Pulse.received)))
    emit("ingest_reports_lost_or_doubled", received - figures.pop("acknowledged"), "reports", target=0)
    engine.dispose()
    return figures


async def measure_server(address: str, secret: str, pid: int, cluster: Cluster) -> dict[str, float]:
    fleet = Fleet(address)
    await fleet.enrol(secret, STATIONS)
    await fleet.saturate(STATIONS, connections=CONNECTIONS, change=lambda _station: True)
    for station in fleet.stations:
        station.say()
    unique = itertools.count()
    figures: dict[str, float] = {}
    changes: dict[str, Callable[[Station], bool] | None] = {
        "unchanged": None,
        "known": other_policy,
        "new": lambda station: new_probes(station, next(unique)),
    }
    # Both policies are known to the server before "known" is measured.
    for policy in ("engineers", "defaults"):
        for station in fleet.stations[:4]:
            take_policy(station, policy)
            await fleet.report(station, bodies=True)
    for kind, change in changes.items():
        rounds = []
        for _ in range(ROUNDS):
            before, own, began_s = cpu_s(pid, cluster.pid), time.process_time(), time.perf_counter()
            database = cpu_s(cluster.pid)
            acknowledged = fleet.tally.acknowledged
            await fleet.saturate(REPORTS[kind], connections=CONNECTIONS, change=change, kinds=("probes",))
            took_s = time.perf_counter() - began_s
            taken = fleet.tally.acknowledged - acknowledged
            rounds.append((cpu_s(pid, cluster.pid) - before) * 1000 / taken)
            generator_ms = (time.process_time() - own) * 1000 / taken
            database_ms = (cpu_s(cluster.pid) - database) * 1000 / taken
        figures[kind] = statistics.median(rounds)
        emit(
            f"ingest_{kind}_rate",
            taken / took_s,
            "reports/s",
            generator_ms=round(generator_ms, 3),
            database_ms=round(database_ms, 3),
        )
    for name, new_connection in (("ingest_unchanged_at_300", False), ("ingest_unchanged_new_connection", True)):
        paced = Fleet(address, new_connection=new_connection)
        paced.stations = fleet.stations
        before = cpu_s(pid, cluster.pid)
        if new_connection:
            await paced.saturate(REPORTS["unchanged"] // 2, connections=CONNECTIONS)
        else:
            await paced.pace(300, 3 if QUICK else 10)
        value = (cpu_s(pid, cluster.pid) - before) * 1000 / paced.tally.acknowledged
        emit(name, value, "ms CPU/report", target=0.45 if new_connection else 0.90)
        fleet.tally.acknowledged += paced.tally.acknowledged
        paced.close()
    fleet.close()
    if fleet.tally.refused or fleet.tally.lost:
        raise SystemExit(f"{fleet.tally.refused} reports were refused, {fleet.tally.lost} lost")
    figures["acknowledged"] = fleet.tally.acknowledged
    return figures


def measure_baselines(cluster: Cluster) -> dict[str, float]:
    """CPU milliseconds per request of each baseline."""
    findings = [
        {
            "pattern": one["pattern"],
            "outcome": one["outcome"],
            "engine": one["engine"] or "",
            "error": one["error"] or 0,
        }
        for one in json.loads(varied_probe_set(1).body)["probes"]
    ]
    report = json.dumps({"name": "PC-%07d", "findings": findings}).replace("%07d", "{:07}")
    small = json.dumps({"sets": dict.fromkeys(KIND_NUMBERS, "sha256:" + "0" * 64), "pad": "x" * 150}).encode()
    environment = {**os.environ, "BENCH_DATABASE": cluster.make_database("obvious").replace("://", "+psycopg://", 1)}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    figures = {}
    for name, factory, count in (("bare", False, 8000), ("fastapi", True, 6000), ("obvious", True, 600)):
        command = [*UVICORN, f"parts.baselines:{name}", *(["--factory"] if factory else [])]
        bodies = (
            (report[:9] + f'"PC-{number:07}"' + report[report.index(", ") :]).encode() for number in itertools.count()
        )
        make: Callable[[], bytes] = (lambda bodies=bodies: next(bodies)) if name == "obvious" else lambda: small
        with served(command, environment, listen=True) as (address, pid):
            figures[name] = asyncio.run(measure_baseline(address, pid, cluster, count // (3 if QUICK else 1), make))
        emit(f"baseline_{name}", figures[name], "ms CPU/request")
    return figures


async def measure_baseline(address: str, pid: int, cluster: Cluster, count: int, make: Callable[[], bytes]) -> float:
    fleet = Fleet(address)
    head = fleet._head("/api/v1/reports")

    async def send(numbers: Iterator[int]) -> None:
        for _ in numbers:
            body = make()
            answer = await fleet._ask(head + b"%d\r\n\r\n" % len(body) + body)
            if answer.status != 200:
                raise SystemExit(f"baseline: {answer.status} {answer.body[:200]!r}")

    rounds = []
    for each in range(ROUNDS + 1):
        numbers = iter(range(count // 4 if each == 0 else count))
        before = cpu_s(pid, cluster.pid)
        await asyncio.gather(*(send(numbers) for _ in range(16 if count <= 600 else CONNECTIONS)))
        rounds.append((cpu_s(pid, cluster.pid) - before) * 1000 / count)
    fleet.close()
    return statistics.median(rounds[1:])


if __name__ == "__main__":
    sys.exit(main())
