"""The database goes away under a running server: everybody is told to come back, nobody gets an error of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.accounts.tokens import create_token
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.main import create_app
from app.settings import Settings
from tests.app.ingest.workstation import enrolled
from tests.app.web.test_guards import walk
from tests.faults.cluster import Cluster, made_cluster

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]
PASSWORD = "correct horse battery"
# These need no database, or answer that there is nobody to ask.
WITHOUT = {"/healthz"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with made_cluster() as made:
        made.start(options="-c fsync=off")
        yield made


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path) -> Iterator[FastAPI]:
    made = create_app(Settings(data_dir=tmp_path, database_url=cluster.url))
    upgrade(made.state.engine)
    yield made
    made.state.engine.dispose()


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_reports_are_turned_away_and_taken_later(server: FastAPI, cluster: Cluster, how: str) -> None:
    with TestClient(server, base_url="http://wayleave.example") as client:
        station = enrolled(client, server)
        assert station.send().status_code == 200
        cluster.stop(how)
        report = station.report()
        for _ in range(3):
            answer = station.send(report)
            assert (answer.status_code, answer.json()["error"]) == (503, "busy")
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        away = client.post("/api/v1/enrol", json={"contract": 1, "secret": "wle_1_" + "x" * 32, "host": {"name": "B"}})
        assert away.status_code == 503
        cluster.start()
        until_s = time.monotonic() + 30
        while (answer := station.send(report)).status_code == 503 and time.monotonic() < until_s:
            time.sleep(0.2)
        assert answer.status_code == 200
        assert station.send(report).status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_database_that_only_reads_turns_writers_away(server: FastAPI, cluster: Cluster) -> None:
    """As a standby does that has not been promoted."""

    def set_read_only(how: str) -> None:
        with psycopg.connect(
            cluster.url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {how}")
            connection.execute("SELECT pg_reload_conf()")

    with TestClient(server, base_url="http://wayleave.example", raise_server_exceptions=False) as client:
        station = enrolled(client, server)
        assert station.send().status_code == 200
        set_read_only("on")
        report = station.report()
        until_s = time.monotonic() + 30
        while (answer := station.send(report)).status_code == 200 and time.monotonic() < until_s:
            report = station.report()
        assert (answer.status_code, answer.json()["error"]) == (503, "busy")
        enrolment = {"contract": 1, "secret": "wle_1_" + "x" * 32, "host": {"name": "B"}}
        assert client.post("/api/v1/enrol", json=enrolment).status_code in (401, 503)
        assert client.post("/login", data={"email": "a@example.com", "password": "x"}).status_code in (422, 503)
        assert client.get("/login").status_code == 200
        assert client.get("/readyz").status_code == 200
        set_read_only("off")
        while (answer := station.send(report)).status_code == 503 and time.monotonic() < until_s:
            time.sleep(0.2)
        assert answer.status_code == 200


def test_no_page_and_no_api_answers_500(server: FastAPI, cluster: Cluster) -> None:
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "administrator")
        token = create_token(session, "administrator", "t", None)
    make_fleet(server.state.engine, 20)
    with TestClient(server, base_url="http://wayleave.example", follow_redirects=False) as client:
        login = {"email": "ada@example.com", "password": PASSWORD}
        assert client.post("/login", data=login).status_code == 303
        assert client.get("/").status_code == 200
        cluster.stop()
        wrong = []
        asked = 0
        for path, route in walk(list(server.routes)):
            if not isinstance(route, APIRoute) or path in WITHOUT:
                continue
            address = path.replace("{", "").replace("}", "").replace("_id", "1")
            for method in sorted(route.methods):
                headers = {"Authorization": f"Bearer {token}"} if path.startswith("/api/") else {}
                answer = client.request(method, address, headers=headers)
                asked += 1
                if answer.status_code == 503:
                    assert answer.headers["retry-after"], path
                elif answer.status_code >= 500:
                    wrong.append((method, path, answer.status_code))
        assert wrong == []
        assert asked > 40
        page = client.get("/")
        assert (page.status_code, "The server is busy or its database" in page.text) == (503, True)
        cluster.start()
        until_s = time.monotonic() + 30
        while (answer := client.get("/")).status_code == 503 and time.monotonic() < until_s:
            time.sleep(0.2)
        assert answer.status_code == 200
