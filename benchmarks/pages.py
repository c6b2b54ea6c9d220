"""What every page costs the database, and how soon it begins to arrive, while 300 reports a second come in.

Fleets of 10,000 to 1,000,000 hosts with 1,000 to 100,000 distinct sets of probes, a tenth of the reports changed.
Also the worst of the host lists. FULL=1: all of it; else two small fleets. Usage: pages.py [HOSTS:SETS...] [PAGE...]
"""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import random
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI
from parts.changes import other_policy
from parts.content import fill
from parts.figures import MISSED, emit, emit_held, quantile
from parts.fleets import KEY, MadeFleet, make_measured_fleet, pick_stations, serving
from parts.postgresql import Cluster, running_postgresql
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from agent import catalogue
from app.accounts.create import create_account
from app.db.session import session_scope
from app.fleet.make import DEPARTMENTS
from app.fleet.queries_hosts import HostFilter, count_fitting, list_hosts
from app.fleet.standing import Standing
from app.fleet.workflows import VERDICTS
from app.ingest.generator import Fleet, Station
from app.main import create_app
from app.settings import Settings

FULL = os.environ.get("FULL") == "1"
SIZES = (
    ((10_000, 10_000), (100_000, 10_000), (1_000_000, 10_000), (1_000_000, 1_000), (1_000_000, 100_000))
    if FULL
    else ((10_000, 1_000), (50_000, 10_000))
)
"""Hosts and distinct sets of probes."""
ROUNDS = 21 if FULL else 6
RATE = 300
CHANGED, LEAST_CHANGED = 0.1, 0.08
STATIONS = 6000
MOST_GROWTH, LEAST_MS = 3.0, 10.0
PAGE_MS, TALLIES_MS, LIST_MS, FIRST_BYTE_MS = 50.0, 20.0, 250.0, 100.0
FROM_TALLIES = ("/", "/patterns", "/api/v1/heat-map")
Sent = tuple[float, float, int]
"""Reports a second, the share that told of a change, how many were not taken."""
NOT_MEASURED = re.compile(
    r"/login|/healthz|/readyz|\.csv|\.json|/sso|/static|/account/codes|/invitation|/files/|/bundle|/file$"
)
"""Files are streamed; before the login there is no fleet; a piece of work is looked at by a page that is measured."""
BEYOND = (
    "/hosts?pattern=venv-python&outcome=blocked",
    "/hosts?version=0.7.12",
    "/hosts?workflow=sync-build&verdict=unknown",
    "/hosts?seen=older",
    "/hosts?seen=week",
    "/hosts?seen=week&standing=counted",
    "/hosts?tag=pilot",
    "/hosts?engine=applocker",
    "/hosts?gap=yes",
    "/sightings?by=path",
    "/sightings?by=identity",
    "/search?q=python",
    "/export?pattern=venv-python",
    "/workflows?pattern=cache-builds-venv-python",
    "/preflight?from=0.12.9&to=0.13.8",
)
"""Pages with what they may be asked for."""


def main() -> int:
    """Exit code 1: a target was missed."""
    wanted = [tuple(map(int, one.split(":"))) for one in sys.argv[1:] if not one.startswith("/")]
    only = [one for one in sys.argv[1:] if one.startswith("/")]
    sql_ms: dict[tuple[int, int], dict[str, float]] = {}
    with running_postgresql("wal_compression=lz4") as cluster, tempfile.TemporaryDirectory() as home:
        for hosts, sets in wanted or SIZES:
            sql_ms[hosts, sets] = measure(cluster, Path(home), hosts, sets, only)
    hold_flatness(sql_ms)
    return 1 if MISSED else 0


def hold_flatness(sql_ms: Mapping[tuple[int, int], Mapping[str, float]]) -> None:
    """The page that grows most from the fewest to the most hosts, among fleets of as many distinct sets."""
    for sets in sorted({sets for _hosts, sets in sql_ms}):
        sizes = sorted(hosts for hosts, those in sql_ms if those == sets)
        if len(sizes) < 2:
            continue
        few, many = sql_ms[sizes[0], sets], sql_ms[sizes[-1], sets]
        # Below some milliseconds a ratio would tell of noise.
        grown = {page: many[page] / max(few[page], LEAST_MS) for page in many if page in few}
        worst = max(grown, key=lambda page: grown[page])
        found = {"page": worst, "hosts": sizes[-1], "sets": sets, "from_hosts": sizes[0]}
        emit_held("page_sql_growth", grown[worst], "times", most=MOST_GROWTH, **found)


