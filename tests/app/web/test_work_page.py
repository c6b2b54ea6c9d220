"""Long work on its pages: how far it is, left and found again, cancelled by whom it may be, the same in the API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, update
from starlette.testclient import TestClient

from app.audit.queries import list_entries
from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.policies import plans
from app.policies.plans import is_planned_at_once
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import add_to_rule_set
from app.web.pages import exports, rule_sets_plan
from app.work.rows import Asked, ask_for_work, find_work
from app.work.run import Keep, Progress
from app.work.tables import WorkRow

ADA = Actor(kind="account", name="ada@example.com")
FRAGMENT = {"HX-Request": "true"}


class Held:
    """Work that waits for the test."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, _engine: Engine, progress: Progress) -> Keep:
        progress.tell("policies judged", 3, 12)
        self.begun.set()
        while not self.go_on.wait(0.01):
            progress.tell("policies judged", 3, 12)
        return lambda _session: {"answer": 42}


@pytest.fixture
def held(app: FastAPI, engine: Engine) -> Iterator[Held]:
    """A piece of work under way that ada asked for."""
    work = Held()
    app.state.workers.patience_s = 0.1
    app.state.workers.start_work(ask(engine), work)
    assert work.begun.wait(10)
    yield work
    work.go_on.set()
    app.state.workers.stop()


def ask(engine: Engine, actor: Actor = ADA) -> Asked:
    with session_scope(engine) as session:
        return ask_for_work(
            session, kind="x", key="1", title="A <b>long</b> sum", page="/rule-sets/1/what-if", actor=actor
        )


def words(text: str) -> str:
    return " ".join(text.split())


def test_nothing_yet(signed_in: Callable[[str], TestClient]) -> None:
    page = signed_in("viewer").get("/work")
    assert page.status_code == 200
    assert "Nothing is being worked out at the moment" in page.text
    assert 'hx-get="/work"' not in page.text


def test_how_far_it_is_on_a_page_and_as_a_fragment(
    held: Held, signed_in: Callable[[str], TestClient], statements: list[str]
) -> None:
    viewer = signed_in("viewer")
    statements.clear()
    page = viewer.get("/work")
    assert len(statements) <= 6
    assert "<strong>1 piece</strong> of work is under way" in page.text
    assert "A &lt;b&gt;long&lt;/b&gt; sum" in page.text
    assert "25&nbsp;%" in page.text
    assert 'hx-trigger="every 3s"' in page.text
    assert "Look again" in page.text
    assert "Cancel</button>" not in page.text  # a viewer who did not ask for it
    part = viewer.get("/work", headers=FRAGMENT)
    assert part.text.lstrip().startswith('<div id="results"')


