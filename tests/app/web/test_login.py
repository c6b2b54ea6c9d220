"""Signing in and out: what works, what is refused, and that nothing tells accounts apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.accounts.sessions import ABSOLUTE_LIMIT, IDLE_LIMIT
from app.accounts.tables import Account, WebSession
from app.all_tables import metadata
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.main import create_app
from app.settings import Settings

PASSWORD = "correct horse battery"


@pytest.fixture
def ada(engine: Engine) -> str:
    with session_scope(engine) as session:
        create_account(session, "Ada@Example.com", PASSWORD, "viewer")
    return "ada@example.com"


def test_signs_in_and_comes_back_to_the_page_asked_for(anonymous: TestClient, ada: str) -> None:
    asked = anonymous.get("/account?x=1")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/login?next=/account%3Fx%3D1"
    form = anonymous.get(asked.headers["location"])
    assert 'value="/account?x=1"' in form.text
    answer = anonymous.post("/login", data={"email": " ADA@example.com ", "password": PASSWORD, "next": "/account?x=1"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/account?x=1"
    assert anonymous.get("/account").status_code == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(anonymous: TestClient, ada: str) -> None:
    answer = anonymous.post("/login", data={"email": ada, "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "secure" not in cookie


def test_over_tls_the_cookie_is_bound_to_the_host(app: object, ada: str) -> None:
    with TestClient(app, base_url="https://wayleave.example", follow_redirects=False) as client:
        answer = client.post("/login", data={"email": ada, "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith("__Host-wayleave_session=")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "max-age" in answer.headers["strict-transport-security"]
        assert client.get("/account").status_code == 200


def test_behind_a_proxy_that_ends_tls_the_cookie_is_bound_too(tmp_path: Path) -> None:
    made = create_app(Settings(data_dir=tmp_path, database_url="", base_url="https://wayleave.example"))
    metadata().create_all(made.state.engine)
    with session_scope(made.state.engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "viewer")
    with TestClient(made, base_url="http://inside.example", follow_redirects=False) as client:
        answer = client.post("/login", data={"email": "ada@example.com", "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith("__Host-wayleave_session=")
        assert "secure" in answer.headers["set-cookie"].lower()


def test_the_database_holds_only_a_hash_of_the_cookie(anonymous: TestClient, ada: str, engine: Engine) -> None:
    anonymous.post("/login", data={"email": ada, "password": PASSWORD})
    token = anonymous.cookies["wayleave_session"]
    with session_scope(engine, writes=False) as session:
        stored = session.scalars(select(WebSession.token_hash)).all()
    assert len(stored) == 1
    assert token.encode() not in stored[0]


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_a_wrong_password_and_an_unknown_address_look_the_same(anonymous: TestClient, ada: str, email: str) -> None:
    answer = anonymous.post("/login", data={"email": email, "password": "wrong"})
    assert answer.status_code == 422
    assert f'value="{email}"' in answer.text
    assert "wrong" in answer.text
    assert "set-cookie" not in answer.headers
    assert re.sub(re.escape(email), "", answer.text) == re.sub(
        "x@example.com", "", anonymous.post("/login", data={"email": "x@example.com", "password": "wrong"}).text
    )


def test_five_failures_lock_the_account_and_time_opens_it(anonymous: TestClient, ada: str, engine: Engine) -> None:
    for _ in range(5):
        assert anonymous.post("/login", data={"email": ada, "password": "wrong"}).status_code == 422
    assert anonymous.post("/login", data={"email": ada, "password": PASSWORD}).status_code == 422
    with session_scope(engine) as session:
        locked = session.scalars(select(AuditEntry).where(AuditEntry.action == "account.locked")).all()
        assert [entry.target for entry in locked] == [ada]
        session.execute(update(Account).values(locked_until_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert anonymous.post("/login", data={"email": ada, "password": PASSWORD}).status_code == 303


def test_a_disabled_account_can_not_sign_in_and_its_sessions_end(
    signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client = signed_in("viewer")
    assert client.get("/account").status_code == 200
    with session_scope(engine) as session:
        session.execute(update(Account).values(disabled_at=datetime.now(UTC)))
    assert client.get("/account").status_code == 303
    answer = client.post("/login", data={"email": "viewer@example.com", "password": "correct horse battery"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "ended",
    [
        {"last_seen_at": -IDLE_LIMIT - timedelta(seconds=1)},
        {"expires_at": -timedelta(seconds=1)},
    ],
    ids=["idle", "absolute"],
)
def test_a_session_ends(signed_in: Callable[[str], TestClient], engine: Engine, ended: dict[str, timedelta]) -> None:
    client = signed_in("viewer")
    with session_scope(engine) as session:
        session.execute(
            update(WebSession).values({column: datetime.now(UTC) + delta for column, delta in ended.items()})
        )
    answer = client.get("/account")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_use_prolongs_a_session_but_never_beyond_the_absolute_limit(
    signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client = signed_in("viewer")
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    with session_scope(engine) as session:
        session.execute(update(WebSession).values(last_seen_at=long_ago))
        ends_at = session.scalars(select(WebSession.expires_at)).one()
    assert client.get("/account").status_code == 200
    with session_scope(engine, writes=False) as session:
        kept = session.scalars(select(WebSession)).one()
        assert kept.last_seen_at > long_ago + timedelta(hours=2)
        assert kept.expires_at == ends_at
        assert kept.expires_at - kept.created_at == ABSOLUTE_LIMIT


def test_signing_out_ends_the_session_in_the_database(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("viewer")
    token = client.cookies["wayleave_session"]
    assert client.post("/logout").status_code == 303
    client.cookies.set("wayleave_session", token)
    assert client.get("/account").status_code == 303
    with session_scope(engine, writes=False) as session:
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["account.created", "login.succeeded", "login.ended"]


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", "/a\nb"]
)
def test_the_login_never_leads_elsewhere(anonymous: TestClient, ada: str, wanted: str) -> None:
    answer = anonymous.post("/login", data={"email": ada, "password": PASSWORD, "next": wanted})
    assert answer.headers["location"] == "/"


def test_htmx_is_told_to_leave_for_the_login(anonymous: TestClient) -> None:
    answer = anonymous.get(
        "/audit", headers={"HX-Request": "true", "HX-Current-URL": "http://wayleave.example/audit?q=a"}
    )
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/login?next=/audit%3Fq%3Da"
    assert answer.text == ""


def test_with_no_account_the_login_says_where_the_link_is(anonymous: TestClient) -> None:
    assert "one-time link" in anonymous.get("/login").text
