"""Hosts by when they were last seen: the right ones, and all pulses are gone over once for a list and its count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, update

from app.audit.record import SYSTEM
from app.db.base import now
from app.db.session import session_scope
from app.fleet import host_filter
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import create_group
from app.fleet.host_filter import HostFilter, count_fitting
from app.fleet.hosts import move_host
from app.fleet.make import make_fleet
from app.fleet.queries_hosts import list_hosts
from app.fleet.standing import Standing
from app.fleet.tables import Host, Pulse, Subject


@pytest.fixture
def long_ago(database: Engine) -> list[str]:
    """Names of hosts that were last seen eight days ago; of the others nobody was."""
    make_fleet(database, 60)
    with database.begin() as connection:
        connection.execute(update(Pulse).values(last_seen_at=now()))
        counted = select(Subject.id, Host.name).join(Host, Host.id == Subject.host_id)
        rows = connection.execute(
            counted.where(Subject.standing == Standing.COUNTED.value).order_by(Host.name).limit(7)
        ).all()
        connection.execute(
            update(Pulse)
            .where(Pulse.subject_id.in_([row.id for row in rows]))
            .values(last_seen_at=now() - timedelta(days=8))
        )
    return [row.name for row in rows]


@pytest.mark.parametrize("few", [10_000, 3], ids=["few", "many"])
def test_who_was_seen_long_ago_is_listed(
    database: Engine, long_ago: list[str], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(host_filter, "FEW_SUBJECTS", few)
    for wanted, names in (
        (HostFilter(seen="older"), long_ago),
        (HostFilter(seen="older", name=long_ago[0]), long_ago[:1]),
        (HostFilter(seen="week"), []),
    ):
        with session_scope(database, writes=False) as session:
            assert [line.name for line in list_hosts(session, wanted).rows] == names
    with session_scope(database, writes=False) as session:
        # Of many it is known at once that they are more than are counted.
        assert count_fitting(session, HostFilter(seen="older"), limit=5) == 5
        assert count_fitting(session, HostFilter(seen="week"), limit=5) == 0


def test_a_list_and_its_count_look_at_all_pulses_once(database: Engine, long_ago: list[str]) -> None:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "last_seen_at <" in statement:
            statements.append(statement)

    event.listen(database, "before_cursor_execute", note)
    with session_scope(database, writes=False) as session:
        assert len(list_hosts(session, HostFilter(seen="older")).rows) == len(long_ago)
        assert count_fitting(session, HostFilter(seen="older")) == len(long_ago)
    assert len(statements) == 1


def test_a_day_that_is_over_is_looked_for_once_and_asked_again(database: Engine, long_ago: list[str]) -> None:
    """Who was found is remembered between requests; who was seen since is not listed."""
    day = (now() - timedelta(days=8)).date()
    wanted = HostFilter(seen_from=day, seen_to=day)
    scans: list[str] = []
    event.listen(
        database, "before_cursor_execute", lambda *args: scans.append(args[2]) if "seen_then AS" in args[2] else None
    )

    def names() -> list[str]:
        with session_scope(database, writes=False) as session:
            found = [line.name for line in list_hosts(session, wanted).rows]
            assert count_fitting(session, wanted) == len(found)
            return found

    assert names() == long_ago
    assert names() == long_ago
    assert len(scans) == 1
    with database.begin() as connection:
        back = select(Subject.id).join(Host, Host.id == Subject.host_id).where(Host.name == long_ago[0])
        connection.execute(update(Pulse).where(Pulse.subject_id.in_(back)).values(last_seen_at=now()))
    assert names() == long_ago[1:]
    assert len(scans) == 1


def test_who_was_found_is_looked_for_where_they_are_now(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that were moved since a day was looked for are listed in their new group, and no more in their old one."""
    monkeypatch.setattr(host_filter, "FEW_SUBJECTS", 3)
    day = (now() - timedelta(days=8)).date()
    make_fleet(database, 30)
    with database.begin() as connection:
        connection.execute(update(Pulse).values(last_seen_at=now() - timedelta(days=8)))

    def names(group_id: int | None) -> list[str]:
        with session_scope(database, writes=False) as session:
            wanted = HostFilter(seen_from=day, seen_to=day, group_id=group_id)
            return [line.name for line in list_hosts(session, wanted).rows]

    everybody = names(None)
    with session_scope(database) as session:
        moved = session.scalars(select(Host).where(Host.name == everybody[0])).one()
        old, new = moved.group_id, create_group(session, "Newcomers", actor=SYSTEM).id
        move_host(session, moved.id, new, actor=SYSTEM)
    with database.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    assert names(new) == everybody[:1]
    assert everybody[0] not in names(old)
    assert names(None) == everybody
