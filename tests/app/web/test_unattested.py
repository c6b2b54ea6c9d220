"""Hosts whose users run the agent are marked wherever their facts are shown; machine-wide ones are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, update
from starlette.testclient import TestClient

from app.db.session import session_scope
from app.fleet.attestation import ABOUT_S, MANY, Unattested, UnattestedLately, count_unattested
from app.fleet.fold import ContributionCache, fold
from app.fleet.standing import HostState
from app.fleet.tables import Host
from tests.app.ingest.workstation import enrolled

NOTE = "users run the agent themselves there"


@pytest.fixture
def person(app: FastAPI, engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        assert enrolled(agents, app, "PC-ATTESTED").send().status_code == 200
        assert enrolled(agents, app, "PC-TRIAL", trial=True, group="Trials").send().status_code == 200
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    return signed_in("viewer")


def test_each_page_that_shows_their_facts_marks_them(person: TestClient, engine: Engine) -> None:
    page = person.get("/hosts").text
    assert page.count(" unattested</span>") == 1
    assert page.index("PC-TRIAL") < page.index(" unattested</span>")
    assert " unattested</span>" in person.get("/hosts/2").text
    assert " unattested</span>" not in person.get("/hosts/1").text
    for path in ("/", "/patterns/venv-python"):
        text = person.get(path).text
        assert NOTE in text, path
        assert "1 host</a> is <em>unattested</em>" in text
    told = {host["name"]: host["attested"] for host in person.get("/api/v1/hosts").json()["hosts"]}
    assert told == {"PC-ATTESTED": True, "PC-TRIAL": False}


def test_a_fleet_that_is_all_attested_has_no_note(person: TestClient, engine: Engine) -> None:
    with session_scope(engine) as session:
        session.execute(update(Host).values(attested=True))
    for path in ("/", "/patterns/venv-python", "/hosts"):
        text = person.get(path).text
        assert NOTE not in text
        assert " unattested</span>" not in text


def test_revoked_hosts_and_linux_trials_are_not_counted(person: TestClient, engine: Engine) -> None:
    with session_scope(engine) as session:
        assert count_unattested(session) == Unattested(hosts=1)
        trials = session.get_one(Host, 2).group_id
        assert count_unattested(session, trials) == Unattested(hosts=1)
        assert count_unattested(session, session.get_one(Host, 1).group_id) == Unattested(hosts=0)
        session.execute(update(Host).where(Host.id == 2).values(state=HostState.REVOKED.value))
        assert count_unattested(session) == Unattested(hosts=0)
        session.execute(update(Host).where(Host.id == 2).values(state=HostState.ACTIVE.value, platform="linux"))
        assert count_unattested(session) == Unattested(hosts=0)
        session.rollback()


def test_beyond_many_they_are_not_counted_one_by_one(
    person: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MANY == 10_000
    monkeypatch.setattr("app.fleet.attestation.MANY", 1)
    with session_scope(engine, writes=False) as session:
        assert count_unattested(session) == Unattested(hosts=1, is_more=True)


def test_every_page_with_the_fleets_figures_says_how_many_there_are(person: TestClient) -> None:
    for path in (
        "/notices",
        "/workflows",
        "/versions",
        "/policies",
        "/rule-sets",
        "/preflight",
        "/relocation",
        "/exports",
        "/groups",
        "/search?q=PC",
    ):
        answer = person.get(path)
        assert answer.status_code == 200, path
        assert answer.text.count(NOTE) == 1, path
    for path in ("/hosts", "/hosts/2", "/account", "/verified"):
        assert NOTE not in person.get(path).text, path


def test_it_is_not_counted_for_each_page(engine: Engine, person: TestClient) -> None:
    lately, now = UnattestedLately(), [100.0]
    with session_scope(engine) as session:
        assert lately.read(session, clock=lambda: now[0]) == Unattested(hosts=1)
        session.execute(update(Host).values(attested=True))
        now[0] += ABOUT_S
        assert lately.read(session, clock=lambda: now[0]) == Unattested(hosts=1)
        now[0] += 1
        assert lately.read(session, clock=lambda: now[0]) == Unattested(hosts=0)
        session.rollback()
