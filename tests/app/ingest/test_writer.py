"""The writer's groups: one bad report costs nobody else theirs, and the queue is bounded by count and by age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, event, select, text
from starlette.testclient import TestClient

from agent.contract.facts import HostFacts
from app.db.base import now
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.tables import Pulse
from app.main import create_app
from app.settings import Settings
from tests.app.ingest.workstation import Workstation, enrolled, probes

BAD = 666


class Hold:
    """Holds the writer at its next commit until it is let go."""

    def __init__(self) -> None:
        self.reached, self.release = threading.Event(), threading.Event()
        self.is_set = False

    def __call__(self, _connection: Connection) -> None:
        if self.is_set and threading.current_thread().name == "report-writer":
            self.is_set = False
            self.reached.set()
            assert self.release.wait(30)


@pytest.fixture
def hold() -> Iterator[Hold]:
    made = Hold()
    event.listen(Engine, "commit", made)
    yield made
    made.release.set()
    event.remove(Engine, "commit", made)


@contextmanager
def serving(settings: Settings, **changes: Any) -> Iterator[tuple[TestClient, FastAPI]]:
    app = create_app(settings.model_copy(update=changes))
    with TestClient(app, base_url="http://wayleave.example") as client:
        yield client, app
    app.state.engine.dispose()


def made(client: TestClient, app: FastAPI, count: int) -> list[Workstation]:
    stations = [enrolled(client, app, name=f"PC-{number}") for number in range(count)]
    for station in stations:
        assert station.send().status_code == 200
    return stations


def all_at_once(pool: ThreadPoolExecutor, stations: list[Workstation]) -> list[Callable[[], Any]]:
    return [pool.submit(station.send, bodies=True).result for station in stations]


def until_queued(app: FastAPI, reports: int) -> None:
    """Waits until so many reports are in the writer's queue."""
    deadline = time.monotonic() + 30
    while len(app.state.writer._queue) < reports:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuse(engine: Engine) -> None:
    """The database refuses one value, as it would one that no check of ours foresaw."""
    with engine.begin() as connection:
        if engine.name == "postgresql":
            connection.execute(text(f"ALTER TABLE pulse ADD CONSTRAINT bad CHECK (sequence <> {BAD})"))
        else:
            connection.execute(
                text(
                    f"CREATE TRIGGER bad BEFORE UPDATE ON pulse WHEN NEW.sequence = {BAD}"
                    " BEGIN SELECT RAISE(ABORT, 'bad'); END"
                )
            )


def received(app: FastAPI) -> list[int]:
    with session_scope(app.state.engine, writes=False) as session:
        return list(session.scalars(select(Pulse.received).order_by(Pulse.subject_id)))


def test_a_report_that_the_database_refuses_costs_nobody_else_theirs(settings: Settings, hold: Hold) -> None:
    with serving(settings) as (client, app), ThreadPoolExecutor(20) as pool:
        stations = made(client, app, 14)
        refuse(app.state.engine)
        stations[5].sequence = BAD - 1
        for station in stations[1:]:
            station.put(probes("allowed"))
        hold.is_set = True
        first = pool.submit(stations[0].send)
        assert hold.reached.wait(30)
        answers = all_at_once(pool, stations[1:])
        until_queued(app, 13)
        hold.release.set()
        assert first.result().status_code == 200
        statuses = [one().status_code for one in answers]
        assert statuses == [200] * 4 + [422] + [200] * 8
        assert received(app) == [2] * 5 + [1] + [2] * 8
        assert_right(app)


def test_more_than_the_queue_holds_come_back(settings: Settings, hold: Hold) -> None:
    with serving(settings, queue_reports=3) as (client, app), ThreadPoolExecutor(20) as pool:
        stations = made(client, app, 8)
        hold.is_set = True
        first = pool.submit(stations[0].send)
        assert hold.reached.wait(30)
        answers = [pool.submit(station.send, bodies=True) for station in stations[1:]]
        refused = [one.result() for one in islice(as_completed(answers, timeout=30), 4)]
        hold.release.set()
        assert [one.status_code for one in refused] == [503] * 4
        assert all(int(one.headers["retry-after"]) > 0 for one in refused)
        assert first.result().status_code == 200
        assert sorted(one.result().status_code for one in answers) == [200] * 3 + [503] * 4
        assert sorted(received(app)) == [1] * 4 + [2] * 4
        assert_right(app)


def test_who_waited_too_long_comes_back(settings: Settings, hold: Hold) -> None:
    with serving(settings, queue_age_s=0.4) as (client, app), ThreadPoolExecutor(20) as pool:
        stations = made(client, app, 5)
        hold.is_set = True
        first = pool.submit(stations[0].send)
        assert hold.reached.wait(30)
        answers = all_at_once(pool, stations[1:])
        until_queued(app, 4)
        time.sleep(0.5)
        hold.release.set()
        assert first.result().status_code == 200
        assert [one().status_code for one in answers] == [503] * 4
        assert received(app) == [2, 1, 1, 1, 1]


