"""How often rules were used, where agents count it: stored by host and day, and read by day for the whole fleet.

A host tells a day's total; told again, the larger stays, so that a report sent twice adds nothing. What a host may
tell is bounded: so many rules a day, and only days of the last month. It ranks and informs; no rule is made of it.

The fleet's days are few rows that all writers would wait for: they append by how much a day grows, and the folder adds
it up, as with tallies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.base import Base, to_ms
from app.fleet import uses_postgresql
from app.fleet.buckets import bucket_of
from app.fleet.tables_rule_use import RuleCounted, RuleDay, RuleUse, RuleUseDelta

DAY_MS = 86_400_000
KEPT_DAYS = 30
"""So long agents keep what they count; and so many days pages show where nothing else is said."""

TOLD_DAYS = KEPT_DAYS + 1
"""Days may be told for so long: they are the agent's, and its clock is not ours."""

MAX_RULES_A_DAY = 500
"""So many rules a host may tell of one day; what comes beyond is left out."""

DAYS_LOCK = 0x77617975
"""The advisory lock of whoever writes the fleet's days."""
MAX_DELTAS = 20_000

ANY_RULE = ""
UseKey = tuple[int, int, str]
"""Host, day since 1970, rule."""

SOME = 5_000
"""So many rules, or hosts and days, are asked for in one statement."""
EPOCH = date(1970, 1, 1)


class UseRow(NamedTuple):
    """A total of one host, day (since 1970) and rule, in the order of the table's key."""

    host_id: int
    day: int
    rule_id: str
    uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """How often one rule was used in the days asked for, on how many hosts on one day at most, and on which last."""

    uses: int
    hosts: int
    last_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleUses:
    """Uses of the rules asked for in the last `days` before `day`; ids in small letters, without braces.

    `reporting`: hosts that count uses at all, whatever the rule; `since`: the first day on which any did. `by_rule`:
    rules that something used. `counted_on`: on how many of the hosts that count a rule is in force now;
    `counted_since`: the first day on which it was.
    """

    day: date
    days: int
    reporting: int
    since: date | None
    by_rule: Mapping[str, Used]
    counted_on: Mapping[str, int]
    counted_since: Mapping[str, date]

    @property
    def unused(self) -> frozenset[str]:
        """Rules in force on hosts that count, and for so long, which nothing used in all of these days."""
        first = self.day - timedelta(days=self.days)
        return frozenset(
            rule
            for rule, hosts in self.counted_on.items()
            if hosts and rule not in self.by_rule and self.counted_since.get(rule, self.day) <= first
        )


def write_uses(connection: Connection, rows: Iterable[UseRow]) -> None:
    """Stores totals in the transaction that is open, the larger where one is known; appends what is new of the days.

    Locks are taken in the order of the keys, so that writers wait for each other in no ring.
    """
    told: dict[UseKey, int] = {}
    for row in rows:
        key = (row.host_id, row.day, row.rule_id)
        told[key] = max(row.uses, told.get(key, 0))
    wanted = told
    more: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    while wanted:
        known = _lock_known(connection, sorted({key[:2] for key in wanted}))
        grown = {key: uses for key, uses in wanted.items() if uses > known[key[:2]].get(key[2], uses)}
        new = _within_bounds({key: uses for key, uses in wanted.items() if key[2] not in known[key[:2]]}, known)
        made = _insert_new(connection, new)
        _update_grown(connection, grown)
        for key in (*made, *grown):
            before = known[key[:2]].get(key[2])
            for rule_id in (key[2], ANY_RULE):
                more[rule_id, key[1]][0] += wanted[key] - (before or 0)
            more[key[2], key[1]][1] += before is None
        for host_day in {key[:2] for key in made if not known[key[:2]]}:
            more[ANY_RULE, host_day[1]][1] += 1
        # What another writer made meanwhile is there now, and may be smaller.
        wanted = {key: new[key] for key in new.keys() - made}
    _append_days(connection, more, _one_bucket(told) or 0)


