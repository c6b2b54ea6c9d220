"""How well facts are shared: measured from the tallies, kept, and an audit entry when it begins or ceases to fail."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, delete, func, select

from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.fleet.fold import count_waiting
from app.fleet.make import make_fleet
from app.fleet.sharing import ENOUGH_USERS, USERS_PER_SET, KindSharing, find_sharing, measure_sharing
from app.fleet.tables import KIND_NUMBERS, FactSet, Subject, Tally, TallyDelta


def audited(engine: Engine) -> list[tuple[str, str | None]]:
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(AuditEntry.action, AuditEntry.target)
            .where(AuditEntry.action.startswith("facts."))
            .order_by(AuditEntry.id)
        )
        return [(action, target) for action, target in rows]


def test_a_uniform_fleet_shares_well(database: Engine) -> None:
    with session_scope(database, writes=False) as session:
        assert find_sharing(session) is None
    make_fleet(database, ENOUGH_USERS + 100)
    at = now()
    with database.connect() as connection:
        measured = measure_sharing(connection, at)
    assert measured.failing == ()
    with session_scope(database, writes=False) as session:
        kept = find_sharing(session)
        for one in measured.kinds:
            column = getattr(Subject, f"{one.kind}_id")
            assert (one.sets, one.users) == session.execute(
                select(func.count(column.distinct()), func.count(column))
            ).one()
    assert kept is not None
    assert kept.kinds == measured.kinds
    assert abs(kept.measured_at - at) < timedelta(seconds=1)
    assert {one.kind for one in kept.kinds} == set(KIND_NUMBERS)
    assert audited(database) == []


def test_a_token_for_everybody_is_noticed_once_and_its_end_too(database: Engine) -> None:
    make_fleet(database, ENOUGH_USERS + 100, profile="diverse")
    with database.connect() as connection:
        measured = measure_sharing(connection, now())
        measure_sharing(connection, now())
    assert [one.kind for one in measured.failing] == ["token"]
    assert measured.failing[0].users_per_set == 1
    assert audited(database) == [("facts.sharing_failed", "token")]
    with database.begin() as connection:
        tokens = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS["token"])
        connection.execute(delete(Tally).where(Tally.set_id.in_(tokens)))
    with database.connect() as connection:
        assert measure_sharing(connection, now()).failing == ()
    with session_scope(database) as session:
        assert find_sharing(session)
    with session_scope(database, writes=False) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "facts.sharing_failed")).one()
    assert (entry.actor_kind, entry.detail["sets"]) == ("system", measured.failing[0].sets)


@pytest.mark.parametrize(
    ("users", "sets", "fails"),
    [
        (ENOUGH_USERS, ENOUGH_USERS // USERS_PER_SET, False),
        (ENOUGH_USERS, ENOUGH_USERS // USERS_PER_SET + 1, True),
        (ENOUGH_USERS - 1, ENOUGH_USERS - 1, False),
        (0, 0, False),
    ],
)
def test_where_it_begins_to_fail(users: int, sets: int, fails: bool) -> None:
    assert KindSharing(kind="uv", sets=sets, users=users).fails is fails


def test_waiting_changes_are_counted_so_far(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.fleet.fold.MANY_DELTAS", 3)
    for expected in ((0, False), (2, False), (3, True), (3, True)):
        with session_scope(database, writes=False) as session:
            waiting = count_waiting(session)
        assert (waiting.changes, waiting.is_many) == expected
        with session_scope(database) as session:
            session.add_all([TallyDelta(group_id=1, standing=1, set_id=0, delta=1) for _ in range(2)])
