"""No report is acknowledged before its transaction is committed, and none whose commit fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import OperationalError

from app.db.session import session_scope
from app.fleet.tables import Pulse
from tests.app.ingest.workstation import Workstation


@pytest.fixture
def at_commit() -> Iterator[list[Callable[[Connection], None]]]:
    """What is put in here is done in the writer's thread when a transaction is whole and about to be committed."""
    acts: list[Callable[[Connection], None]] = []

    def before_commit(connection: Connection) -> None:
        if threading.current_thread().name == "report-writer":
            for act in acts:
                act(connection)

    # At every engine: the writer has one of its own.
    event.listen(Engine, "commit", before_commit)
    yield acts
    event.remove(Engine, "commit", before_commit)


def received(server: FastAPI) -> int:
    with session_scope(server.state.engine, writes=False) as session:
        return session.scalars(select(Pulse.received)).one()


def test_the_answer_waits_for_the_commit(
    workstation: Workstation, server: FastAPI, at_commit: list[Callable[[Connection], None]]
) -> None:
    assert workstation.send().status_code == 200
    reached, release = threading.Event(), threading.Event()
    answers: list[Any] = []

    def hold(_connection: Connection) -> None:
        reached.set()
        assert release.wait(30)

    at_commit.append(hold)
    sender = threading.Thread(target=lambda: answers.append(workstation.send(bodies=False)))
    sender.start()
    try:
        assert reached.wait(30)
        sender.join(0.5)
        assert answers == []
    finally:
        release.set()
        sender.join(30)
    assert [answer.status_code for answer in answers] == [200]
    assert received(server) == 2


def test_a_failed_commit_is_no_acknowledgement(
    workstation: Workstation, server: FastAPI, at_commit: list[Callable[[Connection], None]]
) -> None:
    assert workstation.send().status_code == 200
    report = workstation.report(bodies=False)

    def fail(connection: Connection) -> None:
        connection.connection.rollback()  # as a database does that cannot commit
        raise OperationalError("COMMIT", None, OSError("the disk is full"))

    at_commit.append(fail)
    assert workstation.send(report).status_code == 503
    assert received(server) == 1
    at_commit.clear()
    assert workstation.send(report).status_code == 200
    assert received(server) == 2
