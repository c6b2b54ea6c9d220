"""Long work on both databases: once at a time, told how far, cancelled, cut off by a stop or a kill, forgotten."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, QueuePool, update
from sqlalchemy.orm import Session

from app.audit.queries import list_entries
from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError, NotFoundError
from app.work import run
from app.work.claims import UNHEARD_FOR, is_held, make_claim
from app.work.rows import Asked, Work, ask_for_work, cancel_work, find_work, get_work, list_work
from app.work.run import Do, Keep, Progress, Workers, do_work
from app.work.tables import WorkRow

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")


def ask(engine: Engine, key: str = "1", actor: Actor = ADA) -> Asked:
    with session_scope(engine) as session:
        return ask_for_work(session, kind="sum", key=key, title="A sum", page=f"/sums/{key}", actor=actor)


def look(engine: Engine, key: str = "1") -> Work:
    with session_scope(engine, writes=False) as session:
        found = find_work(session, "sum", key)
    assert found is not None
    return found


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def giving(result: dict[str, int]) -> Do:
    def do(_engine: Engine, _progress: Progress) -> Keep:
        return lambda _session: result

    return do


class Endless:
    """Work that goes on until it is told to stop, and says how far it is."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.steps = 0

    def __call__(self, _engine: Engine, progress: Progress) -> Keep:
        self.begun.set()
        try:
            while True:
                self.steps += 1
                progress.tell("steps", self.steps, 1_000_000)
                time.sleep(0.005)
        finally:
            self.ended.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TELL_EVERY_S", 0.02)
    monkeypatch.setattr(run, "BEAT_EVERY_S", 0.05)


def test_the_same_is_worked_out_once_at_a_time(database: Engine) -> None:
    first, again, other = ask(database), ask(database, actor=BEN), ask(database, "2")
    assert first.claim is not None
    assert (again.claim, again.work.id, again.work.asked_by) == (None, first.work.id, ADA.name)
    assert other.claim is not None
    do_work(database, first.work.id, first.claim, giving({"sum": 3}))
    assert (look(database).state, look(database).result) == ("done", {"sum": 3})
    assert ask(database).claim is not None  # it is over: anybody may ask anew


