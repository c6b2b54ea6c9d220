"""My account: the password changes, and other sessions end."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.session import session_scope

PASSWORD = "correct horse battery"
NEW = "another staple altogether"
GOOD = {"current": PASSWORD, "password": NEW, "repeated": NEW}


def test_changes_the_password_and_ends_other_sessions(
    app: FastAPI, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client = signed_in("viewer")
    elsewhere = TestClient(app, base_url=str(client.base_url), follow_redirects=False)
    elsewhere.post("/login", data={"email": "viewer@example.com", "password": PASSWORD})
    assert elsewhere.get("/account").status_code == 200
    answer = client.post("/account/password", data=GOOD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?changed=true")
    assert "Your password is changed" in client.get("/account?changed=true").text
    assert elsewhere.get("/account").status_code == 303
    assert elsewhere.post("/login", data={"email": "viewer@example.com", "password": PASSWORD}).status_code == 422
    assert elsewhere.post("/login", data={"email": "viewer@example.com", "password": NEW}).status_code == 303
    with session_scope(engine, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "account.password_changed")).one()
        assert entry.actor == "viewer@example.com"
        assert entry.detail == {"sessions_ended": 1}


def test_one_session_is_ended_and_only_ones_own(
    app: FastAPI, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client, other = signed_in("viewer"), signed_in("analyst")
    elsewhere = TestClient(app, base_url=str(client.base_url), follow_redirects=False)
    elsewhere.post("/login", data={"email": "viewer@example.com", "password": PASSWORD})
    (path,) = re.findall(r'action="(/account/sessions/\d+/end)"', client.get("/account").text)
    assert other.post(path).status_code == 404
    assert elsewhere.get("/account").status_code == 200
    answer = client.post(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    assert elsewhere.get("/account").status_code == 303
    assert client.get("/account").status_code == 200
    assert client.post(path).status_code == 404
    with session_scope(engine, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "session.ended")).one()
        assert entry.actor == "viewer@example.com"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"current": "wrong"}, "current"),
        ({"repeated": "something else entirely"}, "repeated"),
        ({"password": "short", "repeated": "short"}, "password"),
        ({"password": "x" * 201, "repeated": "x" * 201}, "password"),
    ],
)
def test_a_refused_change_changes_nothing(
    signed_in: Callable[[str], TestClient], change: dict[str, str], field: str
) -> None:
    client = signed_in("viewer")
    answer = client.post("/account/password", data={**GOOD, **change})
    assert answer.status_code == 422
    assert f'id="{field}-note"' in answer.text
    assert client.post("/account/password", data=GOOD).status_code == 303


def test_statements_are_bounded(signed_in: Callable[[str], TestClient], statements: list[str]) -> None:
    client = signed_in("viewer")
    statements.clear()
    client.get("/account")
    assert len([one for one in statements if not one.startswith("BEGIN")]) <= 5


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/account/password", {"password": NEW, "repeated": NEW}),
        ("/account/codes/remove", {}),
    ],
)
def test_guessing_the_current_password_is_counted_audited_and_locks(
    signed_in: Callable[[str], TestClient], anonymous: TestClient, engine: Engine, path: str, form: dict[str, str]
) -> None:
    client = signed_in("viewer")
    for _ in range(5):
        refused = client.post(path, data={"current": "a wrong guess", **form})
        assert (refused.status_code, "not your current password" in refused.text) == (422, True)
    locked = client.post(path, data={"current": PASSWORD, **form})
    assert (locked.status_code, "too many wrong passwords" in locked.text) == (422, True)
    good = {"email": "viewer@example.com", "password": PASSWORD}
    assert anonymous.post("/login", data=good).status_code == 422, "the pause holds for signing in, too"
    with session_scope(engine, writes=False) as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "password.refused")).all()
        assert [one.detail["why"] for one in entries] == ["wrong current password"] * 5 + ["locked"]
        assert {one.actor for one in entries} == {"viewer@example.com"}
        assert session.scalars(select(AuditEntry).where(AuditEntry.action == "account.locked")).one()


def test_a_right_password_forgets_the_failures_before(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("viewer")
    wrong = GOOD | {"current": "a wrong guess"}
    assert [client.post("/account/password", data=wrong).status_code for _ in range(4)] == [422] * 4
    assert client.post("/account/password", data=GOOD).status_code == 303
    again = {"current": NEW, "password": PASSWORD, "repeated": PASSWORD}
    assert client.post("/account/password", data=wrong).status_code == 422
    assert client.post("/account/password", data=again).status_code == 303
