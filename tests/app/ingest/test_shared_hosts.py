"""One host and many users, and hosts that are made anew: quotas, marks, and how soon they leave the counts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.db.base import now
from app.db.session import session_scope
from app.errors import ConflictError
from app.fleet.hosts import mark_shared
from app.fleet.standing import Standing
from app.fleet.sweep import mark_silent
from app.fleet.tables import Host, Pulse, Subject
from tests.app.ingest.workstation import Workstation, enrolled


def send_as(workstation: Workstation, user: int) -> int:
    workstation.subject = f"S-1-5-21-1004336348-1177238915-682003330-{user}"
    status: int = workstation.send().status_code
    return status


def test_a_shared_host_may_bring_more_users_in_a_day_than_a_workstation(client: TestClient, server: FastAPI) -> None:
    workstation = enrolled(client, server)
    statuses = [send_as(workstation, 2_000 + user) for user in range(34)]
    assert statuses == [200] * 32 + [429] * 2
    assert send_as(workstation, 2_000) == 200, "those that are known go on"
    with session_scope(server.state.engine) as session:
        mark_shared(session, 1, shared=True, actor=COMMAND_LINE)
        with pytest.raises(ConflictError):
            mark_shared(session, 1, shared=True, actor=COMMAND_LINE)
    assert [send_as(workstation, 2_032 + user) for user in range(8)] == [200] * 8
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(Host)) == 1
        assert session.scalar(select(func.count()).select_from(Subject)) == 40
        hmacs = session.scalars(select(Subject.sid_hmac)).all()
    assert len(set(hmacs)) == 40
    assert all(b"S-1-5" not in one and len(one) == 16 for one in hmacs)


def test_the_same_user_is_the_same_on_every_host(client: TestClient, server: FastAPI) -> None:
    for name in ("PC-1", "PC-2"):
        assert send_as(enrolled(client, server, name), 2_000) == 200
    with session_scope(server.state.engine, writes=False) as session:
        hmacs = session.scalars(select(Subject.sid_hmac)).all()
    assert len(hmacs) == 2
    assert len(set(hmacs)) == 1


@pytest.mark.parametrize(("hours", "silent"), [(23, set()), (25, {True}), (15 * 24, {True, False})])
def test_hosts_made_anew_leave_the_counts_after_a_day(
    client: TestClient, server: FastAPI, hours: int, silent: set[bool]
) -> None:
    for name in ("VDI-1", "PC-1"):
        assert send_as(enrolled(client, server, name), 2_000) == 200
    with session_scope(server.state.engine) as session:
        session.execute(update(Host).where(Host.name == "VDI-1").values(ephemeral=True))
        session.execute(update(Pulse).values(last_seen_at=now() - timedelta(hours=hours)))
    with server.state.engine.connect() as connection:
        mark_silent(connection, now(), days=14)
    with session_scope(server.state.engine, writes=False) as session:
        found = session.execute(
            select(Host.ephemeral).join(Subject, Subject.host_id == Host.id).where(Subject.standing == Standing.SILENT)
        )
        assert set(found.scalars()) == silent
