"""One host's page lets administrators approve, move, tag, revoke and erase it; each is audited, others may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.standing import HostState
from app.fleet.tables import Host, HostGroup


@pytest.fixture
def administrator(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    make_fleet(engine, 12, seed=2)
    return signed_in("administrator")


def actions(engine: Engine) -> list[str]:
    with session_scope(engine, writes=False) as session:
        every = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id))
        return [action for action in every if action.startswith("host")]


def test_out_of_quarantine(administrator: TestClient, engine: Engine) -> None:
    assert "Let it out of quarantine" not in administrator.get("/hosts/3").text
    with session_scope(engine) as session:
        session.execute(update(Host).where(Host.id == 3).values(state=HostState.QUARANTINED.value))
    assert "Let it out of quarantine" in administrator.get("/hosts/3").text
    assert administrator.post("/hosts/3/approve").status_code == 303
    assert administrator.post("/hosts/3/approve").status_code == 409, "it waits no longer"
    assert actions(engine) == ["host.approved"]


def test_into_another_group(administrator: TestClient, engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        group = session.scalars(select(HostGroup.id).where(HostGroup.name == "Workstations")).one()
    assert administrator.post("/hosts/1/move", data={"group": str(group)}).status_code == 303
    assert f'href="/hosts?group={group}">Workstations</a>' in administrator.get("/hosts/1").text
    assert administrator.post("/hosts/1/move", data={"group": ""}).status_code == 422
    assert administrator.post("/hosts/1/move", data={"group": "99999"}).status_code == 404
    assert actions(engine) == ["host.moved"]


def test_tags_come_and_go(administrator: TestClient, engine: Engine) -> None:
    assert administrator.post("/hosts/1/tags", data={"tag": "Ring 1"}).status_code == 303
    assert 'href="/hosts?tag=ring%201">ring 1</a>' in administrator.get("/hosts/1").text
    assert administrator.post("/hosts/1/tags", data={"tag": "<b>"}).status_code == 422
    assert administrator.post("/hosts/1/tags", data={"tag": "ring 1", "take": "yes"}).status_code == 303
    assert "ring%201" not in administrator.get("/hosts/1").text
    assert actions(engine) == ["hosts.tagged", "hosts.untagged"]


def test_revoking_and_erasing_say_first_what_they_do(administrator: TestClient, engine: Engine) -> None:
    assert "takes 1 user out of the counts" in administrator.get("/hosts/1/revoke").text
    assert administrator.post("/hosts/1/revoke").status_code == 303
    page = administrator.get("/hosts/1").text
    assert "/hosts/1/revoke" not in page
    assert "nothing brings them back" in administrator.get("/hosts/1/forget").text
    assert actions(engine) == ["host.revoked"], "looking at the question does nothing"
    assert administrator.post("/hosts/1/forget").headers["location"] == "/hosts"
    assert administrator.get("/hosts/1").status_code == 404
    for path in ("revoke", "forget", "approve", "move", "tags"):
        assert administrator.post(f"/hosts/1/{path}", data={"group": "1", "tag": "x"}).status_code == 404
    assert actions(engine) == ["host.revoked", "host.forgotten"]


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_may_not(engine: Engine, signed_in: Callable[[str], TestClient], role: str) -> None:
    make_fleet(engine, 3, seed=2)
    client = signed_in(role)
    assert "Manage this host" not in client.get("/hosts/1").text
    for path in ("revoke", "forget", "approve", "move", "tags"):
        assert client.post(f"/hosts/1/{path}").status_code == 403
