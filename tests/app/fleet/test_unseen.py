"""The list of those who were not seen for a day: who is in it, and that lists of hosts by it are right meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, update

from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.fleet import host_filter
from app.fleet.forget import forget_host
from app.fleet.host_filter import HostFilter, count_or_tally
from app.fleet.make import make_fleet
from app.fleet.queries_hosts import list_hosts
from app.fleet.standing import Standing
from app.fleet.tables import Host, Pulse, Subject, Unseen, VersionTally
from app.fleet.unseen import list_unseen, read_listed_at

AWAY = {0: 3, 1: 3, 2: 3, 3: 3, 4: 9, 5: 9, 6: 9}
"""Of the hosts by name, the days for which they were not seen."""


@pytest.fixture
def names(database: Engine) -> list[str]:
    """The names of a fleet's hosts, some of which were not seen for days; the list is fresh."""
    make_fleet(database, 40)
    at = now()
    with database.begin() as connection:
        connection.execute(update(Pulse).values(last_seen_at=at))
        hosts = connection.execute(
            select(Host.id, Host.name)
            .join(Subject, Subject.host_id == Host.id)
            .where(Subject.standing == Standing.COUNTED.value)
            .order_by(Host.name)
        ).all()
        for number, days in AWAY.items():
            of_host = select(Subject.id).where(Subject.host_id == hosts[number].id)
            seen_at = at - timedelta(days=days)
            connection.execute(update(Pulse).where(Pulse.subject_id.in_(of_host)).values(last_seen_at=seen_at))
    with database.connect() as connection:
        assert list_unseen(connection, at) == 7
        assert list_unseen(connection, at) == 7
    return [row.name for row in hosts]


def listed(engine: Engine, **wanted: Any) -> list[str]:
    """All that fit, three to a page."""
    found: list[str] = []
    cursor = None
    while True:
        with session_scope(engine, writes=False) as session:
            page = list_hosts(session, HostFilter(**wanted), cursor, 3)
        found += [row.name for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("few", [4000, 2], ids=["few", "many"])
def test_who_is_away_is_listed_without_a_look_at_all_pulses(
    database: Engine, names: list[str], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(host_filter, "FEW_SUBJECTS", few)
    statements: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert listed(database, seen="older") == names[4:7]
    assert listed(database, seen="week") == names[:4]
    assert not [one for one in statements if "seen_then AS" in one and "FROM pulse" in one.partition(")")[0]]
    day = (now() - timedelta(days=3)).date()
    assert listed(database, seen_from=day, seen_to=day) == names[:4]
    assert listed(database, seen_to=day) == names[:7]
    assert listed(database, seen_to=day, seen="week") == names[:4]
    assert set(names[7:]) <= set(listed(database, seen_from=day + timedelta(days=1)))
    assert not set(names[:7]) & set(listed(database, seen_from=day + timedelta(days=1)))
    assert listed(database, seen="older", name=names[4]) == names[4:5]
    # With what else is asked for: the same user has to fit both.
    assert listed(database, seen="week", standing=Standing.COUNTED) == names[:4]
    assert listed(database, seen="week", standing=Standing.ADMINISTRATOR) == []
    with database.connect() as connection:
        groups = dict(connection.execute(select(Host.name, Host.group_id)).all())
        versions = set(connection.scalars(select(VersionTally.version)))
    for group in set(groups.values()):
        assert listed(database, seen="week", group_id=group) == [one for one in names[:4] if groups[one] == group]
    by_version = [listed(database, seen="week", version=one) for one in versions]
    assert sorted(name for some in by_version for name in some) == names[:4]
    outcomes = [set(listed(database, seen="week", pattern="venv-python", outcome=one)) for one in ("tried", "untried")]
    assert set.union(*outcomes) == set(names[:4])
    with session_scope(database, writes=False) as session:
        assert count_or_tally(session, HostFilter(seen="week"), 100) == (4, None)
        assert count_or_tally(session, HostFilter(seen="week"), 3)[0] == 3


@pytest.mark.parametrize("few", [4000, 2], ids=["few", "many"])
def test_who_came_back_is_not_listed_any_more(
    database: Engine, names: list[str], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(host_filter, "FEW_SUBJECTS", few)
    with database.begin() as connection:
        back = select(Subject.id).join(Host, Host.id == Subject.host_id).where(Host.name == names[1])
        connection.execute(update(Pulse).where(Pulse.subject_id.in_(back)).values(last_seen_at=now()))
    assert listed(database, seen="week") == [names[0], *names[2:4]]
    with database.connect() as connection:
        assert list_unseen(connection, now()) == 6
    assert listed(database, seen="week") == [names[0], *names[2:4]]


def test_an_old_list_is_not_believed(database: Engine, names: list[str]) -> None:
    with database.connect() as connection:
        # Brought up to date before they went away, and never since.
        list_unseen(connection, now() - timedelta(days=30))
    with database.begin() as connection:
        connection.execute(delete(Unseen))
    assert listed(database, seen="older") == names[4:7]


def test_the_silent_and_the_forgotten_leave_the_list(database: Engine, names: list[str]) -> None:
    with session_scope(database) as session:
        first, second = session.scalars(select(Host.id).where(Host.name.in_(names[4:6])).order_by(Host.name)).all()
        session.execute(update(Subject).where(Subject.host_id == first).values(standing=Standing.SILENT.value))
        forget_host(session, second, actor=Actor(kind="account", name="ada@example.com"))
        assert session.scalars(select(Unseen.name).where(Unseen.host_id == second)).all() == []
    assert listed(database, seen="older") == names[6:7]
    assert listed(database, seen="older", standing=Standing.SILENT) == names[4:5]
    at = datetime(2030, 1, 1, tzinfo=UTC)
    with database.connect() as connection:
        list_unseen(connection, at)
    with session_scope(database, writes=False) as session:
        assert read_listed_at(session) == at
        assert session.scalars(select(Unseen.name).where(Unseen.name == names[4])).all() == []
