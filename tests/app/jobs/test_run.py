"""Work by the clock: each piece at its time, once however many processes look, and what went wrong is noted."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, select, update

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.db.slices import STOP, slice_of
from app.errors import NotFoundError
from app.fleet.tables import Tally, TallyDelta
from app.jobs import clock
from app.jobs.queries import list_jobs
from app.jobs.run import OVERDUE_AFTER, make_rows, run_due, run_soon
from app.jobs.tables import JobRow
from app.jobs.work import JOBS, Job, Keeping

KEEPING = Keeping(silent_after_days=14, retention_days=180)
ADA = Actor(kind="account", name="ada@example.com")


def job(run: object, name: str = "count-sightings") -> Job:
    return Job(name=name, title="", every=timedelta(hours=1), first_after=timedelta(0), run=run)


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


def test_work_in_slices_ends_soon_when_the_server_stops(database: Engine) -> None:
    stop, inside = threading.Event(), threading.Event()

    def go_on_and_on(connection: Connection, at: object, keeping: Keeping) -> str:
        for _ in range(10_000):
            with slice_of(connection):
                connection.execute(select(JobRow.name))
            inside.set()
        return "never"

    jobs = [job(go_on_and_on)]
    with database.connect() as connection:
        make_rows(connection, now() - timedelta(hours=1), jobs)

    def work() -> None:
        with database.connect() as connection:
            connection.info[STOP] = stop
            run_due(connection, KEEPING, jobs)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(20)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    with session_scope(database, writes=False) as session:
        line = next(line for line in list_jobs(session) if line.name == "count-sightings")
    assert (line.state, line.said) == ("done", "the server was stopped; begins anew after its start")
    with database.connect() as connection:
        assert run_due(connection, KEEPING, [job(lambda *_: "fine")]) == 1, "it is due again at once"


def test_counts_are_folded_while_work_takes_long(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection, at: object, keeping: Keeping) -> str:
        inside.set()
        assert go_on.wait(20)
        return "done"

    monkeypatch.setattr(clock, "run_due", lambda connection, keeping: run_due(connection, keeping, [job(slow)]))
    monkeypatch.setattr(clock, "FOLD_EVERY_S", 0.05)
    monkeypatch.setattr(clock, "LOOK_EVERY_S", 0.05)
    with database.connect() as connection:
        make_rows(connection, now() - timedelta(hours=1))
    running = clock.Clock(database, KEEPING)
    running.start()
    try:
        assert inside.wait(20)
        with session_scope(database) as session:
            session.add(TallyDelta(group_id=1, standing=1, set_id=0, delta=5))
        until_s = time.monotonic() + 10
        while True:
            with session_scope(database, writes=False) as session:
                if session.scalar(select(Tally.subjects).where(Tally.set_id == 0)) == 5:
                    break
            assert time.monotonic() < until_s
            time.sleep(0.02)
        assert not go_on.is_set()
    finally:
        go_on.set()
        running.stop()