def _lock_known(connection: Connection, days: list[tuple[int, int]]) -> defaultdict[tuple[int, int], dict[str, int]]:
    known: defaultdict[tuple[int, int], dict[str, int]] = defaultdict(dict)
    if _is_postgresql(connection):
        for host_id, day, rule_id, uses in uses_postgresql.lock_uses(_cursor(connection), days, _one_bucket(days)):
            known[host_id, day][rule_id] = uses
        return known
    for begin in range(0, len(days), SOME):
        for host_id, day, rule_id, uses in connection.execute(
            select(RuleUse.host_id, RuleUse.day, RuleUse.rule_id, RuleUse.uses).where(
                tuple_(RuleUse.host_id, RuleUse.day).in_(days[begin : begin + SOME])
            )
        ):
            known[host_id, day][rule_id] = uses
    return known


def _within_bounds(new: Mapping[UseKey, int], known: Mapping[tuple[int, int], Mapping[str, int]]) -> dict[UseKey, int]:
    room = {host_day: MAX_RULES_A_DAY - len(rules) for host_day, rules in known.items()}
    kept: dict[UseKey, int] = {}
    for key in sorted(new):
        left = room.get(key[:2], MAX_RULES_A_DAY)
        if left > 0:
            kept[key], room[key[:2]] = new[key], left - 1
    return kept


def _insert_new(connection: Connection, new: Mapping[UseKey, int]) -> set[UseKey]:
    """Those that were not there: another writer may have been faster."""
    if not new:
        return set()
    if _is_postgresql(connection):
        return uses_postgresql.insert_uses(_cursor(connection), [(*key, uses) for key, uses in sorted(new.items())])
    made = (
        insert_into(connection, RuleUse)
        .on_conflict_do_nothing()
        .returning(RuleUse.host_id, RuleUse.day, RuleUse.rule_id)
    )
    values = [UseRow(*key, uses)._asdict() for key, uses in sorted(new.items())]
    return {(host_id, day, rule_id) for host_id, day, rule_id in connection.execute(made, values)}


def _update_grown(connection: Connection, grown: Mapping[UseKey, int]) -> None:
    if not grown:
        return
    if _is_postgresql(connection):
        rows = [(*key, uses) for key, uses in sorted(grown.items())]
        uses_postgresql.update_uses(_cursor(connection), rows, _one_bucket(grown))
        return
    connection.execute(
        update(RuleUse)
        .where(
            RuleUse.host_id == bindparam("of_host"),
            RuleUse.day == bindparam("of_day"),
            RuleUse.rule_id == bindparam("of_rule"),
        )
        .values(uses=bindparam("more")),
        [{"of_host": key[0], "of_day": key[1], "of_rule": key[2], "more": uses} for key, uses in sorted(grown.items())],
    )


def _append_days(connection: Connection, more: Mapping[tuple[str, int], list[int]], bucket: int) -> None:
    if not more:
        return
    if _is_postgresql(connection):
        uses_postgresql.append_days(_cursor(connection), more, bucket)
        return
    connection.execute(
        insert(RuleUseDelta),
        [
            {"bucket": bucket, "rule_id": rule_id, "day": day, "uses": uses, "hosts": hosts}
            for (rule_id, day), (uses, hosts) in sorted(more.items())
        ],
    )


def fold_uses(connection: Connection, *, wait: bool = False) -> int:
    """Adds what writers appended to the fleet's days and commits; how many rows. 0 also when somebody else does."""
    with connection.begin():
        if not take_days_lock(connection, wait=wait):
            return 0
        rows = _take_deltas(connection)
        _add_to_days(connection, {(rule_id, day): (int(uses), int(hosts)) for rule_id, day, uses, hosts, _ in rows})
    return sum(row[4] for row in rows)


def take_days_lock(connection: Connection, *, wait: bool) -> bool:
    """Holds back who else writes the fleet's days until the transaction ends; False: held, and we don't wait."""
    if connection.dialect.name != "postgresql":
        return True
    if wait:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": DAYS_LOCK})
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": DAYS_LOCK}).scalar())


