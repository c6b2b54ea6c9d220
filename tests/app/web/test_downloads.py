"""A long download whose reader goes away: the server stops asking the database, and holds no connection for it."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import event

from app.accounts.create import create_account
from app.db.session import session_scope
from app.fleet.host_filter import HostFilter, count_or_tally
from app.fleet.make import make_fleet
from app.web.guards import COOKIE
from app.web.pages import host_files

PASSWORD = "correct horse battery"
HOSTS = 1500


@pytest.fixture
def port(server: FastAPI) -> Iterator[int]:
    """The application behind a real socket: a test client would read the answer to its end."""
    running = uvicorn.Server(uvicorn.Config(server, lifespan="off", log_level="critical"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join(30)


def sign_in(port: int) -> str:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = f"email=ada%40example.com&password={PASSWORD.replace(' ', '+')}"
    line.request("POST", "/login", body, {"Content-Type": "application/x-www-form-urlencoded"})
    cookie = line.getresponse().headers["set-cookie"].partition(";")[0]
    line.close()
    assert COOKIE in cookie
    return cookie


@pytest.mark.parametrize("name", ["hosts.csv", "hosts.json"])
def test_closing_a_download_ends_its_work(
    server: FastAPI, port: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.state.engine
    make_fleet(engine, HOSTS, seed=2)
    with session_scope(engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "viewer")
    cookie = sign_in(port)
    monkeypatch.setattr(host_files, "ROWS_AT_ONCE", 1)
    asked: list[float] = []
    event.listen(engine, "before_cursor_execute", lambda *_: asked.append(time.monotonic()))

    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    line.request("GET", f"/{name}", headers={"Cookie": cookie})
    answer = line.getresponse()
    assert answer.status == 200
    assert len(answer.read(400)) == 400  # it has begun, with few of its rows made
    answer.close()
    line.close()

    deadline = time.monotonic() + 15
    while time.monotonic() - asked[-1] < 0.7:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(asked) < HOSTS
    assert engine.pool.checkedout() == 0


def test_how_long_a_list_will_be_is_told_by_the_tallies(server: FastAPI) -> None:
    engine = server.state.engine
    make_fleet(engine, 120, seed=2)
    with session_scope(engine, writes=False) as session:
        assert count_or_tally(session, HostFilter(), limit=1000) == (120, None)
        count, users = count_or_tally(session, HostFilter(), limit=50)
        assert count == 50
        assert users is not None
        assert 80 < users < 160
        blocked = HostFilter(pattern="venv-python")
        exact, _ = count_or_tally(session, blocked, limit=1000)
        _, users = count_or_tally(session, blocked, limit=10)
        assert users is not None
        assert exact <= users < 120
        # What the tallies do not know, nobody guesses.
        assert count_or_tally(session, HostFilter(name="W"), limit=10)[1] is None
