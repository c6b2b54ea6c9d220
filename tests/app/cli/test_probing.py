"""`wayleave probing`: stop, look, resume, and what is said of groups that are not there."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import select

from app.audit.tables import AuditEntry
from app.cli.probing import command
from app.db.session import session_scope
from app.fleet.groups import get_or_make_group


@pytest.fixture(autouse=True)
def database(server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    url = server.state.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", url)
    return server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_stop_look_and_resume(database: FastAPI) -> None:
    with session_scope(database.state.engine) as session:
        get_or_make_group(session, "Sales")
    assert run("status").exit_code == 0
    assert run("stop", "--group", "Sales", "--reason", "toasts").exit_code == 0
    assert run("stop").exit_code == 0
    looked = run("status")
    assert looked.exit_code == 1
    assert [line.split(",")[0] for line in looked.output.splitlines()] == ["all hosts", "Sales"]
    assert "toasts" in looked.output
    assert run("resume").exit_code == 0
    assert run("resume", "--group", "Sales").exit_code == 0
    assert run("status").exit_code == 0
    with session_scope(database.state.engine, writes=False) as session:
        actions = [
            one for one in session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)) if one[:8] == "probing."
        ]
    assert actions == ["probing.stopped", "probing.stopped", "probing.resumed", "probing.resumed"]


def test_what_cannot_be_done_is_said() -> None:
    unknown = run("stop", "--group", "Nobody")
    assert (unknown.exit_code, "no group called" in unknown.output) == (1, True)
    again = run("resume")
    assert (again.exit_code, "not stopped for all hosts" in again.output) == (1, True)
