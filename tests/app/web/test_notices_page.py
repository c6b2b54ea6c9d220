"""The pages of notices: the list, one, its acknowledgement, what one has not read; and the same for programs."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.notices.record import Found, end_notice, open_notice
from app.notices.tables import NoticeRow

SignIn = Callable[[str], TestClient]
DETAIL: dict[str, Any] = {
    "workflows": ["sync-wheels"],
    "patterns": ["venv-python"],
    "groups": [{"id": 3, "name": "Sales <b>", "users": 20, "closed": 25, "of": 30}],
    "evidence": {
        "looked_at": 20,
        "users": 20,
        "hosts": 19,
        "changes": [
            {"what": "policy", "before": "aaaaaaaa", "after": "bbbbbbbb", "users": 18, "before_id": 7, "after_id": 9},
            {"what": "uv", "before": "0.12.9", "after": "0.13.8", "users": 2, "before_id": None, "after_id": None},
        ],
        "kinds": [["policy", 18]],
    },
}


@pytest.fixture
def made(engine: Engine) -> Engine:
    with session_scope(engine) as session:
        title = "uv sync is blocked for 20 users for whom it was open: the policy in force changed"
        open_notice(
            session,
            Found(kind="regression", key="regression:x", title=title, users=20, detail=DETAIL),
            now(),
            ways=("email",),
        )
        gone = open_notice(
            session,
            Found(
                kind="sharing",
                key="sharing:token",
                title="Hardly anybody shares",
                users=900,
                detail={"groups": DETAIL["groups"], "workflows": ["sync-wheels"]},
            ),
            now(),
        )
        assert gone is not None
        end_notice(session, gone, now())
    return engine


def test_the_list_says_what_waits(made: Engine, signed_in: SignIn, statements: list[str]) -> None:
    client = signed_in("viewer")
    statements.clear()
    text = unescape(client.get("/notices").text)
    assert len(statements) <= 12
    assert "<strong>1 notice</strong> waits for somebody to look after it" in text
    assert 'href="/notices/1">uv sync is blocked for 20 users' in text
    part = client.get("/notices?state=over", headers={"HX-Request": "true"})
    assert "<!doctype html>" not in part.text
    assert part.headers["HX-Push-Url"] == "/notices?state=over"
    assert "Hardly anybody shares" in part.text
    assert "uv sync is blocked" not in part.text
    assert "No notice fits" in client.get("/notices?state=acknowledged").text


def test_an_empty_list_says_what_makes_a_notice(signed_in: SignIn) -> None:
    assert "Notices appear when something gets worse" in signed_in("viewer").get("/notices").text


def test_one_notice_says_what_changed_and_for_whom(made: Engine, signed_in: SignIn) -> None:
    answer = signed_in("viewer").get("/notices/1")
    text = unescape(answer.text)
    assert "the policy in force aaaaaaaa → bbbbbbbb (18 users)" in text
    assert 'href="/policies/9?against=7"' in text
    assert 'href="/preflight?from=0.12.9&to=0.13.8"' in text
    assert "Sales &lt;b&gt;" in answer.text
    assert 'href="/hosts?workflow=sync-wheels&verdict=blocked&group=3"' in text
    assert "E-mail, that it opened" in text
    assert "I look after this" not in text, "a viewer may not"
    assert signed_in("analyst").get("/notices/99").status_code == 404


def test_figures_of_one_that_is_over_lead_to_nobody(made: Engine, signed_in: SignIn) -> None:
    text = signed_in("viewer").get("/notices/2").text
    assert "As it was then." in text
    assert ">25</td>" in text
    assert "/hosts?workflow" not in text


def test_somebody_looks_after_it(made: Engine, signed_in: SignIn) -> None:
    client = signed_in("analyst")
    assert client.post("/notices/1/acknowledge", data={"note": "x" * 1001}).status_code == 422
    answer = client.post("/notices/1/acknowledge", data={"note": "The GPO is being rolled back."})
    assert (answer.status_code, answer.headers["location"]) == (303, "/notices/1")
    text = unescape(client.get("/notices/1").text)
    assert "looked after by analyst@example.com" in text
    assert "The GPO is being rolled back." in text
    assert client.post("/notices/1/acknowledge").status_code == 409
    with session_scope(made, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "notice.acknowledged")).one()
        assert entry.actor == "analyst@example.com"
        assert entry.detail["notice"] == 1


def test_who_may_not(made: Engine, signed_in: SignIn, anonymous: TestClient) -> None:
    assert signed_in("viewer").post("/notices/1/acknowledge").status_code == 403
    for path in ("/notices", "/notices/1", "/notices/count"):
        assert anonymous.get(path).headers["location"].startswith("/login")


def test_unread_is_counted_for_each_person(made: Engine, signed_in: SignIn) -> None:
    ada, bob = signed_in("viewer"), signed_in("analyst")
    assert 'hx-get="/notices/count"' in ada.get("/").text
    assert ">1</span>" in ada.get("/notices/count").text
    assert ada.post("/notices/read").status_code == 303
    assert ada.get("/notices/count").text.strip() == ""
    assert ">1</span>" in bob.get("/notices/count").text


def test_programs_read_and_acknowledge(made: Engine, signed_in: SignIn) -> None:
    client = signed_in("analyst")
    page = client.get("/api/v1/notices?state=open").json()
    assert page["states"] == {"open": 1, "acknowledged": 0, "over": 1}
    assert [one["key"] for one in page["notices"]] == ["regression:x"]
    assert client.get("/api/v1/notices?state=x").status_code == 422
    assert client.get("/api/v1/notices/1").json()["sent"][0]["way"] == "email"
    assert client.post("/api/v1/notices/1/acknowledge?note=mine").json()["note"] == "mine"
    assert client.post("/api/v1/notices/1/acknowledge").status_code == 409
    assert client.get("/api/v1/notices/7").status_code == 404
    assert signed_in("viewer").post("/api/v1/notices/1/acknowledge").status_code == 403


def test_the_list_is_paged(engine: Engine, signed_in: SignIn) -> None:
    with session_scope(engine) as session:
        for number in range(28):
            found = Found(kind="regression", key=f"k{number}", title=f"Thing {number}", users=1, detail={})
            assert isinstance(open_notice(session, found, now()), NoticeRow)
    client = signed_in("viewer")
    text = client.get("/notices").text
    assert "Thing 27" in text
    assert "Thing 2<" not in text
    assert 'href="/notices?before=4"' in text
    assert "Thing 2<" in client.get("/notices?before=4").text
