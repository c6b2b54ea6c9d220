"""Work by the clock: each piece at its time, once however many processes look, and what went wrong is noted."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, select, update

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.errors import NotFoundError
from app.jobs.queries import list_jobs
from app.jobs.run import OVERDUE_AFTER, make_rows, run_due, run_soon
from app.jobs.tables import JobRow
from app.jobs.work import JOBS, Job, Keeping

KEEPING = Keeping(silent_after_days=14, retention_days=180)
ADA = Actor(kind="account", name="ada@example.com")


def job(run: object, name: str = "count-sightings") -> Job:
    return Job(name=name, title="", every=timedelta(hours=1), first_after=timedelta(0), run=run)  # type: ignore[arg-type]


def test_each_piece_runs_when_it_is_due_and_not_before(database: Engine) -> None:
    with database.connect() as connection:
        make_rows(connection, now())
        assert run_due(connection, KEEPING) == 0, "the first run comes a while after the start"
        make_rows(connection, now())
        with connection.begin():
            connection.execute(update(JobRow).values(next_at=now() - timedelta(seconds=1)))
        assert run_due(connection, KEEPING) == len(JOBS)
        assert run_due(connection, KEEPING) == 0
    with session_scope(database, writes=False) as session:
        lines = list_jobs(session)
    assert [line.name for line in lines] == [job.name for job in JOBS]
    assert {line.state for line in lines} == {"done"}
    assert all(line.said and line.took_ms is not None and line.next_at is not None for line in lines)
    assert all(line.next_at - line.began_at == line.every for line in lines if line.next_at and line.began_at)


def test_of_two_processes_one_does_it(database: Engine) -> None:
    ran = []
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection, at: object, keeping: Keeping) -> str:
        ran.append(threading.current_thread().name)
        inside.set()
        assert go_on.wait(20)
        return "done"

    with database.connect() as connection:
        make_rows(connection, now() - timedelta(hours=1), [job(slow)])

    def look() -> None:
        with database.connect() as connection:
            run_due(connection, KEEPING, [job(slow)])

    first = threading.Thread(target=look)
    first.start()
    assert inside.wait(20)
    # Due again although it still goes on: nobody else takes it.
    with session_scope(database) as session:
        session.execute(update(JobRow).values(next_at=now() - timedelta(seconds=1)))
    look()
    with session_scope(database, writes=False) as session:
        states = {line.name: line.state for line in list_jobs(session)}
    assert states["count-sightings"] == "running"
    go_on.set()
    first.join(20)
    assert len(ran) == 1


def test_a_run_whose_process_died_is_done_anew(database: Engine) -> None:
    with database.connect() as connection:
        make_rows(connection, now() - timedelta(hours=1))
        with connection.begin():
            long_ago = now() - OVERDUE_AFTER - timedelta(minutes=1)
            connection.execute(update(JobRow).values(began_at=long_ago, ended_at=None))
        with session_scope(database, writes=False) as session:
            assert {line.state for line in list_jobs(session)} == {"lost"}
        assert run_due(connection, KEEPING) == len(JOBS)


def test_a_failure_is_noted_and_the_others_run(database: Engine) -> None:
    def fail(connection: Connection, at: object, keeping: Keeping) -> str:
        connection.execute(select(JobRow.name))  # a transaction is open when it fails
        raise ValueError("no such thing " + "x" * 1000)

    jobs = [job(fail, "count-sightings"), job(lambda *_: "fine", "mark-silent")]
    with database.connect() as connection:
        make_rows(connection, now() - timedelta(hours=1), jobs)
        assert run_due(connection, KEEPING, jobs) == 2
    with session_scope(database, writes=False) as session:
        lines = {line.name: line for line in list_jobs(session)}
    assert lines["count-sightings"].state == "failed"
    assert lines["count-sightings"].said.startswith("ValueError: no such thing")
    assert len(lines["count-sightings"].said) <= 500
    assert (lines["mark-silent"].state, lines["mark-silent"].said) == ("done", "fine")


def test_an_administrator_has_it_done_at_once(database: Engine) -> None:
    with database.connect() as connection:
        make_rows(connection, now())
        with session_scope(database) as session:
            run_soon(session, "write-daily", ADA)
        assert run_due(connection, KEEPING) == 1
    with session_scope(database) as session:
        assert session.scalars(select(AuditEntry.action)).all() == ["job.started"]
        with pytest.raises(NotFoundError):
            run_soon(session, "invented", ADA)
