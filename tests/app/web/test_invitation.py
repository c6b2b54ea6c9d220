"""The one-time link of the first administrator."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.invitations import create_first_admin_link
from app.accounts.tables import Account, Invitation
from app.db.session import session_scope

PASSWORD = "correct horse battery"
GOOD = {"email": "ada@example.com", "password": PASSWORD, "repeated": PASSWORD}


@pytest.fixture
def link(engine: Engine) -> str:
    with session_scope(engine) as session:
        made = create_first_admin_link(session, "http://wayleave.example/")
    assert made is not None
    assert made.startswith("http://wayleave.example/invitation/")
    return urlsplit(made).path


def test_makes_the_first_administrator_and_signs_in(anonymous: TestClient, link: str, engine: Engine) -> None:
    assert "first administrator" in anonymous.get(link).text
    answer = anonymous.post(link, data=GOOD)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    assert "ada@example.com" in anonymous.get("/account").text
    with session_scope(engine) as session:
        assert session.scalars(select(Account.role)).all() == ["administrator"]
        assert create_first_admin_link(session, "http://wayleave.example") is None


def test_works_once(anonymous: TestClient, link: str, engine: Engine) -> None:
    assert anonymous.post(link, data=GOOD).status_code == 303
    assert anonymous.get(link).status_code == 404
    assert anonymous.post(link, data={**GOOD, "email": "eve@example.com"}).status_code == 404
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(Account.email)).all() == ["ada@example.com"]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"email": "ada"}, "email", "not an e-mail address"),
        ({"password": "short", "repeated": "short"}, "password", "at least 12"),
        ({"password": "aaaaaaaaaaaaa", "repeated": "aaaaaaaaaaaaa"}, "password", "repetitive"),
        ({"password": "ada@example.com", "repeated": "ada@example.com"}, "password", "e-mail address"),
        ({"repeated": "another horse battery"}, "repeated", "differ"),
    ],
)
def test_a_refused_form_comes_back_filled_and_the_link_still_works(
    anonymous: TestClient, link: str, change: dict[str, str], field: str, words: str
) -> None:
    answer = anonymous.post(link, data={**GOOD, **change})
    assert answer.status_code == 422
    assert words in answer.text
    assert f'id="{field}-note"' in answer.text
    assert f'value="{change.get("email", GOOD["email"])}"' in answer.text
    assert PASSWORD not in answer.text
    assert anonymous.post(link, data=GOOD).status_code == 303


def test_a_newer_link_replaces_an_older_one(anonymous: TestClient, link: str, engine: Engine) -> None:
    with session_scope(engine) as session:
        newer = create_first_admin_link(session, "http://wayleave.example")
    assert anonymous.get(link).status_code == 404
    assert anonymous.get(urlsplit(newer or "").path).status_code == 200


def test_expires(anonymous: TestClient, link: str, engine: Engine) -> None:
    with session_scope(engine) as session:
        session.execute(update(Invitation).values(expires_at=datetime.now(UTC)))
    assert anonymous.get(link).status_code == 404


def test_an_invented_link_is_not_good(anonymous: TestClient) -> None:
    answer = anonymous.get("/invitation/invented")
    assert answer.status_code == 404
    assert "no longer good" in answer.text