def test_asked_for_by_many_at_the_same_moment_one_does_it(database: Engine) -> None:
    barrier, claims = threading.Barrier(6), []

    def all_at_once() -> None:
        barrier.wait()
        claims.append(ask(database).claim)

    threads = [threading.Thread(target=all_at_once) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(claim is not None for claim in claims) == [False] * 5 + [True]


def test_somebody_waits_a_moment_and_then_sees_how_far_it_is(database: Engine, quick: None) -> None:
    workers, endless, asked = Workers(database, patience_s=0.2), Endless(), ask(database)
    workers.start_work(asked, endless)
    assert workers.wait_for(asked.work).state == "running"
    until(lambda: look(database).done > 3)
    found = look(database)
    assert (found.doing, found.total, found.per_cent) == ("steps", 1_000_000, 0)
    workers.stop()


def test_cancelled_it_stops_and_keeps_nothing(database: Engine, quick: None) -> None:
    workers, endless, asked = Workers(database, patience_s=0.1), Endless(), ask(database)
    workers.start_work(asked, endless)
    assert endless.begun.wait(10)
    with session_scope(database) as session:
        cancel_work(session, asked.work.id, actor=BEN)
    assert endless.ended.wait(10)
    found = look(database)
    assert (found.state, found.problem, found.result) == ("cancelled", "Cancelled by ben@example.com.", None)
    with session_scope(database) as session:
        assert [entry.action for entry in list_entries(session).entries] == ["work.cancelled"]
        with pytest.raises(ConflictError):
            cancel_work(session, asked.work.id, actor=BEN)
        with pytest.raises(NotFoundError):
            cancel_work(session, 4711, actor=BEN)
    assert ask(database).claim is not None
    workers.stop()


def test_work_that_says_nothing_for_long_learns_it_too(database: Engine, quick: None) -> None:
    """Cancelled in the midst of one long step, it ends at the next, though nothing was told in between."""
    workers, asked = Workers(database, patience_s=0.1), ask(database)
    seen = threading.Event()

    def silent(_engine: Engine, progress: Progress) -> Keep:
        if progress.stop.wait(10):
            seen.set()
        progress.tell("the next step")
        raise AssertionError("it goes on")

    workers.start_work(asked, silent)
    until(lambda: look(database).state == "running")
    with session_scope(database) as session:
        cancel_work(session, asked.work.id, actor=ADA)
    assert seen.wait(10)
    workers.stop()
    assert look(database).state == "cancelled"


def test_what_is_cancelled_before_its_turn_never_runs(database: Engine) -> None:
    asked, ran = ask(database), []

    def do(_engine: Engine, _progress: Progress) -> Keep:
        ran.append(1)
        return lambda _session: None

    with session_scope(database) as session:
        cancel_work(session, asked.work.id, actor=ADA)
    assert asked.claim is not None
    do_work(database, asked.work.id, asked.claim, do)
    assert not ran


def test_a_server_that_stops_says_so(database: Engine, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "AT_ONCE", 1)
    workers, endless = Workers(database), Endless()
    running, waiting = ask(database), ask(database, "2")
    workers.start_work(running, endless)
    workers.start_work(waiting, Endless())
    assert endless.begun.wait(10)
    assert look(database, "2").state == "waiting"
    workers.stop()
    assert [look(database, key).state for key in "12"] == ["interrupted", "interrupted"]
    assert "restarted" in (look(database).problem or "")
    assert ask(database).claim is not None


def test_a_stopped_server_holds_no_connection(database: Engine, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that is under way when the server stops is waited for: who disposes of the engine then closes all."""
    begun, ended, beat = threading.Event(), threading.Event(), run.beat

    def slow_beat(session: Session, claims: list[str]) -> frozenset[str]:
        begun.set()
        time.sleep(0.5)
        alive = beat(session, claims)
        ended.set()
        return alive

    monkeypatch.setattr(run, "beat", slow_beat)
    workers, endless = Workers(database), Endless()
    workers.start_work(ask(database), endless)
    assert begun.wait(10)
    workers.stop()
    assert ended.is_set()
    assert isinstance(database.pool, QueuePool)
    assert database.pool.checkedout() == 0


def test_a_server_that_was_killed_is_found_out(database: Engine) -> None:
    asked = ask(database)
    with session_scope(database) as session:
        session.execute(update(WorkRow).values(claim=dead_claim(), state="running"))
    assert look(database).state == "interrupted"
    with session_scope(database, writes=False) as session:
        assert [one.state for one in list_work(session)] == ["interrupted"]
    with session_scope(database) as session, pytest.raises(ConflictError):
        cancel_work(session, asked.work.id, actor=ADA)
    again = ask(database)
    assert again.claim is not None
    with session_scope(database, writes=False) as session:
        assert get_work(session, asked.work.id).ended_at is not None
        assert get_work(session, again.work.id).is_under_way


def dead_claim() -> str:
    """The claim of a process of this machine that is gone."""
    code = "from app.work.claims import make_claim; print(make_claim())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_who_is_still_there() -> None:
    mine = make_claim()
    node, process, _ = mine.split(":")
    assert is_held(mine, now() - timedelta(days=1))
    assert not is_held(f"{node}:{process}:0123456789abcdef01234567", now())  # a container started anew: same number
    assert is_held("elsewhere:7:0123456789abcdef01234567", now())
    assert not is_held("elsewhere:7:0123456789abcdef01234567", now() - UNHEARD_FOR)
    assert not is_held(dead_claim(), now())
    assert not is_held("", now())


@pytest.mark.parametrize(("error", "words"), [(InvalidError("Not so."), "Not so."), (RuntimeError("secret"), "log")])
def test_a_failure_is_its_result(database: Engine, error: Exception, words: str) -> None:
    def fail(_engine: Engine, _progress: Progress) -> Keep:
        raise error

    asked = ask(database)
    assert asked.claim is not None
    do_work(database, asked.work.id, asked.claim, fail)
    found = look(database)
    assert found.state == "failed"
    assert words in (found.problem or "")
    assert "secret" not in (found.problem or "")


def test_what_cannot_be_kept_is_not_done(database: Engine) -> None:
    def keep(_session: object) -> None:
        raise RuntimeError("no room")

    asked = ask(database)
    assert asked.claim is not None
    do_work(database, asked.work.id, asked.claim, lambda _engine, _progress: keep)
    assert look(database).state == "failed"


def test_it_is_forgotten_after_a_week(database: Engine) -> None:
    asked = ask(database)
    assert asked.claim is not None
    do_work(database, asked.work.id, asked.claim, giving({}))
    with session_scope(database) as session:
        session.execute(update(WorkRow).values(ended_at=now() - timedelta(days=8)))
    ask(database, "2")
    with session_scope(database, writes=False) as session:
        assert [one.key for one in list_work(session)] == ["2"]
