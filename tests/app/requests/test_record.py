"""Requests for access on both databases: grouped, counted once for each asker, bounded, answered for all."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, update

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.errors import AppError, InvalidError, NotFoundError
from app.requests import record as limits
from app.requests.queries import SHOWN_PER_GROUP, Group, find_groups, list_groups
from app.requests.record import KEPT, answer_group, drop_old_requests, record_request
from app.requests.tables import AccessRequest

SOMEBODY = Actor(kind="anonymous", name="somebody", address="192.0.2.1")
ADA = Actor(kind="account", name="ada@example.com")


def ask(
    engine: Engine,
    *patterns: str,
    asker: bytes = b"1" * 16,
    by: str = "applocker-or-srp",
    message: str = "",
    workflow: str | None = "uvx",
) -> int:
    with session_scope(engine) as session:
        return record_request(
            session,
            engine=by,
            patterns=patterns,
            workflow=workflow,
            contact="",
            message=message,
            asker=asker,
            actor=SOMEBODY,
        )


def groups(engine: Engine) -> tuple[Group, ...]:
    with session_scope(engine, writes=False) as session:
        return list_groups(session)


def test_requests_are_grouped_by_what_is_blocked(database: Engine) -> None:
    for number in range(3):
        assert ask(database, "venv-python", asker=bytes([number]) * 16, message=f"message {number}") == 1
    ask(database, "venv-python", by="wdac")
    ask(database, "")
    top, *others = groups(database)
    assert (top.engine, top.pattern, top.requests, top.state) == ("applocker-or-srp", "venv-python", 3, "open")
    assert [one.message for one in top.asked] == ["message 2", "message 1", "message 0"]
    assert {(one.engine, one.pattern, one.requests) for one in others} == {
        ("wdac", "venv-python", 1),
        ("applocker-or-srp", "", 1),
    }


def test_one_request_may_be_for_several_places(database: Engine) -> None:
    assert ask(database, "venv-python", "venv-entrypoint-exe", "venv-python") == 2
    assert {one.pattern: one.requests for one in groups(database)} == {"venv-python": 1, "venv-entrypoint-exe": 1}


def test_who_asks_twice_counts_once_and_is_heard_last(database: Engine) -> None:
    assert ask(database, "venv-python", message="first") == 1
    assert ask(database, "venv-python", message="second") == 0
    (group,) = groups(database)
    assert (group.requests, [one.message for one in group.asked]) == (1, ["second"])
    with session_scope(database, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 1


def test_one_answer_is_for_all_and_who_asks_later_is_counted(database: Engine) -> None:
    ask(database, "venv-python")
    (group,) = groups(database)
    with session_scope(database) as session:
        answer_group(session, group.id, state="answered", note="Since Monday.", actor=ADA)
    ask(database, "venv-python", asker=b"2" * 16)
    (group,) = groups(database)
    assert (group.state, group.note, group.answered_by) == ("answered", "Since Monday.", "ada@example.com")
    assert (group.requests, group.requests_since) == (2, 1)
    with session_scope(database, writes=False) as session:
        found = find_groups(session, "applocker-or-srp", ["venv-python", ""])
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert found["venv-python"].note == "Since Monday."
    assert found["venv-python"].asked == ()
    assert list(actions) == ["access.asked", "access.answered", "access.asked"]
    with session_scope(database) as session:
        answer_group(session, group.id, state="open", note="", actor=ADA)
    (group,) = groups(database)
    assert (group.state, group.answered_at, group.answered_by, group.requests_since) == ("open", None, None, 0)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"engine": "antivirus"}, "engine"),
        ({"engine": "x" * 100}, "engine"),
        ({"patterns": ()}, "pattern"),
        ({"patterns": ("invented",)}, "pattern"),
        ({"patterns": tuple(f"p{number}" for number in range(13))}, "pattern"),
        ({"workflow": "invented"}, "workflow"),
        ({"contact": "x" * 201}, "contact"),
        ({"message": "x" * 501}, "message"),
    ],
)
def test_what_no_page_sends_is_refused(database: Engine, changed: dict[str, object], field: str) -> None:
    wanted: dict[str, object] = {
        "engine": "wdac",
        "patterns": ("venv-python",),
        "workflow": None,
        "contact": "",
        "message": "",
    }
    with session_scope(database) as session, pytest.raises(InvalidError) as caught:
        record_request(session, **(wanted | changed), asker=b"", actor=SOMEBODY)
    assert caught.value.field == field
    assert groups(database) == ()


def test_answers_are_checked(database: Engine) -> None:
    ask(database, "venv-python")
    (group,) = groups(database)
    with session_scope(database) as session:
        with pytest.raises(NotFoundError):
            answer_group(session, group.id + 1, state="answered", note="", actor=ADA)
        with pytest.raises(InvalidError):
            answer_group(session, group.id, state="granted", note="", actor=ADA)
        with pytest.raises(InvalidError):
            answer_group(session, group.id, state="answered", note="x" * 1001, actor=ADA)


def test_a_day_has_an_end_and_a_quarter_too(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PER_DAY", 3)
    for number in range(3):
        ask(database, "venv-python", asker=bytes([number]) * 16)
    with pytest.raises(AppError) as caught:
        ask(database, "venv-python", asker=b"x" * 16)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 3600)
    with session_scope(database) as session:
        session.execute(update(AccessRequest).values(asked_at=now() - KEPT - timedelta(hours=1)))
    ask(database, "venv-python", asker=b"x" * 16)
    with database.connect() as connection:
        drop_old_requests(connection, now())
    (group,) = groups(database)
    assert (group.requests, len(group.asked)) == (4, 1)


def test_only_the_newest_requests_are_read(database: Engine) -> None:
    for number in range(SHOWN_PER_GROUP + 2):
        ask(database, "venv-python", asker=bytes([number]) * 16)
    (group,) = groups(database)
    assert (group.requests, len(group.asked)) == (SHOWN_PER_GROUP + 2, SHOWN_PER_GROUP)


def test_askers_at_the_same_time_are_all_counted(database: Engine) -> None:
    failures: list[Exception] = []

    def ask_often(start: int) -> None:
        try:
            for number in range(start, start + 5):
                ask(database, "venv-python", "venv-entrypoint-exe", asker=bytes([number]) * 16)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask_often, args=(start,)) for start in (0, 5, 10, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {one.requests for one in groups(database)} == {20}
