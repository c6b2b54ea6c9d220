"""The rules of one policy in force with how often each was used, as programs ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy.orm import Session

from app.fleet.rule_uses import read_rule_uses
from app.policies.in_force import get_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedRule:
    """One rule. `uses`: in the days asked for, None where no host counts it; `hosts`: on one day, at most.

    `counted_on`: hosts that count and have it in force, since `counted_since`; `unused`: nothing used it in all of
    these days, in which it was counted.
    """

    id: str
    collection: str
    action: str
    name: str
    sid: str
    kind: str
    matches: str
    uses: int | None
    hosts: int
    last_on: date | None
    counted_on: int
    counted_since: date | None
    unused: bool


def list_used_rules(session: Session, policy_id: int, *, at: datetime, days: int) -> tuple[UsedRule, ...]:
    """Every rule of a policy in force. raises: NotFoundError"""
    rules = get_policy(session, policy_id).rules
    found = read_rule_uses(session, [rule.id for rule in rules], at=at, days=days)
    return tuple(
        UsedRule(
            id=rule.id,
            collection=rule.collection,
            action=rule.action,
            name=rule.name,
            sid=rule.sid,
            kind=rule.kind,
            matches=rule.matches,
            uses=used.uses if used else 0 if found.counted_on.get(key) else None,
            hosts=used.hosts if used else 0,
            last_on=used.last_on if used else None,
            counted_on=found.counted_on.get(key, 0),
            counted_since=found.counted_since.get(key),
            unused=key in found.unused,
        )
        for rule in rules
        for key in [rule.id.strip("{}").lower()]
        for used in [found.by_rule.get(key)]
    )
