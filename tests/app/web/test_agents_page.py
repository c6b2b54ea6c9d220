"""Enrolment secrets: one made here enrols a real agent's request, within its limits, until it is revoked."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.fleet.groups import make_standard_groups
from app.fleet.make import make_fleet
from app.fleet.standing import HostState
from app.fleet.tables import Host
from app.jobs.work import JOBS, Keeping


@pytest.fixture
def admin(app: FastAPI, engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    with session_scope(engine) as session:
        make_standard_groups(session)
    return signed_in("administrator")


def create(client: TestClient, **form: str) -> str:
    answer = client.post("/agents/secrets", data=form)
    assert answer.status_code == 200, answer.text
    secret = re.search(r"--secret (wle_\d+_[\w-]+)", answer.text)
    assert secret is not None
    return secret[1]


def words_of(page: str) -> str:
    """The words of a list of hosts, from its answer on."""
    return (
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition('<div id="answer">')[2])).strip().replace(" .", ".")
    )


def enrol(client: TestClient, secret: str) -> int:
    body = {"contract": 1, "secret": secret, "host": {"name": "PC-1", "os": "Windows 11"}}
    return client.post("/api/v1/enrol", json=body).status_code


def test_a_secret_enrols_hosts_into_its_group_as_often_as_it_says(admin: TestClient, engine: Engine) -> None:
    secret = create(admin, group="Sales", uses="2", days="7")
    assert [enrol(admin, secret) for _ in range(3)] == [201, 201, 401]
    page = admin.get("/agents").text
    assert "<strong>2 hosts</strong>" in page
    assert secret not in page
    assert "no longer works" in page
    assert "Sales" in admin.get("/hosts").text
    with session_scope(engine, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "enrolment_secret.created")).one()
        assert entry.actor == "administrator@example.com"
        assert secret not in f"{entry.target} {entry.detail}"


def test_a_revoked_secret_enrols_nobody(admin: TestClient, engine: Engine) -> None:
    secret = create(admin)
    number = secret.split("_")[1]
    assert enrol(admin, secret) == 201
    assert admin.post(f"/agents/secrets/{number}/revoke").status_code == 303
    assert enrol(admin, secret) == 401
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(AuditEntry.action).order_by(AuditEntry.id.desc())).first() == (
            "enrolment_secret.revoked"
        )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"uses": "many"}, "uses"),
        ({"uses": "0"}, "uses"),
        ({"network": "10.1"}, "network"),
        ({"group": "x" * 121}, "group"),
    ],
)
def test_bad_input_comes_back_filled(admin: TestClient, change: dict[str, str], field: str) -> None:
    answer = admin.post("/agents/secrets", data={"note": "for the lab", **change})
    assert answer.status_code == 422
    assert f'class="field-problem" id="{field}-note"' in answer.text
    assert 'value="for the lab"' in answer.text
    assert "--secret wle_" not in answer.text


def test_an_unknown_secret_is_not_found(admin: TestClient) -> None:
    assert admin.post("/agents/secrets/99/revoke").status_code == 404


def test_versions_of_the_agent_are_counted_shown_and_filtered(server: FastAPI) -> None:
    engine: Engine = server.state.engine
    make_fleet(engine, 12, seed=2)
    with session_scope(engine) as session:
        create_account(session, "ada@example.com", "correct horse battery", "administrator")
        ids = session.scalars(select(Host.id).order_by(Host.id)).all()
        session.execute(update(Host).values(agent_version="0.9.1"))
        session.execute(update(Host).where(Host.id.in_(ids[:3])).values(agent_version="0.10.0"))
        session.execute(update(Host).where(Host.id == ids[3]).values(agent_version="<b>9</b>"))
        session.execute(update(Host).where(Host.id == ids[4]).values(state=HostState.REVOKED.value))
    client = TestClient(server, base_url="http://wayleave.example", follow_redirects=False)
    client.post("/login", data={"email": "ada@example.com", "password": "correct horse battery"})
    assert "counted by version once an hour" in client.get("/agents").text
    with engine.connect() as connection:
        job = next(one for one in JOBS if one.name == "mark-silent")
        job.run(connection, now(), Keeping(silent_after_days=14, retention_days=180))
        job.run(connection, now(), Keeping(silent_after_days=14, retention_days=180))
    told = client.get("/api/v1/agents/versions").json()
    counts = {one["version"]: one["hosts"] for one in told["versions"]}
    assert counts == {"0.10.0": 3, "<b>9</b>": 1, "0.9.1": len(ids) - 5}
    assert told["hosts"] == len(ids) - 1
    assert [one["version"] for one in told["versions"]][:2] == ["0.10.0", "0.9.1"]
    page = client.get("/agents").text
    assert 'href="/hosts?state=active&amp;agent=0.10.0"' in page
    assert "3 versions are in use" in page
    assert "<b>9" not in page
    for version, hosts in counts.items():
        listed = client.get("/api/v1/hosts", params={"agent": version, "state": "active"}).json()["hosts"]
        assert len(listed) == hosts, version
        assert client.get("/api/v1/hosts/count", params={"agent": version, "state": "active"}).json()["hosts"] == hosts
    shown = client.get("/hosts", params={"agent": "0.10.0"}).text
    assert "agent 0.10.0" in shown
    assert '<option value="0.10.0" selected>agent 0.10.0</option>' in shown
    chosen = client.get("/hosts", params={"agent_version": "0.10.0", "uv": "", "group": ""})
    assert words_of(chosen.text).startswith(f"{counts['0.10.0']} hosts fit the filter. agent 0.10.0")
    none_told = client.get("/hosts", params={"agent_version": "none"}).text
    assert "no agent version told" in none_told
    assert "No host fits" in none_told
    gone = client.get("/hosts", params={"agent": "7.7"}).text
    assert '<option value="7.7" selected>agent 7.7</option>' in gone
    assert client.get("/api/v1/hosts", params={"agent": "7.7"}).json()["hosts"] == []
    group = client.get("/api/v1/hosts", params={"agent": "0.10.0"}).json()["hosts"][0]["group_id"]
    assert 1 <= client.get("/api/v1/agents/versions", params={"group": group}).json()["hosts"] < len(ids) - 1


def test_before_the_first_agent_the_page_says_how_they_come(admin: TestClient) -> None:
    page = admin.get("/agents").text
    assert "Agents appear here when they enrol" in page
    assert 'href="#create-title"' in page
    assert 'id="versions"' not in page
    # Who has just made a secret has the command before them.
    made = admin.post("/agents/secrets", data={"days": "7"}).text
    assert "wayleave-agent install" in made
    assert "Agents appear here" not in made
