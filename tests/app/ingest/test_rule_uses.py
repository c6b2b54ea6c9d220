"""How often rules were used, from reports to what pages read: once each, bounded, forgotten in time; both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event, func, insert, select, update

from agent.contract.facts import CollectionInForce, PolicySet
from app.audit.record import COMMAND_LINE
from app.db.base import now
from app.db.session import session_scope
from app.fleet import rule_uses
from app.fleet.forget import forget_host
from app.fleet.rule_uses import (
    KEPT_DAYS,
    MAX_RULES_A_DAY,
    RuleUses,
    Used,
    UseRow,
    fold_uses,
    read_rule_uses,
    write_uses,
)
from app.fleet.standing import HostState
from app.fleet.tables import Host, Subject
from app.fleet.tables_rule_use import RuleCounted, RuleDay, RuleUse
from app.ingest.decode import MAX_RULE_USES, MAX_USES
from app.policies import rule_counts
from app.policies.rule_counts import COUNTS_KEPT_DAYS, count_rule_uses
from tests.app.ingest.workstation import Workstation, enrolled

RULE = "921cc481-6e17-4653-8f75-050b80acca20"
OTHER = "a61c8b2c-a319-4cd0-9690-d2177cad7b51"
UNUSED = "11111111-6e17-4653-8f75-050b80acca20"


def day(ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


def use(rule: str = RULE, ago: int = 1, count: int = 3) -> dict[str, Any]:
    return {"rule_id": rule, "day": day(ago), "count": count}


def stored(engine: Engine) -> dict[tuple[int, str, str], int]:
    with session_scope(engine, writes=False) as session:
        return {
            (one.host_id, one.rule_id, rule_uses.day_of(one.day).isoformat()): one.uses
            for one in session.scalars(select(RuleUse))
        }


def read(engine: Engine, *rules: str, days: int = KEPT_DAYS, at: datetime | None = None) -> RuleUses:
    with engine.connect() as connection:
        count_rule_uses(connection, at or now())
    with session_scope(engine, writes=False) as session:
        return read_rule_uses(session, rules, at=at or now(), days=days)


def in_force(*rules: str) -> PolicySet:
    return PolicySet(
        collections={
            "Exe": CollectionInForce(mode="Enabled", rules=tuple(f'<FilePathRule Id="{{{rule}}}"/>' for rule in rules))
        }
    )


def test_a_days_total_is_stored_once_however_often_it_is_told(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report(rule_uses=[use(), use(OTHER, 2, 1)])
    assert workstation.send(report).status_code == 200
    assert workstation.send(report).status_code == 200, "a replay"
    expected = {(1, RULE, day(1)): 3, (1, OTHER, day(2)): 1}
    assert stored(server.state.engine) == expected
    workstation.send(rule_uses=[use(), use(OTHER.upper(), 2, 1)])
    assert stored(server.state.engine) == expected, "told again under another number"
    workstation.send(rule_uses=[use(count=2)])
    assert stored(server.state.engine) == expected, "a total does not shrink"
    workstation.send(rule_uses=[use(count=8), use(count=7)])
    assert stored(server.state.engine) == {**expected, (1, RULE, day(1)): 8}


def test_a_late_report_adds_what_it_tells(workstation: Workstation, server: FastAPI) -> None:
    late = workstation.report(rule_uses=[use(ago=5)])
    assert workstation.send(rule_uses=[use()]).status_code == 200
    assert workstation.send(late).status_code == 200
    assert set(stored(server.state.engine)) == {(1, RULE, day(5)), (1, RULE, day(1))}


def test_users_of_one_host_add_up_to_the_hosts_own_count(workstation: Workstation, server: FastAPI) -> None:
    """The count is the host's: whichever user's report tells it, and whether two do."""
    workstation.send(rule_uses=[use(count=4)])
    first = workstation.subject
    workstation.subject = first[:-4] + "2002"
    workstation.send(rule_uses=[use(count=4), use(OTHER)])
    assert stored(server.state.engine) == {(1, RULE, day(1)): 4, (1, OTHER, day(1)): 3}
    found = read(server.state.engine, RULE)
    assert found.by_rule[RULE] == Used(uses=4, hosts=1, last_on=date.fromisoformat(day(1)))


BAD = [
    ({}, "rule_uses"),
    ("many", "rule_uses"),
    ([use()] * (MAX_RULE_USES + 1), "rule_uses"),
    ([use(), {"rule_id": RULE, "day": day(1)}], "rule_uses.1.count"),
    ([use("no-guid")], "rule_uses.0.rule_id"),
    ([use(RULE + "\n")], "rule_uses.0.rule_id"),
    ([use("{" + RULE + "}")], "rule_uses.0.rule_id"),
    ([use(RULE.replace("9", "\u0669", 1))], "rule_uses.0.rule_id"),
    ([use(count=0)], "rule_uses.0.count"),
    ([use(count=-1)], "rule_uses.0.count"),
    ([use(count=MAX_USES + 1)], "rule_uses.0.count"),
    ([use(count=2**70)], "rule_uses.0.count"),
    ([{**use(), "count": 1.5}], "rule_uses.0.count"),
    ([{**use(), "count": True}], "rule_uses.0.count"),
    ([{**use(), "count": "3"}], "rule_uses.0.count"),
    ([use(), use(ago=KEPT_DAYS + 2)], "rule_uses.1.day"),
    ([use(ago=-2)], "rule_uses.0.day"),
    ([{**use(), "day": "2026-02-30"}], "rule_uses.0.day"),
    ([{**use(), "day": "0000-00-00"}], "rule_uses.0.day"),
    ([{**use(), "day": "2026-W01-1"}], "rule_uses.0.day"),
    ([{**use(), "day": 20_000}], "rule_uses.0.day"),
]


def test_a_bad_count_is_refused_by_name_and_nothing_is_stored(workstation: Workstation, server: FastAPI) -> None:
    for uses, field in BAD:
        answer = workstation.send(rule_uses=uses)
        assert answer.status_code == 422, (uses, answer.text)
        assert answer.json()["field"] == field, uses
    assert stored(server.state.engine) == {}
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(Subject)) == 0


def test_forged_rules_fill_no_table(workstation: Workstation, server: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def forged(number: int) -> list[dict[str, Any]]:
        return [use(f"{number * 1000 + one:08x}{RULE[8:]}", count=MAX_USES) for one in range(MAX_RULE_USES)]

    workstation.send(rule_uses=[use()])
    for number in range(3):
        assert workstation.send(rule_uses=forged(number)).status_code == 200
    found = stored(server.state.engine)
    assert len(found) == MAX_RULES_A_DAY
    assert found[1, RULE, day(1)] == 3
    assert workstation.send(rule_uses=[use(count=9)]).status_code == 200
    assert stored(server.state.engine)[1, RULE, day(1)] == 9, "what is known may still grow"
    # Pages count the rules of most hosts first.
    honest = enrolled(workstation.client, server, "PC-2")
    honest.send(rule_uses=[use()])
    monkeypatch.setattr(rule_counts, "MAX_RULES_SHOWN", 20)
    assert read(server.state.engine, RULE).by_rule[RULE].hosts == 2
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(RuleDay)) == 20 + 1, "and any rule"


def test_reports_without_counts_ask_the_database_for_nothing_more(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    said: list[str] = []

    def listen(*given: Any) -> None:
        if threading.current_thread().name == "report-writer":
            said.append(given[2])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        assert workstation.send(bodies=False).status_code == 200
        assert not any("rule_use" in statement for statement in said)
        assert workstation.send(bodies=False, rule_uses=[use()]).status_code == 200
        if server.state.engine.dialect.name == "sqlite":
            # On PostgreSQL they go past SQLAlchemy; `test_writer` counts them.
            assert sum("rule_use" in statement for statement in said) == 3
        assert not any("rule_day" in statement for statement in said), "all writers would wait for its rows"
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


def test_pages_read_what_was_used_and_what_was_not(workstation: Workstation, server: FastAPI) -> None:
    client = workstation.client
    engine = server.state.engine
    nobody = read(engine, RULE)
    assert (nobody.reporting, nobody.since, nobody.unused) == (0, None, frozenset())
    workstation.put(in_force(RULE, OTHER, UNUSED))
    workstation.send(rule_uses=[use(), use(OTHER, 20, 5), use(RULE, 2, 4)])
    second = enrolled(client, server, "PC-2")
    second.put(in_force(RULE))
    second.send(rule_uses=[use(count=10)])
    silent = enrolled(client, server, "PC-3")
    silent.put(in_force(RULE, UNUSED))
    silent.send()
    nowhere = "22222222-6e17-4653-8f75-050b80acca20"
    read(engine, at=now() - timedelta(days=10))
    found = read(engine, RULE.upper(), "{" + OTHER + "}", UNUSED, nowhere)
    today = date.fromisoformat(day(0))
    assert found == RuleUses(
        day=today,
        days=KEPT_DAYS,
        reporting=2,
        since=date.fromisoformat(day(20)),
        by_rule={
            RULE: Used(uses=17, hosts=2, last_on=date.fromisoformat(day(1))),
            OTHER: Used(uses=5, hosts=1, last_on=date.fromisoformat(day(20))),
        },
        counted_on={RULE: 2, OTHER: 1, UNUSED: 1, nowhere: 0},
        counted_since={
            RULE: date.fromisoformat(day(10)),
            OTHER: date.fromisoformat(day(20)),
            UNUSED: date.fromisoformat(day(10)),
        },
    )
    assert found.unused == set(), "nobody has counted for a month"
    week = read(engine, RULE, OTHER, UNUSED, nowhere, days=7)
    assert set(week.by_rule) == {RULE}
    assert week.unused == {OTHER, UNUSED}, "of a rule that no counting host has, nobody knows"
    assert read(engine, UNUSED, days=11).unused == set()


def test_a_rule_that_goes_away_is_no_unused_rule(workstation: Workstation, server: FastAPI) -> None:
    engine = server.state.engine
    workstation.put(in_force(RULE, UNUSED))
    workstation.send(rule_uses=[use()])
    read(engine, at=now() - timedelta(days=9))
    assert read(engine, UNUSED, days=7).unused == {UNUSED}
    workstation.put(in_force(RULE))
    workstation.send()
    assert read(engine, UNUSED, days=7).unused == set()


def test_only_hosts_that_count_as_the_fleet_are_counted(workstation: Workstation, server: FastAPI) -> None:
    """Not those that wait for approval; those that are gone no more."""
    waits, goes = (enrolled(workstation.client, server, name) for name in ("PC-2", "PC-3"))
    states = {2: HostState.QUARANTINED, 3: HostState.ACTIVE}

    def put_states() -> None:
        with session_scope(server.state.engine) as session:
            for host_id, state in states.items():
                session.execute(update(Host).where(Host.id == host_id).values(state=state.value))

    put_states()
    for one in (workstation, waits, goes):
        one.put(in_force(RULE))
        assert one.send(rule_uses=[use()]).status_code == 200
    states = {2: HostState.ACTIVE, 3: HostState.REVOKED}
    put_states()
    found = read(server.state.engine, RULE)
    assert (found.reporting, found.by_rule[RULE].uses, found.counted_on) == (1, 6, {RULE: 1})
    waits.send(rule_uses=[use(OTHER, 0, 1)])
    assert read(server.state.engine, RULE).reporting == 2


def test_which_host_used_a_rule_is_forgotten_after_a_month(workstation: Workstation, server: FastAPI) -> None:
    engine = server.state.engine
    workstation.put(in_force(RULE))
    workstation.send(rule_uses=[use(ago=1), use(ago=KEPT_DAYS)])
    read(engine, RULE)
    later = now() + timedelta(days=KEPT_DAYS)
    found = read(engine, RULE, days=2 * KEPT_DAYS, at=later)
    assert set(stored(engine)) == {(1, RULE, day(1))}
    assert found.by_rule[RULE].uses == 6, "the fleet's counts name no host and stay"
    over = read(engine, RULE, at=later + timedelta(days=4))
    assert (over.reporting, over.counted_on, len(over.by_rule), len(over.unused)) == (0, {RULE: 0}, 0, 0)
    assert stored(engine) == {}
    read(engine, RULE, at=later + timedelta(days=COUNTS_KEPT_DAYS + 1))
    with session_scope(engine, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(RuleDay)) == 0
        assert session.scalar(select(func.count()).select_from(RuleCounted)) == 0


def test_a_host_that_is_erased_takes_its_counts_along(workstation: Workstation, server: FastAPI) -> None:
    other = enrolled(workstation.client, server, "PC-2")
    for one in (workstation, other):
        one.send(rule_uses=[use()])
    with session_scope(server.state.engine) as session:
        forget_host(session, 1, actor=COMMAND_LINE)
    assert set(stored(server.state.engine)) == {(2, RULE, day(1))}
    found = read(server.state.engine, RULE)
    assert (found.reporting, found.by_rule[RULE].uses) == (1, 6), "the fleet's counts name nobody, and stay"


def test_thousands_of_rules_are_read_in_few_statements(database: Engine) -> None:
    rules = [f"{one:08x}{RULE[8:]}" for one in range(6_000)]
    with database.begin() as connection:
        today = int(now().timestamp()) // 86_400
        connection.execute(
            insert(RuleDay),
            [{"rule_id": rule, "day": today, "uses": 2, "hosts": 1} for rule in rules],
        )
    said: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *given: said.append(given[2]))
    with session_scope(database, writes=False) as session:
        found = read_rule_uses(session, rules, at=now())
    assert len(found.by_rule) == 6_000
    assert sum(one.startswith("SELECT") for one in said) == 4


def test_two_writers_of_the_same_days_keep_the_larger_and_add_once(workstation: Workstation, server: FastAPI) -> None:
    """Users of one host whose reports come to two processes at the same time."""
    workstation.send()
    today = int(now().timestamp()) // 86_400
    engine = server.state.engine
    sets = [
        [UseRow(1, today, f"{one:08x}{RULE[8:]}", factor * (one + 1)) for one in range(offset, offset + 60)]
        for offset, factor in ((0, 1), (30, 3), (0, 2), (50, 1))
    ]

    def write(rows: list[UseRow]) -> None:
        for begin in range(0, len(rows), 20):
            with engine.begin() as connection:
                write_uses(connection, rows[begin : begin + 20])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, sets))
    with engine.connect() as connection:
        fold_uses(connection, wait=True)
    true: dict[str, int] = {}
    for row in (row for rows in sets for row in rows):
        true[row.rule_id] = max(row.uses, true.get(row.rule_id, 0))
    with session_scope(engine, writes=False) as session:
        assert {one.rule_id: one.uses for one in session.scalars(select(RuleUse))} == true
        days = {one.rule_id: (one.uses, one.hosts) for one in session.scalars(select(RuleDay))}
    total, _hosts = days.pop("")
    assert total == sum(true.values())
    assert days == {rule: (uses, 1) for rule, uses in true.items()}


def test_rules_whose_use_no_agent_can_see_are_not_called_unused(workstation: Workstation, server: FastAPI) -> None:
    """Rules that deny let nothing start; packaged apps have logs of their own."""
    denies, packaged, managed = (f"{one:08x}{RULE[8:]}" for one in (1, 2, 3))

    def rule(rule_id: str, action: str = "Allow") -> str:
        return f'<FilePathRule Action="{action}" Id="{rule_id}"/>'

    workstation.put(
        PolicySet(
            collections={
                "Exe": CollectionInForce(mode="Enabled", rules=(rule(UNUSED), rule(denies, "Deny"))),
                "Appx": CollectionInForce(mode="Enabled", rules=(rule(packaged),)),
            },
            csp="read",
            csp_sets=({"Script": CollectionInForce(mode="Enabled", rules=(rule(managed),))},),
        )
    )
    workstation.send(rule_uses=[use()])
    read(server.state.engine, at=now() - timedelta(days=9))
    assert read(server.state.engine, UNUSED, denies, packaged, managed, days=7).unused == {UNUSED, managed}
