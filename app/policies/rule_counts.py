"""What is done by the hour about uses of rules: forgetting, and counting on which hosts a rule is counted at all.

Which host used a rule is forgotten after a month. Counts by day name no host, and stay for a year, so that one can ask
which rules nothing used in half a year.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime

from sqlalchemy import Connection, and_, delete, func, insert, select

from app.db.base import to_ms
from app.fleet.rule_uses import ANY_RULE, DAY_MS, TOLD_DAYS, fold_uses, insert_into, take_days_lock
from app.fleet.standing import HostState
from app.fleet.tables import FactSet, Host, Subject
from app.fleet.tables_rule_use import RuleCounted, RuleDay, RuleUse

COUNTED_COLLECTIONS = ("Exe", "Dll", "Script", "Msi")
COUNTS_KEPT_DAYS = 400
MAX_RULES_SHOWN = 5_000
"""Of so many rules a day's count is kept, those on most hosts first: forged ids fill no table."""

_ID = re.compile(r"\bId\s*=\s*[\"']\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?[\"']")
_DENIES = re.compile(r"\bAction\s*=\s*[\"']Deny[\"']")

MAX_POLICIES = 500
"""Of so many policies the rules are looked for, those of most hosts first."""


def count_rule_uses(connection: Connection, at: datetime) -> int:
    """Forgets what was kept for long enough, and counts where rules are counted; how many hosts count. Commits."""
    today = to_ms(at) // DAY_MS
    # Nothing that may still be told again: it would be added once more.
    with connection.begin():
        over = connection.scalars(select(RuleUse.day).where(RuleUse.day < today - TOLD_DAYS - 1).distinct()).all()
    for day in over:
        with connection.begin():
            connection.execute(delete(RuleUse).where(RuleUse.day == day))
    while fold_uses(connection, wait=True):
        pass
    with connection.begin():
        take_days_lock(connection, wait=True)
        connection.execute(delete(RuleDay).where(RuleDay.day < today - COUNTS_KEPT_DAYS))
        _forget_forged(connection, today)
    with connection.begin():
        take_days_lock(connection, wait=True)
        return _count_hosts(connection, today)


def _forget_forged(connection: Connection, today: int) -> None:
    crowded = (
        select(RuleDay.day)
        .where(RuleDay.day >= today - TOLD_DAYS, RuleDay.uses > 0)
        .group_by(RuleDay.day)
        .having(func.count() > MAX_RULES_SHOWN + 1)
    )
    for day in connection.scalars(crowded).all():
        of_most = (
            select(RuleDay.rule_id)
            .where(RuleDay.day == day, RuleDay.uses > 0)
            .order_by(RuleDay.hosts.desc(), RuleDay.rule_id)
            .limit(MAX_RULES_SHOWN + 1)  # any rule is one of them
        )
        connection.execute(delete(RuleDay).where(RuleDay.day == day, RuleDay.uses > 0, RuleDay.rule_id.not_in(of_most)))


def find_countable(body: str) -> set[str]:
    """The ids of those rules in a policy set's body whose uses agents can count.

    A rule that denies lets nothing start, and starts of packaged apps are in logs that no agent reads: that nothing
    used them says nothing.
    """
    value = json.loads(body)
    return {
        found[1].lower()
        for collections in (value.get("gpo") or {}, *value.get("csp_sets", ()))
        for name, collection in collections.items()
        if name in COUNTED_COLLECTIONS
        for rule in collection.get("rules", ())
        if (found := _ID.search(rule)) is not None and not _DENIES.search(rule)
    }


def _count_hosts(connection: Connection, today: int) -> int:
    """On how many hosts that count each rule is in force, by the policies that their users last reported."""
    counting = (
        select(RuleUse.host_id, RuleUse.bucket)
        .join(Host, and_(Host.id == RuleUse.host_id, Host.bucket == RuleUse.bucket))
        .where(Host.state == HostState.ACTIVE.value)
        .distinct()
        .subquery()
    )
    hosts = func.count(Subject.host_id.distinct())
    policies = connection.execute(
        select(Subject.policy_id, hosts)
        .join(counting, and_(counting.c.host_id == Subject.host_id, counting.c.bucket == Subject.bucket))
        .where(Subject.policy_id.is_not(None))
        .group_by(Subject.policy_id)
        .order_by(hosts.desc(), Subject.policy_id)
        .limit(MAX_POLICIES)
    ).all()
    hosts_of = {policy_id: int(count) for policy_id, count in policies}
    total = connection.scalar(select(func.count()).select_from(counting)) or 0
    counted: Counter[str] = Counter()
    for policy_id, body in connection.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(list(hosts_of)))):
        for rule_id in find_countable(body):
            counted[rule_id] += hosts_of[policy_id]
    connection.execute(delete(RuleCounted))
    # One host may have had several policies, by what its users last reported.
    values = [
        {"rule_id": rule_id, "hosts": min(hosts, total)} for rule_id, hosts in counted.most_common(MAX_RULES_SHOWN)
    ]
    if values:
        marks = [{"rule_id": value["rule_id"], "day": today, "uses": 0, "hosts": 0} for value in values]
        connection.execute(insert_into(connection, RuleDay).on_conflict_do_nothing(), marks)
    if total:
        values.append({"rule_id": ANY_RULE, "hosts": total})
        connection.execute(insert(RuleCounted), values)
    return total
