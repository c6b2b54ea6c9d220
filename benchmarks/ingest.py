"""CPU of server and database per report, saturated over 64 connections, beside baselines in the same run.

Durable commits, one worker, keep-alive; one in twenty reports tells sightings, one in twenty uses of rules, also of
those that say nothing new. The generator runs in this process; its CPU is printed and not in the figures.
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
from parts.figures import MISSED, emit, emit_held, emit_ratio
from parts.fleets import hold_tellings
from parts.postgresql import Cluster, cpu_s, running_postgresql
from parts.served import served
from sqlalchemy import select

from app.db.engine import open_url
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.groups import make_standard_groups
from app.fleet.made_sets import varied_probe_set
from app.fleet.tables import KIND_NUMBERS, Pulse, Subject
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.generator import Fleet, Station

QUICK = "quick" in sys.argv[1:]
STATIONS = 2000
ROUNDS = 1 if QUICK else 5
REPORTS = {"unchanged": 6000, "known": 4000, "new": 2400}
if QUICK:
    REPORTS = {name: count // 3 for name, count in REPORTS.items()}
TARGETS_MS = {"unchanged": 0.20, "known": 0.30, "new": 0.80}
FORMS_MS = {"at_300": 0.90, "new_connection": 0.45}
"""Other forms in which reports come, and the targets for those that say nothing new."""
FORM_ROUNDS = 1 if QUICK else 3
PACED_S = 2.0 if QUICK else 5.0
CONNECTIONS = 64
UVICORN = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "warning", "--host", "127.0.0.1"]


def main() -> int:
    """Exit code 1: a target was missed."""
    with running_postgresql() as cluster:
        mine = measure_ingest(cluster)
        others = measure_baselines(cluster)
    for kind, target in TARGETS_MS.items():
        emit_held(f"ingest_{kind}", mine[kind], "ms CPU/report", most=target)
    compare = [
        ("unchanged", "bare", 6.0, False),
        ("unchanged", "fastapi", 1.8, False),
        ("unchanged", "obvious", 30.0, True),
        ("known", "obvious", 18.0, True),
        ("new", "obvious", 7.0, True),
    ]
    for kind, baseline, target, faster in compare:
        ratio = others[baseline] / mine[kind] if faster else mine[kind] / others[baseline]
        emit_ratio(
            f"ingest_{kind}_{'faster_than' if faster else 'cost_of'}_{baseline}",
            mine[kind],
            "ms CPU/report",
            baseline=others[baseline],
            ratio=ratio,
            least=target if faster else None,
            most=None if faster else target,
        )
    return 1 if MISSED else 0


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
            figures, stations = asyncio.run(measure_server(address, secret, pid, cluster))
    hold_tellings("ingest", engine, stations)
    with engine.connect() as connection:
        drifts = check_tallies(connection)
    emit_held("ingest_wrong_counts", len(drifts), "counts", most=0)
    with session_scope(engine, writes=False) as session:
        received = dict(
            session.execute(select(Subject.host_id, Pulse.received).join(Pulse, Pulse.subject_id == Subject.id)).all()
        )
    wrong = sum(received.get(int(one.host_id)) != one.acknowledged for one in stations)
    emit_held("ingest_not_exactly_once", wrong, "hosts", most=0)
    engine.dispose()
    return figures


async def measure_server(
    address: str, secret: str, pid: int, cluster: Cluster
) -> tuple[dict[str, float], list[Station]]:
    """What each kind of report costs, and the stations with what was acknowledged to them."""
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
            cpu_ms=round(figures[kind], 4),
            generator_ms=round(generator_ms, 3),
            database_ms=round(database_ms, 3),
        )
        if kind == "unchanged":
            await measure_telling_nothing(address, fleet.stations, pid, cluster)
        # Before the next kind: what new sets leave to be tidied is not the price of reports that say nothing new.
        for form in FORMS_MS:
            await measure_form(address, fleet.stations, kind, change, form, pid, cluster)
    fleet.close()
    emit_held("ingest_refused_or_cut", fleet.tally.refused + fleet.tally.lost, "reports", most=0)
    return figures, fleet.stations


async def measure_telling_nothing(address: str, stations: list[Station], pid: int, cluster: Cluster) -> None:
    """Prints what reports cost that say nothing new and tell neither sightings nor uses of rules."""
    alone = Fleet(address, tells=0.0)
    alone.stations = stations
    rounds = []
    for _ in range(ROUNDS):
        before = cpu_s(pid, cluster.pid)
        await alone.saturate(REPORTS["unchanged"], connections=CONNECTIONS)
        rounds.append((cpu_s(pid, cluster.pid) - before) * 1000 / REPORTS["unchanged"])
    alone.close()
    emit("ingest_unchanged_telling_nothing", statistics.median(rounds), "ms CPU/report")


async def measure_form(
    address: str,
    stations: list[Station],
    kind: str,
    change: Callable[[Station], bool] | None,
    form: str,
    pid: int,
    cluster: Cluster,
) -> None:
    """Prints what reports cost that come one by one at 300 a second, or each over a connection of its own."""
    rounds = []
    for _ in range(FORM_ROUNDS):
        paced = Fleet(address, new_connection=form == "new_connection")
        paced.stations = stations
        before = cpu_s(pid, cluster.pid)
        if form == "new_connection":
            await paced.saturate(REPORTS[kind] // 2, connections=CONNECTIONS, change=change, kinds=("probes",))
        else:
            await paced.pace(300, PACED_S, change=change, kinds=("probes",))
        rounds.append((cpu_s(pid, cluster.pid) - before) * 1000 / paced.tally.acknowledged)
        paced.close()
    most = FORMS_MS[form] if kind == "unchanged" else None
    emit_held(f"ingest_{kind}_{form}", statistics.median(rounds), "ms CPU/report", most=most)


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
