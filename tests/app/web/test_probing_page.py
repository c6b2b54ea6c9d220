"""The kill switch for people and programs: stop, see, resume; who may; what is said of it in the audit log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event, select
from starlette.testclient import TestClient

from app.accounts.roles import Role
from app.accounts.tokens import create_token
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.groups import get_or_make_group, make_standard_groups
from app.fleet.probing import MAX_REASON

SignIn = Callable[[str], TestClient]


@pytest.fixture
def sales(app: FastAPI, engine: Engine) -> int:
    with session_scope(engine) as session:
        make_standard_groups(session)
        return get_or_make_group(session, "Sales").id


@pytest.fixture
def admin(sales: int, signed_in: SignIn) -> TestClient:
    return signed_in("administrator")


def entries(engine: Engine) -> list[tuple[str, str | None, str]]:
    with session_scope(engine, writes=False) as session:
        found = session.scalars(select(AuditEntry).where(AuditEntry.action.like("probing.%")).order_by(AuditEntry.id))
        return [(one.action, one.target, one.actor) for one in found]


def test_probing_is_stopped_for_all_and_goes_on(admin: TestClient, engine: Engine) -> None:
    assert "is on everywhere" in admin.get("/agents").text
    assert admin.post("/agents/probing/stop", data={"reason": "<b>toasts</b>"}).status_code == 303
    page = admin.get("/agents").text
    assert "Probing is stopped</h2>" in page
    assert "&lt;b&gt;toasts&lt;/b&gt;" in page
    assert admin.post("/agents/probing/resume", data={"group": ""}).status_code == 303
    assert "is on everywhere" in admin.get("/agents").text
    who = "administrator@example.com"
    assert entries(engine) == [("probing.stopped", "all hosts", who), ("probing.resumed", "all hosts", who)]


def test_probing_is_stopped_for_one_group(admin: TestClient, engine: Engine, sales: int) -> None:
    assert admin.post("/agents/probing/stop", data={"group": str(sales)}).status_code == 303
    assert "is stopped in 1 group" in admin.get("/agents").text
    assert admin.post("/agents/probing/resume", data={"group": str(sales)}).status_code == 303
    assert [entry[1] for entry in entries(engine)] == ["Sales", "Sales"]


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"group": "4711"}, 404, "no such group"),
        ({"group": "all"}, 422, "Choose a group"),
        ({"reason": "a\x07b"}, 422, "one line"),
        ({"reason": "x" * (MAX_REASON + 1)}, 422, ""),
    ],
)
def test_what_cannot_be_stopped_comes_back_with_the_form(
    admin: TestClient, engine: Engine, form: dict[str, str], status: int, words: str
) -> None:
    answer = admin.post("/agents/probing/stop", data=form)
    assert answer.status_code == status
    assert words in answer.text
    assert entries(engine) == []


def test_twice_is_a_conflict_and_resuming_nothing_is_404(admin: TestClient) -> None:
    assert admin.post("/agents/probing/stop", data={}).status_code == 303
    answer = admin.post("/agents/probing/stop", data={"reason": "again"})
    assert answer.status_code == 409
    assert "stopped already" in answer.text
    assert 'value="again"' in answer.text
    admin.post("/agents/probing/resume", data={})
    assert admin.post("/agents/probing/resume", data={}).status_code == 404


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_other_roles_may_not(sales: int, signed_in: SignIn, engine: Engine, role: str) -> None:
    client = signed_in(role)
    for path in ("/agents/probing/stop", "/agents/probing/resume"):
        assert client.post(path, data={}).status_code == 403
    assert client.post("/api/v1/probing", json={"probing": False}).status_code == 403
    assert entries(engine) == []


def test_nobody_is_led_to_the_login(anonymous: TestClient, sales: int) -> None:
    assert anonymous.post("/agents/probing/stop", data={}, follow_redirects=False).status_code == 303
    assert anonymous.get("/api/v1/probing").status_code == 401


def test_a_program_stops_and_resumes(anonymous: TestClient, engine: Engine, sales: int) -> None:
    with session_scope(engine) as session:
        writes = create_token(session, Role.ADMINISTRATOR, "runbook", None)
        reads = create_token(session, Role.VIEWER, "reader", None)
    bearer = {"Authorization": f"Bearer {writes}"}
    answer = anonymous.post(
        "/api/v1/probing", json={"probing": False, "group_id": sales, "reason": "CAB"}, headers=bearer
    )
    assert answer.status_code == 200, answer.text
    (told,) = answer.json()["stops"]
    assert (told["group_id"], told["group"], told["reason"], told["stopped_by"]) == (sales, "Sales", "CAB", "runbook")
    seen = anonymous.get("/api/v1/probing", headers={"Authorization": f"Bearer {reads}"})
    assert seen.json() == answer.json()
    refused = anonymous.post("/api/v1/probing", json={"probing": True}, headers={"Authorization": f"Bearer {reads}"})
    assert refused.status_code == 403
    assert (
        anonymous.post("/api/v1/probing", json={"probing": True, "group_id": 4711}, headers=bearer).status_code == 404
    )
    assert anonymous.post("/api/v1/probing", json={"probing": "no"}, headers=bearer).status_code == 422
    answer = anonymous.post("/api/v1/probing", json={"probing": True, "group_id": sales}, headers=bearer)
    assert answer.json() == {"stops": []}
    assert [entry[2] for entry in entries(engine)] == ["runbook", "runbook"]


def test_the_page_takes_as_many_statements_with_stops_as_without(admin: TestClient, engine: Engine, sales: int) -> None:
    def statements() -> int:
        seen: list[str] = []

        def note(*arguments: object) -> None:
            seen.append(str(arguments[2]))

        event.listen(engine, "before_cursor_execute", note)
        try:
            assert admin.get("/agents").status_code == 200
        finally:
            event.remove(engine, "before_cursor_execute", note)
        return len(seen)

    before = statements()
    admin.post("/agents/probing/stop", data={})
    admin.post("/agents/probing/stop", data={"group": str(sales)})
    assert statements() == before


def test_a_trial_secret_says_so_and_a_machine_wide_one_is_installed_with(admin: TestClient) -> None:
    page = admin.post("/agents/secrets", data={"days": "7", "trial": "yes"}).text
    assert "wayleave-agent install" not in page
    assert "unattested" in page
    assert "for trials" in page
    page = admin.post("/agents/secrets", data={"days": "7"}).text
    assert "wayleave-agent install --server" in page
