"""Asking for access from the page "Blocked?", and the page where all who ask are answered."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from agent.catalogue import load as load_catalogue
from app.accounts.roles import Role
from app.all_tables import metadata
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.main import create_app
from app.requests.tables import AccessGroup, AccessRequest
from app.settings import Settings
from app.web.pages.blocked import ASK_BURST
from app.web.rate import RateLimit

REFUSED = "> uv run ruff check\nerror: Failed to spawn: `ruff`\n  Caused by: blockiert (os error 1260)\n"
REQUEST = {
    "engine": "applocker-or-srp",
    "pattern": ["venv-entrypoint-exe"],
    "workflow": "run-entrypoint",
    "contact": "bob@example.com",
    "message": "The linter of our repository.",
}
FRAGMENT = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def many_requests(app: FastAPI) -> None:
    """Most tests are not about the limit."""
    app.state.ask_limit = RateLimit(burst=1000, every_s=1)


def test_the_answer_has_a_form_that_carries_no_text(anonymous: TestClient) -> None:
    page = anonymous.post("/blocked", data={"text": REFUSED}).text
    form = page.partition('action="/blocked/ask"')[2].partition("</form>")[0]
    sent = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert sent == {
        "engine": "applocker-or-srp",
        "pattern": "venv-entrypoint-exe",
        "workflow": "run-entrypoint",
    }
    answer = anonymous.post("/blocked/ask", data=sent)
    assert answer.status_code == 200
    assert "You are the first to ask" in answer.text
    antivirus = anonymous.post("/blocked", data={"text": REFUSED.replace("1260", "225")}).text
    assert "/blocked/ask" not in antivirus
    assert "/blocked/ask" not in anonymous.post("/blocked", data={"text": "error: No solution found"}).text


def test_asking_is_counted_and_read_by_who_answers(
    anonymous: TestClient, signed_in: Callable[[str], TestClient]
) -> None:
    anonymous.post("/blocked/ask", data=REQUEST)
    fragment = anonymous.post("/blocked/ask", data=REQUEST | {"contact": "eve"}, headers=FRAGMENT)
    assert "2 people have asked for this" in fragment.text
    assert "<html" not in fragment.text
    assert "2 people have asked for this already" in anonymous.post("/blocked", data={"text": REFUSED}).text
    page = unescape(signed_in("administrator").get("/requests").text)
    assert "<strong>2 requests</strong> for <strong>1 place</strong>" in page
    assert "bob@example.com" in page
    assert "The linter of our repository." in page
    assert '<input type="hidden" name="pattern" value="venv-entrypoint-exe">' in page


def test_rules_are_drafted_only_for_what_applocker_rules_open(
    anonymous: TestClient, signed_in: Callable[[str], TestClient]
) -> None:
    client = signed_in("administrator")
    anonymous.post("/blocked/ask", data=REQUEST | {"engine": "wdac", "pattern": ["venv-python"]})
    anonymous.post("/blocked/ask", data=REQUEST | {"pattern": [""]})
    assert 'action="/rule-sets"' not in client.get("/requests").text
    anonymous.post("/blocked/ask", data=REQUEST | {"pattern": ["venv-entrypoint-exe", "tool-bin-exe"]})
    page = unescape(client.get("/requests").text)
    assert "Make a rule set of these 2 patterns" in page
    form = re.search(r'<form method="post" action="/rule-sets" id="draft-(\d+)">(.*?)</form>', page)
    assert form is not None
    fields = re.findall(r'name="(\w+)" value="([^"]*)"', form[2])
    assert ("origin", f"request:{form[1]}") in fields
    # One click: the rule set is there, with what was asked for in it.
    made = client.post("/rule-sets", data=dict(fields))
    assert made.status_code == 303
    rule_set = client.get(made.headers["location"]).text
    assert fields[-1][1] in rule_set


def test_one_answer_reaches_all_who_read_the_page(
    anonymous: TestClient, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    anonymous.post("/blocked/ask", data=REQUEST)
    client = signed_in("administrator")
    answer = client.post("/requests/1", data={"state": "answered", "note": "A rule comes on Monday <b>."})
    assert (answer.status_code, answer.headers["location"]) == (303, "/requests")
    page = anonymous.post("/blocked", data={"text": REFUSED}).text
    assert "answered</strong>" in page
    assert "A rule comes on Monday &lt;b&gt;." in page
    assert "bob@example.com" not in page
    assert "administrator@example.com" not in page
    assert "No request for access waits" in client.get("/requests").text
    with session_scope(engine, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "access.answered")).one()
    assert (entry.actor, entry.target) == ("administrator@example.com", "venv-entrypoint-exe")
    client.post("/requests/1", data={"state": "declined", "note": ""})
    assert "declined</strong>" in anonymous.post("/blocked", data={"text": REFUSED}).text
    client.post("/requests/1", data={"state": "open", "note": ""})
    assert "declined</strong>" not in anonymous.post("/blocked", data={"text": REFUSED}).text


@pytest.mark.parametrize("role", list(Role))
def test_who_may_answer(anonymous: TestClient, signed_in: Callable[[str], TestClient], role: Role) -> None:
    anonymous.post("/blocked/ask", data=REQUEST)
    client = signed_in(role)
    may = role in (Role.APPROVER, Role.ADMINISTRATOR)
    assert client.get("/requests").status_code == (200 if may else 403)
    assert client.post("/requests/1", data={"state": "answered"}).status_code == (303 if may else 403)
    assert ('href="/requests"' in client.get("/").text) is may


def test_without_requests_the_page_says_what_makes_some(signed_in: Callable[[str], TestClient]) -> None:
    assert "Nobody has asked yet" in signed_in("administrator").get("/requests").text


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("/requests/7", {"state": "answered"}, 404),
        ("/requests/abc", {"state": "answered"}, 404),
        ("/requests/99999999999", {"state": "answered"}, 404),
        ("/requests/1", {"state": "granted"}, 422),
        ("/requests/1", {}, 422),
        ("/requests/1", {"state": "answered", "note": "x" * 1001}, 422),
    ],
)
def test_wrong_answers(
    anonymous: TestClient, signed_in: Callable[[str], TestClient], path: str, data: dict[str, str], status: int
) -> None:
    anonymous.post("/blocked/ask", data=REQUEST)
    client = signed_in("administrator")
    assert client.post(path, data=data).status_code == status
    assert "<strong>1 request</strong>" in client.get("/requests").text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"engine": "antivirus"}, "nothing that one can ask access for"),
        ({"pattern": ["../../etc"]}, "not in the catalogue"),
        ({"pattern": []}, "Ask for 1 to"),
        ({"workflow": "<b>"}, "not in the catalogue"),
        ({"contact": "x" * 300}, "The contact may have"),
        ({"message": "x" * 600}, "The message may have"),
    ],
)
def test_wrong_requests_are_refused_with_the_form(
    anonymous: TestClient, engine: Engine, changed: dict[str, object], words: str
) -> None:
    answer = anonymous.post("/blocked/ask", data=REQUEST | changed)
    assert answer.status_code == 422
    assert words in answer.text
    assert "The linter of our repository." in answer.text or "message" in changed
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(AccessGroup)).all() == []


def test_hostile_words_are_kept_as_words(
    anonymous: TestClient, signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    hostile = '<script>alert(1)</script>\x00\x1b[31m\u202e"><img src=x>\r\nSecond: line'
    anonymous.post("/blocked/ask", data=REQUEST | {"contact": hostile, "message": hostile})
    with session_scope(engine, writes=False) as session:
        row = session.scalars(select(AccessRequest)).one()
    assert row.message == '<script>alert(1)</script>[31m"><img src=x> Second: line'
    page = signed_in("administrator").get("/requests").text
    assert "&lt;script&gt;" in page
    assert "<img src=x" not in page


def test_a_client_has_a_few_requests_a_day(app: FastAPI, engine: Engine) -> None:
    app.state.ask_limit = RateLimit(burst=ASK_BURST, every_s=7200)
    client = TestClient(app, base_url="http://wayleave.example", client=("192.0.2.1", 4000))
    for number in range(ASK_BURST):
        assert client.post("/blocked/ask", data=REQUEST | {"contact": str(number)}).status_code == 200
    refused = client.post("/blocked/ask", data=REQUEST | {"contact": "more"})
    assert refused.status_code == 429
    assert 3600 < int(refused.headers["retry-after"]) <= 7200
    with session_scope(engine, writes=False) as session:
        assert len(session.scalars(select(AccessRequest)).all()) == ASK_BURST


def test_too_long_requests_are_not_read(anonymous: TestClient) -> None:
    assert anonymous.post("/blocked/ask", data=REQUEST | {"message": "x" * 30_000}).status_code == 413


def test_asking_is_switched_off_with_the_page(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, database_url="", blocked_page=False))
    metadata().create_all(app.state.engine)
    client = TestClient(app, base_url="http://wayleave.example")
    assert client.post("/blocked/ask", data=REQUEST).status_code == 404
    app.state.engine.dispose()


def test_the_page_takes_the_same_statements_for_one_group_and_for_many(
    anonymous: TestClient, signed_in: Callable[[str], TestClient], statements: list[str]
) -> None:
    client = signed_in("administrator")
    counts = []
    for patterns in (["venv-python"], ["venv-entrypoint-exe", "", "tool-bin-exe"]):
        anonymous.post("/blocked/ask", data=REQUEST | {"pattern": patterns})
        statements.clear()
        client.get("/requests")
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 8


def test_more_places_than_a_page_holds_are_counted_and_reached(
    signed_in: Callable[[str], TestClient], engine: Engine
) -> None:
    client = signed_in("approver")
    at = now()
    with session_scope(engine) as session:
        session.add_all(
            AccessGroup(
                engine=one,
                pattern=pattern.id,
                state="open",
                note="",
                requests=3,
                requests_since=3,
                first_at=at,
                last_at=at,
            )
            for one in ("applocker-or-srp", "wdac")
            for pattern in load_catalogue().patterns[:60]
        )
    page = client.get("/requests").text
    assert "<strong>360 requests</strong> for <strong>120 places</strong> wait" in page
    assert "1 to 100 of 120 places" in page
    rest = client.get("/requests?first=101").text
    assert rest.count("Answer to all who ask") == 20
    assert len(client.get("/api/v1/requests", params={"skip": 100}).json()) == 20
