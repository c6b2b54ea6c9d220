"""Nobody waits for ever: whose commit hangs is told to come back, who has left is dropped, events are bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, event, select, text
from starlette.testclient import TestClient

from app.db.engine import open_url
from app.db.session import session_scope
from app.fleet.incoming import Incoming
from app.fleet.tables import Host, Pulse, Sighting
from app.ingest.writer import Writer
from app.main import create_app
from app.settings import Settings
from tests.app.ingest.workstation import Workstation, enrolled


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """While it is set, no commit of the writer ends."""
    held = threading.Event()

    def wait(_connection: Connection) -> None:
        until_s = time.monotonic() + 30
        while held.is_set() and threading.current_thread().name == "report-writer" and time.monotonic() < until_s:
            time.sleep(0.01)

    event.listen(Engine, "commit", wait)
    yield held
    held.clear()
    event.remove(Engine, "commit", wait)


def test_whose_commit_hangs_is_told_to_come_back_and_counted_once(settings: Settings, hold: threading.Event) -> None:
    app = create_app(settings.model_copy(update={"answer_s": 2.0}))
    with TestClient(app, base_url="http://wayleave.example") as client:
        station = enrolled(client, app)
        assert station.send().status_code == 200
        assert client.get("/readyz").text == "ready\n"
        hold.set()
        report = station.report()
        began_s = time.monotonic()
        answer = station.send(report)
        assert (answer.status_code, answer.json()["error"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - began_s < 10
        # The group began a moment after the report came.
        while (stuck := client.get("/readyz")).status_code == 200 and time.monotonic() - began_s < 10:
            time.sleep(0.02)
        assert (stuck.status_code, stuck.text) == (503, "reports: a commit has taken longer than agents wait\n")
        hold.clear()
        until_s = time.monotonic() + 30
        while (answer := station.send(report)).status_code == 503 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert answer.status_code == 200
        with session_scope(app.state.engine, writes=False) as session:
            assert session.scalars(select(Pulse.received)).one() == 2
    app.state.engine.dispose()


class Gone(asyncio.BaseTransport):
    """A connection whose other end has left."""

    def is_closing(self) -> bool:
        return True


def test_who_has_left_is_dropped_before_the_group_forms(
    server: FastAPI, workstation: Workstation, hold: threading.Event
) -> None:
    assert workstation.send().status_code == 200
    writer: Writer = server.state.writer
    seen: list[Incoming] = []
    submit = writer.submit

    async def submit_from_gone(report: Incoming, _transport: Any = None) -> Any:
        seen.append(report)
        return await asyncio.wait_for(submit(report, Gone()), 1)

    other = enrolled(workstation.client, server, "PC-2")
    writer.submit = submit_from_gone
    try:
        with pytest.raises(TimeoutError):
            other.send()
    finally:
        writer.submit = submit
    assert len(seen) == 1
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalars(select(Pulse.received)).all() == [1], "of the other nothing is recorded"


def test_a_database_that_is_gone_is_noticed(database: Engine) -> None:
    """What the operating system is told of the connections; and how long a writer waits for locks."""
    if database.dialect.name != "postgresql":
        return
    engine = open_url(database.url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        given = driver.info.get_parameters()
        names = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
        assert [given[name] for name in names] == ["1", "10", "5", "3", "15000"]
    engine.dispose()


def test_a_lock_that_is_held_turns_reports_away(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if settings.is_sqlite:
        return
    monkeypatch.setattr("app.ingest.writer.LOCK_TIMEOUT_MS", 200)
    app = create_app(settings)
    with TestClient(app, base_url="http://wayleave.example") as client:
        station = enrolled(client, app)
        assert station.send().status_code == 200
        report = station.report()
        with app.state.engine.begin() as connection:
            connection.execute(text("SELECT 1 FROM pulse FOR UPDATE"))
            assert station.send(report).status_code == 503
        assert station.send(report).status_code == 200
    app.state.engine.dispose()


def told(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
        "record": number,
        "event_id": 8004,
        "at": "2026-11-21T07:00:00Z",
        "pattern": "venv-python",
        "path": "%OSDRIVE%\\src\\*\\.venv\\Scripts\\python.exe",
        **changes,
    }


def test_events_of_a_host_and_day_are_bounded(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"sightings_per_day": 5}))
    with TestClient(app, base_url="http://wayleave.example") as client:
        station = enrolled(client, app)
        assert station.send(sightings=[told(1), told(2)]).status_code == 200
        assert station.send(sightings=[told(3), told(4)]).status_code == 200, "unchanged, but for the events"
        report = station.report(sightings=[told(5), told(6)])
        over = station.send(report)
        assert (over.status_code, over.json()["error"], over.json()["field"]) == (429, "quota", "sightings")
        assert int(over.headers["retry-after"]) > 0
        assert station.send({**report, "sightings": [told(5)]}).status_code == 200, "nothing of it was recorded"
        assert station.send(sightings=[told(7)]).status_code == 429
        assert station.send().status_code == 200, "what it is goes on being told"
        newcomer = station.subject
        station.subject = newcomer[:-4] + "2002"
        assert station.send(sightings=[told(8)]).status_code == 429, "the day is the host's, not the user's"
        assert enrolled(client, app, "PC-2").send(sightings=[told(1)]).status_code == 200
        with session_scope(app.state.engine) as session:
            assert session.query(Sighting).count() == 6
            session.get_one(Host, 1).quota_day -= 1
        station.subject = newcomer
        assert station.send(sightings=[told(9)]).status_code == 200, "the next day"
        with session_scope(app.state.engine) as session:
            host = session.get_one(Host, 1)
            assert host.sightings_today == 1
            host.multi_session = True
        assert station.send(sightings=[told(number) for number in range(20, 30)]).status_code == 200
    app.state.engine.dispose()


def test_only_known_patterns_and_events_are_kept_the_others_counted(workstation: Workstation, server: FastAPI) -> None:
    answer = workstation.send(
        sightings=[told(1), told(2, pattern="no-such-pattern"), told(3, event_id=4711), told(4, event_id=8002)]
    )
    assert answer.status_code == 200
    assert workstation.send(sightings=[told(5, event_id=2**31 - 1)]).status_code == 200
    with session_scope(server.state.engine, writes=False) as session:
        assert [one.record for one in session.scalars(select(Sighting))] == [1]
        host = session.get_one(Host, 1)
        assert (host.sightings_today, host.sightings_left_out) == (5, 4)
