"""`wayleave host` over a workstation that enrolled: out of quarantine, to another group, revoked; all audited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.cli.host import command
from app.db.session import session_scope
from app.fleet.groups import get_or_make_group
from app.fleet.standing import HostState, Standing
from app.fleet.tables import Host, HostGroup, Subject
from tests.app.ingest.workstation import Workstation, enrolled

Run = Callable[..., Result]


@pytest.fixture
def workstation(client: TestClient, server: FastAPI) -> Workstation:
    return enrolled(client, server, "PC-7")


@pytest.fixture
def run(server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Run:
    url = server.state.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", url)

    def invoke(*arguments: str, code: int = 0, **given: str) -> Result:
        result = CliRunner().invoke(command, arguments, **given)
        assert result.exit_code == code, result.output
        return result

    return invoke


def counted(server: FastAPI) -> int:
    with session_scope(server.state.engine, writes=False) as session:
        return session.scalar(select(func.count()).where(Subject.standing == Standing.COUNTED)) or 0


def actions(server: FastAPI) -> list[str]:
    with session_scope(server.state.engine, writes=False) as session:
        return [one for one in session.scalars(select(AuditEntry.action)) if one.startswith("host.")]


def test_an_approved_host_counts_from_its_next_report_on(workstation: Workstation, server: FastAPI, run: Run) -> None:
    with session_scope(server.state.engine) as session:
        session.execute(update(Host).values(state=HostState.QUARANTINED.value))
    assert workstation.send().status_code == 200
    assert counted(server) == 0
    run("approve", "pc-7")
    assert workstation.send().status_code == 200
    assert counted(server) == 1
    assert actions(server)[-1] == "host.approved"
    assert "not in quarantine" in run("approve", "PC-7", code=1).output


def test_a_revoked_host_is_refused_and_stays_so(workstation: Workstation, server: FastAPI, run: Run) -> None:
    assert workstation.send().status_code == 200
    run("revoke", "PC-7", code=1, input="n\n")
    assert counted(server) == 1
    run("revoke", "PC-7", input="y\n")
    assert workstation.send().status_code == 403
    assert counted(server) == 0
    run("approve", "PC-7", code=1)
    assert workstation.send().status_code == 403
    assert actions(server)[-1] == "host.revoked"


def test_a_host_moves_to_a_group_that_is_there(workstation: Workstation, server: FastAPI, run: Run) -> None:
    assert workstation.send().status_code == 200
    assert "no group called 'Lab'" in run("move", "PC-7", "--group", "Lab", code=1).output
    with session_scope(server.state.engine) as session:
        get_or_make_group(session, "Lab")
    run("move", "PC-7", "--group", "Lab")
    with session_scope(server.state.engine, writes=False) as session:
        name = session.scalar(select(HostGroup.name).join(Host, Host.group_id == HostGroup.id))
    assert name == "Lab"
    assert actions(server)[-1] == "host.moved"


def test_a_host_is_marked_as_shared_and_back(workstation: Workstation, server: FastAPI, run: Run) -> None:
    run("shared", "PC-7")
    assert "marked as shared already" in run("shared", "PC-7", code=1).output
    run("shared", "PC-7", "--no")
    assert actions(server)[-2:] == ["host.shared", "host.unshared"]


@pytest.mark.parametrize("action", [("approve",), ("move", "--group", "Workstations"), ("revoke", "--yes")])
def test_an_unknown_host_is_one_sentence(workstation: Workstation, run: Run, action: tuple[str, ...]) -> None:
    for host in ("nobody", "4711"):
        said = run(*action, host, code=1).output
        assert said.startswith("Error: ")
        assert len(said.splitlines()) == 1