def test_reports_of_one_subject_in_one_group_are_taken_in_their_order(settings: Settings, hold: Hold) -> None:
    with serving(settings) as (client, app), ThreadPoolExecutor(20) as pool:
        other, station = made(client, app, 2)
        hold.is_set = True
        first = pool.submit(other.send)
        assert hold.reached.wait(30)
        reports = [station.report() for _ in range(6)]
        answers = [pool.submit(station.send, report).result for report in reversed(reports)]
        until_queued(app, 6)
        hold.release.set()
        assert first.result().status_code == 200
        assert [one().status_code for one in answers] == [200] * 6
        with session_scope(app.state.engine, writes=False) as session:
            pulse = session.scalars(select(Pulse).order_by(Pulse.subject_id)).all()[1]
        assert (pulse.sequence, pulse.received, pulse.missed) == (7, 7, 0)


def test_a_locked_sqlite_file_turns_reports_away_and_takes_them_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not settings.is_sqlite:
        return
    monkeypatch.setattr("app.db.engine.BUSY_TIMEOUT_MS", 200)
    with serving(settings) as (client, app):
        (station,) = made(client, app, 1)
        report = station.report()
        with app.state.engine.connect() as connection:
            connection.execute(text("SELECT 1"))  # BEGIN IMMEDIATE: nobody else writes
            answer = station.send(report)
            assert (answer.status_code, answer.json()["error"]) == (503, "busy")
            assert client.post("/login", data={"email": "a@example.com", "password": "x"}).status_code == 503
        assert station.send(report).status_code == 200
        assert received(app) == [2]


STATEMENTS = {"unchanged": 2, "another known set": 7, "a new set": 15, "all there is": 15}
"""Of the largest group: pulses locked and written, hosts and pointers read, sets found; pointers, hosts, quotas,
transitions, sightings and deltas written; uses of rules looked up, written, appended."""


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_group_takes_few_statements_whatever_its_size(
    settings: Settings, hold: Hold, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.is_sqlite:
        return
    seen: list[str] = []
    execute = psycopg.Cursor.execute

    def note(self: Any, query: Any, *more: Any, **named: Any) -> Any:
        if threading.current_thread().name == "report-writer":
            seen.append(str(query))
        return execute(self, query, *more, **named)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    with serving(settings) as (client, app), ThreadPoolExecutor(20) as pool:
        stations = made(client, app, 12)
        stations[0].put(probes("allowed"))
        assert stations[0].send().status_code == 200
        hold.is_set = True
        first = pool.submit(stations[0].send)
        assert hold.reached.wait(30)
        for station in stations[1:]:
            if what == "another known set":
                station.put(probes("allowed"))
            elif what == "all there is":
                station.put(probes("allowed"), HostFacts(name="PC", platform="windows", os="Windows 12"))
            elif what == "a new set":
                station.put(probes("allowed", f"pattern-{station.token[3:5].strip('_')}"))
        telling = {"sightings": [told(1)], "rule_uses": [used()]} if what == "all there is" else {}
        answers = [pool.submit(station.send, bodies=True, **telling).result for station in stations[1:]]
        until_queued(app, 11)
        seen.clear()
        hold.release.set()
        assert first.result().status_code == 200
        assert {one().status_code for one in answers} == {200}
    assert len(seen) <= STATEMENTS[what], seen


def told(record: int) -> dict[str, Any]:
    return {
        "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
        "record": record,
        "event_id": 8004,
        "at": "2026-11-21T07:00:00Z",
        "pattern": "venv-python",
        "path": "%OSDRIVE%\\x.exe",
    }


def used() -> dict[str, Any]:
    return {"rule_id": "921cc481-6e17-4653-8f75-050b80acca20", "day": now().date().isoformat(), "count": 3}


def assert_right(app: FastAPI) -> None:
    with app.state.engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
        assert check_tallies(connection) == []


@pytest.mark.postgresql
def test_the_writer_reads_no_table_whole_however_small(settings: Settings, database: Engine) -> None:
    if database.name != "postgresql":
        return
    read_whole: set[str] = set()
    commits = 0

    def look(connection: Connection) -> None:
        nonlocal commits
        if threading.current_thread().name == "report-writer":
            commits += 1
            read_whole.update(
                connection.exec_driver_sql(
                    "SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND relname <> 'probing_stop'"
                ).scalars()
            )

    event.listen(Engine, "commit", look)
    try:
        with serving(settings) as (client, app):
            for station in made(client, app, 3):
                station.put(probes("blocked"))
                assert station.send(bodies=True).status_code == 200
                assert station.send().status_code == 200
    finally:
        event.remove(Engine, "commit", look)
    assert commits >= 9
    assert read_whole == set()