def measure(cluster: Cluster, home: Path, hosts: int, sets: int, only: list[str]) -> dict[str, float]:
    """All pages over one fleet. What each costs the database, in ms, p95."""
    fleet = make_measured_fleet(cluster, hosts, profile="uniform", variants=sets)
    named = fill(fleet.engine, fleet.first_host)
    email, password = "ada@example.com", secrets.token_urlsafe(16)
    with session_scope(fleet.engine) as session:
        create_account(session, email, password, "administrator")
    context = multiprocessing.get_context("spawn")
    stop, told = context.Event(), context.Queue()
    more = {"hosts": fleet.hosts, "sets": sets}
    with serving(fleet, home) as (address, _pid):
        sending = context.Process(
            target=send_reports, args=(address, fleet.hosts, fleet.first_host, fleet.variants, stop, told), daemon=True
        )
        sending.start()
        app = create_app(Settings(data_dir=home, database_url=fleet.url, server_key=KEY.hex(), base_url=address))
        client = TestClient(app, base_url=address, follow_redirects=False)
        answer = client.post("/login", data={"email": email, "password": password})
        if answer.status_code != 303:
            raise SystemExit(f"could not sign in: {answer.status_code}")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        time.sleep(6)
        try:
            sql_ms = measure_pages(app, client, address, cookie, only or list(find_pages(app, named)), more)
            if not only:
                measure_lists(app.state.engine, fleet, sets)
        finally:
            stop.set()
            sent = told.get(timeout=60) if sending.is_alive() else None
            sending.join(60)
    hold_load(sent, more)
    app.state.engine.dispose()
    fleet.engine.dispose()
    return sql_ms


def hold_load(sent: Sent | None, more: Mapping[str, int]) -> None:
    """Pages of a server that is left alone would be no finding."""
    rate, changed, failed = sent or (0.0, 0.0, 0)
    emit_held("pages_report_rate", rate, "reports/s", least=0.95 * RATE, **more)
    emit_held("pages_changed_share", changed, "", least=LEAST_CHANGED, **more)
    emit_held("pages_reports_failed", failed, "reports", most=0, **more)


def measure_pages(
    app: FastAPI, client: TestClient, address: str, cookie: str, pages: list[str], more: dict[str, int]
) -> dict[str, float]:
    """SQL of every page in this process; the first byte from the server that takes the reports."""
    sql_ms: dict[str, list[float]] = {page: [] for page in pages}
    first_ms: dict[str, list[float]] = {page: [] for page in pages}
    skipped: dict[str, int] = {}
    with timed(app.state.engine) as spent:
        for turn in range(ROUNDS + 1):
            for page in pages:
                if page in skipped:
                    continue
                spent.clear()
                answer = client.get(page)
                if answer.status_code != 200:
                    skipped[page] = answer.status_code
                    continue
                took = first_byte_ms(address, cookie, page)
                if turn:
                    sql_ms[page].append(sum(spent))
                    first_ms[page].append(took)
    emit_held("pages_not_measured", len(skipped), "pages", most=0, which=skipped, **more)
    pages = [page for page in pages if page not in skipped]
    for page in pages:
        sql, first = quantile(sql_ms[page], 0.95), quantile(first_ms[page], 0.95)
        is_list = page.startswith("/hosts?pattern=")
        most = TALLIES_MS if page in FROM_TALLIES else LIST_MS if is_list else PAGE_MS
        emit_held("page_sql_p95", sql, "ms", most=most, page=page, **more)
        most = LIST_MS if is_list else FIRST_BYTE_MS
        emit_held("page_first_byte_p95", first, "ms", most=most, page=page, **more)
    return {page: quantile(sql_ms[page], 0.95) for page in pages}


def find_pages(app: FastAPI, named: Mapping[str, str]) -> Iterator[str]:
    """Every address that a browser is shown, with what `named` has for its parts. raises: SystemExit if it lacks one"""
    found = {
        route.path
        for included in app.routes
        for route in getattr(included, "effective_route_contexts", lambda: ())()
        if "GET" in (route.methods or ())
    }
    if len(found) < 20:
        raise SystemExit("the application's pages could not be listed")
    for path in sorted(found):
        if NOT_MEASURED.search(path) or path.startswith("/api/"):
            continue
        try:
            yield path.format_map(named)
        except KeyError as error:
            raise SystemExit(f"{path}: parts/content.py names no {error}") from error
    yield "/api/v1/heat-map"
    for more in ("state=blocked", "state=open", "stage=missing&state=blocked", "reason=not-arrived"):
        yield f"/exports/{named['package_id']}/hosts?{more}"
    yield from BEYOND


