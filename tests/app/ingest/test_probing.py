"""The kill switch as an agent meets it: in the answer to its report; and hosts of trials, and those made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, update
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.db.session import session_scope
from app.fleet.groups import get_or_make_group
from app.fleet.probing import resume_probing, stop_probing
from app.fleet.standing import HostState
from app.fleet.tables import Host
from app.ingest import writer
from app.ingest.enrolment import create_enrolment_secret
from tests.app.ingest.workstation import Workstation, enrolled


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "STOPS_EVERY_S", 0.0)


def stop(server: FastAPI, group: str | None = None) -> None:
    with session_scope(server.state.engine) as session:
        group_id = get_or_make_group(session, group).id if group else None
        stop_probing(session, group_id, reason="", actor=COMMAND_LINE)


def resume(server: FastAPI, group: str | None = None) -> None:
    with session_scope(server.state.engine) as session:
        group_id = get_or_make_group(session, group).id if group else None
        resume_probing(session, group_id, actor=COMMAND_LINE)


def told(workstation: Workstation) -> Any:
    answer = workstation.send()
    assert answer.status_code == 200
    return answer.json().get("probing")


def test_nothing_is_said_of_probing_while_it_goes_on(workstation: Workstation) -> None:
    assert told(workstation) is None


def test_a_stop_of_all_is_in_every_answer_until_it_is_lifted(workstation: Workstation, server: FastAPI) -> None:
    stop(server)
    assert told(workstation) is False, "the first report of a new user"
    assert told(workstation) is False
    report = workstation.report()
    assert workstation.send(report).json()["probing"] is False
    assert workstation.send(report).json()["probing"] is False, "a replay"
    resume(server)
    assert told(workstation) is None


def test_a_stop_of_a_group_is_for_its_hosts_alone(client: TestClient, server: FastAPI) -> None:
    sales, others = enrolled(client, server, "PC-1", group="Sales"), enrolled(client, server, "PC-2")
    assert (told(sales), told(others)) == (None, None)
    stop(server, "Sales")
    assert (told(sales), told(others)) == (False, None)
    resume(server, "Sales")
    assert (told(sales), told(others)) == (None, None)


def test_a_refusal_says_nothing_of_probing(workstation: Workstation, server: FastAPI) -> None:
    stop(server)
    answer = workstation.send(bodies=False)
    assert answer.status_code == 409
    assert "probing" not in answer.json()


def test_an_unchanged_report_costs_no_statement_more(
    workstation: Workstation, server: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STOPS_EVERY_S", 3600.0)
    workstation.send()
    workstation.send()
    statements: list[str] = []
    event.listen(server.state.engine.__class__, "before_cursor_execute", lambda *a: statements.append(a[2]))
    workstation.send()
    assert not [one for one in statements if "probing_stop" in one]


def attested(client: TestClient, server: FastAPI, **secret: Any) -> bool:
    workstation = enrolled(client, server, **secret)
    assert workstation.send().status_code == 200
    with session_scope(server.state.engine, writes=False) as session:
        found = session.scalars(select(Host).order_by(Host.id.desc()).limit(1)).one()
        return found.attested


def test_a_host_of_a_trial_is_unattested_whatever_it_says(client: TestClient, server: FastAPI) -> None:
    assert attested(client, server)
    assert not attested(client, server, trial=True)


Ask = Callable[..., Any]


@pytest.fixture
def ask(client: TestClient, server: FastAPI) -> Ask:
    with session_scope(server.state.engine) as session:
        secret = create_enrolment_secret(session, uses=None, group="VDI")

    def enrol(account: str | None = "corp\\vdi-7$", **host: Any) -> Any:
        body = {"name": "VDI-7", "os": "Windows 11", "account": account, "ephemeral": True, **host}
        return client.post("/api/v1/enrol", json={"contract": 1, "secret": secret, "host": body})

    return enrol


def hosts(server: FastAPI) -> int:
    with session_scope(server.state.engine, writes=False) as session:
        return session.scalar(select(func.count()).select_from(Host)) or 0


def test_a_machine_made_anew_is_the_same_host(client: TestClient, server: FastAPI, ask: Ask) -> None:
    first, second = ask(), ask("CORP\\VDI-7$")
    assert first.json()["host_id"] == second.json()["host_id"]
    assert hosts(server) == 1
    old, new = Workstation(client, first.json()["token"]), Workstation(client, second.json()["token"])
    assert old.send().status_code == 401, "the one that is gone"
    assert new.send().status_code == 200
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalars(select(Host)).one().ephemeral, "and retired after a day of silence"


def test_other_accounts_and_other_kinds_of_hosts_are_not_taken_over(
    client: TestClient, server: FastAPI, ask: Ask
) -> None:
    ids = [ask().json()["host_id"], ask("corp\\vdi-8$").json()["host_id"]]
    enrolled(client, server, "VDI-7", group="VDI")
    ids.append(ask(None).json()["host_id"])
    ids.append(ask(ephemeral=False).json()["host_id"])
    elsewhere = enrolled(client, server, "VDI-7", group="Other")
    assert len(set(ids)) == 4
    assert hosts(server) == 6
    assert elsewhere.send().status_code == 200


def test_to_be_made_anew_does_not_undo_a_revocation(server: FastAPI, ask: Ask) -> None:
    ask()
    with session_scope(server.state.engine) as session:
        session.execute(update(Host).values(state=HostState.REVOKED.value))
    assert ask().status_code == 401
    assert hosts(server) == 1


@pytest.mark.parametrize("account", [7, "", "a" * 256, "a\x00b"])
def test_an_account_that_is_none_is_refused_with_its_field(ask: Ask, account: Any) -> None:
    answer = ask(account)
    assert answer.status_code == 422
    assert answer.json()["field"] == "host.account"


def test_the_account_is_kept_as_a_hash_alone(server: FastAPI, ask: Ask) -> None:
    ask()
    with session_scope(server.state.engine, writes=False) as session:
        host = session.scalars(select(Host)).one()
        assert host.account_hash is not None
        assert len(host.account_hash) == 32
    assert "corp" not in json.dumps({c.name: str(getattr(host, c.name)) for c in Host.__table__.columns})
