"""The JSON API: for tokens and signed-in people, the same figures as the pages, and a description that is true."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.accounts.tokens import create_token, find_bearer, revoke_token
from app.audit.record import COMMAND_LINE
from app.db.session import session_scope
from app.fleet.make import make_fleet

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)


@pytest.fixture
def token(engine: Engine) -> str:
    with session_scope(engine) as session:
        return create_token(session, "viewer", "test", None)


@pytest.fixture
def program(app: FastAPI, token: str) -> TestClient:
    """A program with a viewer's token, over a fleet that has reported."""
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines())
    return TestClient(app, base_url="http://wayleave.example", headers={"Authorization": f"Bearer {token}"})


def test_tells_what_the_pages_show(program: TestClient) -> None:
    overview = program.get("/api/v1/overview").json()
    assert overview["counted"] == 25
    blocked = {one["pattern"]: one["blocked"] for one in overview["patterns"] if one["blocked"]}
    assert blocked["cache-builds-venv-python"] == 17
    detail = program.get("/api/v1/patterns/venv-python").json()
    assert detail["total"]["blocked"] == 8
    assert len(program.get("/api/v1/patterns").json()) == 78
    assert program.get("/api/v1/heat-map").json()["rows"]
    assert program.get("/api/v1/hosts/1").json()["name"] == "SALES-000"
    assert program.get("/api/v1/exports").json() == []


def test_hosts_come_page_by_page_without_gap_or_double(program: TestClient) -> None:
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = program.get("/api/v1/hosts", params={"rows": 10} | ({"cursor": cursor} if cursor else {})).json()
        names += [host["name"] for host in page["hosts"]]
        cursor = page["next_cursor"]
    assert len(names) == len(set(names)) == 27
    assert names == sorted(names)


def test_hosts_are_filtered(program: TestClient) -> None:
    found = program.get("/api/v1/hosts", params={"pattern": "venv-python", "name": "SALES"}).json()
    assert len(found["hosts"]) == 8
    refused = program.get("/api/v1/hosts", params={"standing": "king"})
    assert (refused.status_code, refused.json()["field"]) == (422, "standing")
    assert program.get("/api/v1/hosts", params={"cursor": "nonsense"}).json()["field"] == "cursor"
    assert program.get("/api/v1/hosts/999").json()["error"] == "not_found"


def test_every_answer_fits_the_description(program: TestClient) -> None:
    paths = program.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/overview", "/api/v1/hosts", "/api/v1/patterns/{pattern_id}"} <= set(paths)
    assert not [path for path in paths if not path.startswith("/api/v1/")]


@pytest.mark.parametrize("header", ["", "Bearer wlt_invented", "Bearer ", "Basic YTpi"])
def test_without_a_good_token_nothing_is_told(app: FastAPI, header: str) -> None:
    answer = TestClient(app).get("/api/v1/overview", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["error"] == "unknown"


def test_a_revoked_token_is_refused_at_once(program: TestClient, engine: Engine, token: str) -> None:
    assert program.get("/api/v1/overview").status_code == 200
    with session_scope(engine) as session:
        bearer = find_bearer(session, token)
        assert bearer is not None
        assert not bearer.is_due_for_touch
        revoke_token(session, bearer.token_id, actor=COMMAND_LINE)
    assert program.get("/api/v1/overview").status_code == 401


def test_a_token_opens_no_page(program: TestClient) -> None:
    answer = program.get("/hosts", follow_redirects=False)
    assert answer.status_code == 303


def test_somebody_signed_in_may_ask_too(signed_in: Callable[[str], TestClient]) -> None:
    assert signed_in("viewer").get("/api/v1/overview").status_code == 200


def test_tells_of_days_groups_and_policies(engine: Engine, token: str, app: FastAPI) -> None:
    make_fleet(engine, 60, seed=2, story=True)
    program = TestClient(app, base_url="http://wayleave.example", headers={"Authorization": f"Bearer {token}"})
    trend = program.get("/api/v1/trend", params={"workflow": "sync-build", "days": 60}).json()
    assert len(trend) > 25
    assert {"day", "open", "blocked", "unknown"} == trend[0].keys()
    versions = program.get("/api/v1/versions").json()
    assert len(versions["days"]) == len(versions["versions"][0][1])
    seen = program.get("/api/v1/sightings", params={"from": "2020-01-01", "to": "2020-01-02"}).json()
    assert (len(seen["days"]), seen["patterns"]) == (2, [])
    assert program.get("/api/v1/sightings").json()["patterns"]
    assert program.get("/api/v1/sightings", params={"from": "2020-01-02", "to": "2020-01-01"}).status_code == 422
    assert {group["name"] for group in program.get("/api/v1/groups").json()} >= {"Finance", "Engineering"}
    assert program.get("/api/v1/tags").json() == []
    assert len(program.get("/api/v1/policies").json()) >= 2


def test_what_is_not_for_viewers_is_not_for_their_tokens(program: TestClient, engine: Engine, app: FastAPI) -> None:
    assert program.get("/api/v1/audit").status_code == 403
    assert program.get("/api/v1/jobs").status_code == 403
    with session_scope(engine) as session:
        strong = create_token(session, "administrator", "strong", None)
    headers = {"Authorization": f"Bearer {strong}"}
    with TestClient(app, base_url="http://wayleave.example", headers=headers) as administrator:
        assert administrator.get("/api/v1/audit", params={"search": "token"}).json()["entries"]
        assert administrator.get("/api/v1/jobs").json()[0]["name"]