def test_whoever_asked_or_an_administrator_cancels(
    held: Held, engine: Engine, signed_in: Callable[[str], TestClient]
) -> None:
    analyst, administrator = signed_in("analyst"), signed_in("administrator")
    assert analyst.post("/work/1/cancel").status_code == 403
    assert "Cancel</button>" in administrator.get("/work").text
    answer = administrator.post("/work/1/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, "/rule-sets/1/what-if")
    assert administrator.post("/work/1/cancel").status_code == 409
    assert administrator.post("/work/99/cancel").status_code == 404
    assert "Cancelled by administrator@example.com." in administrator.get("/work").text
    with session_scope(engine, writes=False) as session:
        assert "work.cancelled" in [one.action for one in list_entries(session).entries]


def test_ones_own_work_is_cancelled_by_the_api(engine: Engine, signed_in: Callable[[str], TestClient]) -> None:
    viewer = signed_in("viewer")
    ask(engine, Actor(kind="account", name="viewer@example.com"))
    assert viewer.get("/api/v1/work").json()[0]["state"] == "waiting"
    assert viewer.post("/api/v1/work/1/cancel").json() == {"id": 1, "state": "cancelled"}
    assert viewer.get("/api/v1/work/1").json()["state"] == "cancelled"
    assert viewer.get("/api/v1/work/2").status_code == 404


def test_its_result_is_in_the_api(held: Held, signed_in: Callable[[str], TestClient]) -> None:
    viewer = signed_in("viewer")
    running = viewer.get("/api/v1/work/1").json()
    assert (running["state"], running["done"], running["total"], running["result"]) == ("running", 3, 12, None)
    held.go_on.set()
    # Stopped before it has heard so, it would end as interrupted.
    for _ in range(500):
        found = viewer.get("/api/v1/work/1").json()
        if found["state"] != "running":
            break
        time.sleep(0.02)
    assert (found["state"], found["result"]) == ("done", {"answer": 42})


def test_cut_off_by_a_killed_server(engine: Engine, signed_in: Callable[[str], TestClient]) -> None:
    ask(engine)
    with session_scope(engine) as session:
        session.execute(update(WorkRow).values(claim="elsewhere:1:00", beat_at=now() - timedelta(minutes=10)))
    page = words(signed_in("viewer").get("/work").text)
    assert "interrupted" in page
    assert "The server was stopped or restarted meanwhile." in page


@pytest.fixture
def large_plan(app: FastAPI, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule set that counts as large, and a server that takes its time for it."""
    monkeypatch.setattr(plans, "AT_ONCE_PATTERNS", 0)
    with session_scope(engine) as session:
        add_to_rule_set(session, patterns=["venv-python", "cache-builds-venv-python"], actor=ADA)
        assert not is_planned_at_once(get_rule_set(session, 1))
    app.state.workers.patience_s = 30


@pytest.mark.usefixtures("large_plan")
def test_a_large_plan_is_worked_out_once(
    engine: Engine, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyst = signed_in("analyst")
    page = analyst.get("/rule-sets/1/plan").text
    assert "This plan" in page
    monkeypatch.setattr(plans, "plan_rule_set", None)  # whoever plans now fails
    assert analyst.get("/rule-sets/1/plan").text == page
    moved = analyst.get("/rule-sets/1/plan?slider=100", headers=FRAGMENT)
    assert moved.status_code == 200
    assert analyst.post("/rule-sets/1/plan", data={"slider": "0"}).status_code == 303
    with session_scope(engine, writes=False) as session:
        assert {item.kind for item in get_rule_set(session, 1).items} != {None}


@pytest.mark.usefixtures("large_plan")
def test_kept_plans_are_what_planning_at_once_gives(
    signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyst = signed_in("analyst")
    kept = [analyst.get(f"/rule-sets/1/plan?slider={place}&may_move=true").text for place in (0, 50, 100)]
    monkeypatch.setattr(plans, "AT_ONCE_PATTERNS", 100)
    assert [analyst.get(f"/rule-sets/1/plan?slider={place}&may_move=true").text for place in (0, 50, 100)] == kept


@pytest.mark.usefixtures("large_plan")
def test_a_plan_is_left_found_again_and_cancelled(
    app: FastAPI, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    app.state.workers.patience_s = 0.1
    work = Held()
    monkeypatch.setattr(rule_sets_plan, "plans_of", lambda *_args, **_kept: work)
    analyst, viewer = signed_in("analyst"), signed_in("viewer")
    page = analyst.get("/rule-sets/1/plan").text
    assert "The plans are being worked out." in page
    assert 'hx-get="/rule-sets/1/plan" hx-trigger="every 2s"' in page
    assert work.begun.wait(10)
    assert "Plans for “" in analyst.get("/work").text
    assert "Policies judged: 3 of 12." in words(viewer.get("/rule-sets/1/plan", headers=FRAGMENT).text)
    assert len(analyst.get("/api/v1/work").json()) == 1  # whoever looks asks for nothing new
    answer = analyst.post("/work/1/cancel")
    assert answer.headers["location"] == "/rule-sets/1/plan"
    page = analyst.get("/rule-sets/1/plan").text
    assert "It was cancelled." in page
    assert "hx-trigger" not in page.partition('id="answer"')[2].partition(">")[0]
    assert len(analyst.get("/api/v1/work").json()) == 1  # a look does not begin it anew
    work.go_on.set()
    monkeypatch.undo()
    monkeypatch.setattr(plans, "AT_ONCE_PATTERNS", 0)
    app.state.workers.patience_s = 30
    assert "This plan" in analyst.get("/rule-sets/1/plan?again=true").text


def test_an_export_is_judged_against_a_large_fleet(
    app: FastAPI, engine: Engine, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fleet(engine, 40, seed=2)
    analyst = signed_in("analyst")
    sid = "S-1-5-21-1004336348-1177238915-682003330-1234"
    assert analyst.post("/export/file", data={"pattern": ["venv-python"], "sid": sid}).status_code == 200
    at_once = analyst.get("/exports/1/what-if", headers=FRAGMENT).text
    monkeypatch.setattr(exports, "is_large", lambda _session: True)
    app.state.workers.patience_s = 30
    page = analyst.get("/exports/1/what-if", headers=FRAGMENT).text
    with session_scope(engine, writes=False) as session:
        found = find_work(session, "export-what-if", "1")
    assert found is not None
    assert found.state == "done"
    begin = page.index(" Judged <time")
    assert page[:begin] + page[page.index("judge it again</a>.") + len("judge it again</a>.") :] == at_once