def _take_deltas(connection: Connection) -> Sequence[Row[str, int, int, int, int]]:
    """Takes away what is appended: rule, day, uses, hosts, and of how many rows."""
    if connection.dialect.name == "postgresql":
        # Deleted and read in one statement: ids below the highest may still be uncommitted elsewhere.
        return connection.execute(
            text(
                "WITH gone AS (DELETE FROM rule_use_delta"
                " WHERE id IN (SELECT id FROM rule_use_delta ORDER BY id LIMIT :most)"
                " RETURNING rule_id, day, uses, hosts)"
                " SELECT rule_id, day, sum(uses), sum(hosts), count(*) FROM gone GROUP BY 1, 2"
            ),
            {"most": MAX_DELTAS},
        ).all()
    last = connection.scalar(select(func.max(RuleUseDelta.id)))
    if last is None:
        return ()
    rows = connection.execute(
        select(
            RuleUseDelta.rule_id,
            RuleUseDelta.day,
            func.sum(RuleUseDelta.uses),
            func.sum(RuleUseDelta.hosts),
            func.count(),
        ).group_by(RuleUseDelta.rule_id, RuleUseDelta.day)
    ).all()
    connection.execute(delete(RuleUseDelta).where(RuleUseDelta.id <= last))
    return rows


def _add_to_days(connection: Connection, more: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    if not more:
        return
    made = insert_into(connection, RuleDay)
    connection.execute(
        made.on_conflict_do_update(
            index_elements=[RuleDay.rule_id, RuleDay.day],
            set_={"uses": RuleDay.uses + made.excluded.uses, "hosts": RuleDay.hosts + made.excluded.hosts},
        ),
        [
            {"rule_id": rule_id, "day": day, "uses": uses, "hosts": hosts}
            for (rule_id, day), (uses, hosts) in sorted(more.items())
        ],
    )


def read_rule_uses(session: Session, rule_ids: Collection[str], *, at: datetime, days: int = KEPT_DAYS) -> RuleUses:
    """Of some rules how often they were used in the last `days` before `at`; where they are counted, by the hour."""
    today = to_ms(at) // DAY_MS
    wanted = sorted({rule_id.strip("{}").lower() for rule_id in rule_ids})
    by_rule: dict[str, Used] = {}
    counted_on = dict.fromkeys(wanted, 0)
    counted_since: dict[str, date] = {}
    in_time = (RuleDay.day >= today - days) & (RuleDay.uses > 0)
    columns = (
        RuleDay.rule_id,
        func.min(RuleDay.day),
        func.sum(RuleDay.uses).filter(in_time),
        func.max(RuleDay.hosts).filter(in_time),
        func.max(RuleDay.day).filter(in_time),
    )
    reporting = 0
    for begin in range(0, max(len(wanted), 1), SOME):
        some = [ANY_RULE, *wanted[begin : begin + SOME]]
        for rule_id, first_day, uses, hosts, last_day in session.execute(
            select(*columns).where(RuleDay.rule_id.in_(some)).group_by(RuleDay.rule_id)
        ):
            counted_since[rule_id] = day_of(first_day)
            if uses:
                by_rule[rule_id] = Used(uses=int(uses), hosts=hosts, last_on=day_of(last_day))
        for rule_id, hosts in session.execute(
            select(RuleCounted.rule_id, RuleCounted.hosts).where(RuleCounted.rule_id.in_(some))
        ):
            if rule_id == ANY_RULE:
                reporting = hosts
            else:
                counted_on[rule_id] = hosts
    by_rule.pop(ANY_RULE, None)
    return RuleUses(
        day=day_of(today),
        days=days,
        reporting=reporting,
        since=counted_since.pop(ANY_RULE, None),
        by_rule=by_rule,
        counted_on=counted_on,
        counted_since=counted_since,
    )


def _one_bucket(keys: Iterable[tuple[int, ...] | UseKey]) -> int | None:
    """That of all these hosts, if they are in one: in a cluster they are, and only so can their rows be locked."""
    buckets = {bucket_of(key[0]) for key in keys}
    return buckets.pop() if len(buckets) == 1 else None


def _is_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _cursor(connection: Connection) -> Any:
    return connection.connection.cursor()


def insert_into(connection: Connection, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An insert that may say what happens to a row that is there already."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def day_of(number: int) -> date:
    """The date of a number of days since 1970."""
    return EPOCH + timedelta(days=number)
