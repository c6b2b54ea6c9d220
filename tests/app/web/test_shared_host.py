"""Marking a host that many users share, on its page: who may, what is written down, what the page then says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.session import session_scope
from tests.app.ingest.workstation import enrolled

SignIn = Callable[[str], TestClient]


@pytest.fixture
def host(app: FastAPI) -> str:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        assert enrolled(agents, app, "RDS-1").send().status_code == 200
    return "/hosts/1"


def test_it_is_marked_and_unmarked_and_written_down(host: str, signed_in: SignIn, engine: Engine) -> None:
    admin = signed_in("administrator")
    assert "Many users share this host" in admin.get(host).text
    assert admin.post(f"{host}/shared", data={"shared": "yes"}).status_code == 303
    page = admin.get(host).text
    assert "shared by many users" in page
    assert "Many users share this host" not in page
    assert admin.post(f"{host}/shared", data={"shared": "yes"}).status_code == 409
    assert admin.post(f"{host}/shared", data={"shared": "no"}).status_code == 303
    with session_scope(engine, writes=False) as session:
        found = session.execute(select(AuditEntry.action, AuditEntry.target).order_by(AuditEntry.id)).all()
    assert [tuple(one) for one in found if one[0].startswith("host.")] == [
        ("host.shared", "RDS-1"),
        ("host.unshared", "RDS-1"),
    ]


def test_others_may_not_and_see_no_button(host: str, signed_in: SignIn) -> None:
    for role in ("viewer", "analyst", "approver"):
        client = signed_in(role)
        assert client.post(f"{host}/shared", data={"shared": "yes"}).status_code == 403
        assert "Many users share this host" not in client.get(host).text


def test_bad_input_and_unknown_hosts_are_refused(host: str, signed_in: SignIn) -> None:
    admin = signed_in("administrator")
    assert admin.post(f"{host}/shared", data={"shared": "perhaps"}).status_code == 422
    assert admin.post("/hosts/4711/shared", data={"shared": "yes"}).status_code == 404


def test_nobody_is_led_to_the_login(host: str, anonymous: TestClient) -> None:
    assert anonymous.post(f"{host}/shared", data={"shared": "yes"}, follow_redirects=False).status_code == 303