def measure_lists(engine: Engine, fleet: MadeFleet, sets: int) -> None:
    """Host lists by everything they can be filtered by: the worst."""
    filters = [HostFilter(version=one) for one in sorted({v or "" for d in DEPARTMENTS for v, _share in d.versions})]
    patterns = [one.id for one in catalogue.load().patterns if one.is_executed]
    filters += [HostFilter(pattern=one, outcome=outcome) for one in patterns for outcome in ("blocked", "allowed")]
    filters += [HostFilter(pattern=one, outcome="error") for one in patterns[::4]]
    filters += [HostFilter(workflow=one.id, verdict=v) for one in catalogue.load().workflows for v in VERDICTS]
    filters += [HostFilter(standing=one) for one in Standing]
    filters += [HostFilter(version="0.7.12", pattern=patterns[0]), HostFilter(name="R"), HostFilter(name="FIN-0")]
    took: list[tuple[float, str]] = []
    with timed(engine) as spent:
        for wanted in filters:
            rounds = []
            for _ in range(3):
                spent.clear()
                with session_scope(engine, writes=False) as session:
                    list_hosts(session, wanted)
                    count_fitting(session, wanted)
                rounds.append(sum(spent))
            took.append((max(rounds), describe(wanted)))
    took.sort(reverse=True)
    more = {"hosts": fleet.hosts, "sets": sets, "lists": len(filters)}
    emit_held("host_list_worst", took[0][0], "ms", most=LIST_MS, which=took[0][1], **more)
    emit("host_list_p95", quantile([one for one, _which in took], 0.95), "ms", **more)


def describe(wanted: HostFilter) -> str:
    values = {name: getattr(wanted, name) for name in ("name", "pattern", "version", "workflow", "standing")}
    named = {name: str(value) for name, value in values.items() if value not in (None, "")}
    if wanted.pattern:
        named["outcome"] = wanted.outcome
    if wanted.workflow:
        named["verdict"] = wanted.verdict
    return urlencode(named) or "version="


class timed:
    """The milliseconds of each statement while it lasts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.spent: list[float] = []

    def __enter__(self) -> list[float]:
        event.listen(self._engine, "before_cursor_execute", self._begin)
        event.listen(self._engine, "after_cursor_execute", self._end)
        return self.spent

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._begin)
        event.remove(self._engine, "after_cursor_execute", self._end)

    def _begin(self, _connection: object, _cursor: object, _statement: str, _values: object, context: object, _: bool):
        context.began_s = time.perf_counter()

    def _end(self, _connection: object, _cursor: object, _statement: str, _values: object, context: object, _: bool):
        self.spent.append((time.perf_counter() - context.began_s) * 1000)


def first_byte_ms(address: str, cookie: str, page: str) -> float:
    """From a request to the head of its answer, over a connection that is open."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.connect()
    began_s = time.perf_counter()
    connection.request("GET", page, headers={"Cookie": cookie})
    answer = connection.getresponse()
    took_ms = (time.perf_counter() - began_s) * 1000
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{page} answers {answer.status}")
    return took_ms


def send_reports(address: str, hosts: int, first_host: int, variants: int, stop: Event, told: Queue[Sent]) -> None:
    """In a process of its own: 300 reports a second, a tenth of them changed, until told to stop; then tells of it."""
    fleet = MadeFleet(
        url="",
        engine=None,
        hosts=hosts,
        profile="uniform",
        variants=variants,
        first_host=first_host,
    )
    sender = Fleet(address)
    pick_stations(sender, fleet, min(STATIONS, hosts))
    chance = random.Random(3)
    changed = 0

    def change(station: Station) -> bool:
        nonlocal changed
        if chance.random() < CHANGED:
            other_policy(station)
            changed += 1
        return False

    began_s = time.perf_counter()
    while not stop.is_set():
        asyncio.run(_send_for(sender, change))
    tally = sender.tally
    taken, failed = tally.acknowledged, tally.refused + tally.turned_away + tally.lost
    told.put((taken / (time.perf_counter() - began_s), changed / max(taken, 1), failed))


async def _send_for(sender: Fleet, change: Callable[[Station], bool]) -> None:
    await sender.pace(RATE, 5.0, change=change)
    sender.close()


if __name__ == "__main__":
    sys.exit(main())
