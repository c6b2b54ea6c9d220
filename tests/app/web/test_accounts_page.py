"""Managing accounts: invitations, roles, disabling; an administrator always remains."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.tables import Account
from app.audit.tables import AuditEntry
from app.db.session import session_scope

PASSWORD = "correct horse battery"


def account_id(engine: Engine, email: str) -> int:
    with session_scope(engine, writes=False) as session:
        return session.scalars(select(Account.id).where(Account.email == email)).one()


def actions(engine: Engine) -> list[str]:
    with session_scope(engine, writes=False) as session:
        return list(session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


def test_an_invited_person_makes_an_account_of_the_role(
    app: FastAPI, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client = signed_in("administrator")
    answer = client.post("/accounts/invitations", data={"email": "Eve@Example.com", "role": "analyst"})
    link = re.search(r"<code>(http://wayleave\.example/invitation/[^<]+)</code>", answer.text)
    assert link is not None
    assert link[1] not in client.get("/accounts").text
    eve = TestClient(app, base_url=str(client.base_url), follow_redirects=False)
    path = urlsplit(link[1]).path
    form = {"email": "somebody-else@example.com", "password": PASSWORD, "repeated": PASSWORD}
    assert eve.post(path, data=form).status_code == 303
    page = eve.get("/account").text
    assert "eve@example.com" in page
    assert "somebody-else" not in page
    assert eve.get("/export").status_code == 200
    assert eve.get("/accounts").status_code == 403
    assert "invitation.created" in actions(engine)


def test_an_invitation_can_be_withdrawn(signed_in: Callable[[str], TestClient], anonymous: TestClient) -> None:
    client = signed_in("administrator")
    answer = client.post("/accounts/invitations", data={"email": "eve@example.com", "role": "viewer"})
    link = re.search(r"(/invitation/[^<\"]+)", answer.text)
    withdraw = re.search(r'action="(/accounts/invitations/\d+/withdraw)"', answer.text)
    assert link is not None
    assert withdraw is not None
    assert client.post(withdraw[1]).status_code == 303
    assert anonymous.get(link[1]).status_code == 404
    assert client.post(withdraw[1]).status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        {"email": "nobody", "role": "viewer"},
        {"email": "administrator@example.com", "role": "viewer"},
        {"email": "eve@example.com", "role": "king"},
    ],
)
def test_a_bad_invitation_comes_back_filled(signed_in: Callable[[str], TestClient], form: dict[str, str]) -> None:
    answer = signed_in("administrator").post("/accounts/invitations", data=form)
    assert answer.status_code == 422
    assert "field-problem" in answer.text
    assert f'value="{form["email"]}"' in answer.text


def test_a_role_changes_at_once(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    admin, viewer = signed_in("administrator"), signed_in("viewer")
    assert viewer.get("/export").status_code == 403
    number = account_id(engine, "viewer@example.com")
    answer = admin.post(f"/accounts/{number}/role", data={"role": "analyst", "q": "viewer"})
    assert answer.status_code == 303
    assert viewer.get("/export").status_code == 200
    assert answer.headers["location"] == f"/accounts?q=viewer&changed={number}"
    page = admin.get(answer.headers["location"]).text
    assert "The role of viewer@example.com is analyst now" in page
    assert page.count(" autofocus") == 1
    assert "is analyst now" not in admin.get("/accounts").text
    assert actions(engine)[-1] == "account.role_changed"


def test_disabling_ends_sessions_and_enabling_lets_in_again(
    signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    admin, viewer = signed_in("administrator"), signed_in("viewer")
    number = account_id(engine, "viewer@example.com")
    assert admin.post(f"/accounts/{number}/disable").status_code == 303
    assert viewer.get("/account").status_code == 303
    form = {"email": "viewer@example.com", "password": PASSWORD}
    assert viewer.post("/login", data=form).status_code == 422
    assert admin.post(f"/accounts/{number}/enable").status_code == 303
    assert viewer.post("/login", data=form).status_code == 303


def test_the_last_administrator_stays(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    admin = signed_in("administrator")
    number = account_id(engine, "administrator@example.com")
    for path, form in ((f"/accounts/{number}/disable", {}), (f"/accounts/{number}/role", {"role": "viewer"})):
        answer = admin.post(path, data=form)
        assert answer.status_code == 422
        assert "last administrator" in answer.text
    assert admin.get("/accounts").status_code == 200


def test_an_unknown_account_is_not_found(signed_in: Callable[[str], TestClient]) -> None:
    admin = signed_in("administrator")
    assert admin.post("/accounts/77/disable").status_code == 404
    assert admin.post("/accounts/77/role", data={"role": "viewer"}).status_code == 404


def test_a_locked_account_is_shown_and_unlocked(
    signed_in: Callable[[str], TestClient], anonymous: TestClient, engine: Engine
) -> None:
    client = signed_in("administrator")
    signed_in("viewer")
    for _ in range(5):
        anonymous.post("/login", data={"email": "viewer@example.com", "password": "not the password"})
    page = client.get("/accounts").text
    assert "<strong>1</strong> is in a pause after wrong passwords" in page
    assert "Unlock viewer@example.com" in page
    good = {"email": "viewer@example.com", "password": PASSWORD}
    assert anonymous.post("/login", data=good).status_code == 422
    unlock = f"/accounts/{account_id(engine, 'viewer@example.com')}/unlock"
    assert client.post(unlock).status_code == 303
    assert "Unlock viewer" not in client.get("/accounts").text
    assert anonymous.post("/login", data=good).status_code == 303
    assert client.post(unlock).status_code == 303, "once more changes nothing"
    assert actions(engine).count("account.unlocked") == 1
    assert client.post("/accounts/999/unlock").status_code == 404


def test_many_accounts_come_in_pages_with_a_true_count(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("administrator")
    at = datetime.now(UTC)
    with session_scope(engine) as session:
        session.add_all(
            Account(
                email=f"p{n:04}@example.com", role="viewer", created_at=at, password_changed_at=at, failed_attempts=0
            )
            for n in range(230)
        )
    seen: list[str] = []
    address: str | None = "/accounts"
    while address is not None:
        page = client.get(address).text
        seen += re.findall(r'<span class="wrap">(p\d{4}@example\.com)</span>', page.replace("<wbr>", ""))
        more = re.search(r'<a class="btn" href="([^"]+)" rel="next">', page)
        address = unescape(more[1]) if more else None
    assert seen == [f"p{n:04}@example.com" for n in range(230)]
    assert "<strong>231 people</strong> may sign in" in client.get("/accounts").text
    found = client.get("/accounts?q=P0123").text
    assert "<strong>1 account</strong> has “P0123”" in found
    assert "p0123@example.com" in found
    assert "p0124" not in found
    assert client.get("/accounts?cursor=x").status_code == 422
