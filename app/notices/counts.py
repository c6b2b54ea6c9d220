"""What is watched, as tallies tell it now: for how many users of a group something is open, for how many closed.

Sums of the tallies by group, whatever the number of hosts. A rule of ours is open where it is in force, and closed
where a policy that could be read does not have it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, PatternTally, Tally, WorkflowTally
from app.fleet.workflows import CLOSED_OUTCOMES, OPEN_OUTCOMES
from app.policies.arrival import rules_in_force
from app.policies.tables import ExportRule
from app.policies.tables_rule_sets import RuleSetExport, RuleSetRow

FLEET = 0
MOST_RULES = 2_000
"""Rules of the newest exports; older ones are not watched."""
MAX_REMEMBERED = 20_000
_SETS_AT_ONCE = 500


class Key(NamedTuple):
    """What is watched: `group_id` 0 is the fleet, `what` is pattern, workflow or rule."""

    group_id: int
    what: str
    name: str


class Count(NamedTuple):
    """Users for whom it is open, and for whom closed."""

    open: int
    closed: int


@dataclass(slots=True)
class Remembered:
    """What a process remembers between runs: the rules in each policy set, None where it could not be read.

    `changed`: ids that do something else there than was exported, for the few sets that have such.
    """

    rules: dict[int, frozenset[str] | None] = field(default_factory=dict)
    changed: dict[int, frozenset[str]] = field(default_factory=dict)


def read_counts(session: Session, remembered: Remembered) -> dict[Key, Count]:
    """Everything that is watched, as it is now."""
    return {**_patterns(session), **_workflows(session), **_rules(session, remembered)}


def _patterns(session: Session) -> dict[Key, Count]:
    rows = session.execute(
        select(
            PatternTally.group_id,
            PatternTally.pattern,
            PatternTally.outcome,
            func.sum(PatternTally.subjects),
        )
        .where(
            PatternTally.standing == Standing.COUNTED.value,
            PatternTally.outcome.in_(sorted(OPEN_OUTCOMES | CLOSED_OUTCOMES)),
        )
        .group_by(PatternTally.group_id, PatternTally.pattern, PatternTally.outcome)
    )
    return _added(
        (Key(group, "pattern", name), outcome in OPEN_OUTCOMES, users) for group, name, outcome, users in rows
    )


def _workflows(session: Session) -> dict[Key, Count]:
    rows = session.execute(
        select(WorkflowTally.group_id, WorkflowTally.workflow, WorkflowTally.verdict, WorkflowTally.subjects).where(
            WorkflowTally.standing == Standing.COUNTED.value, WorkflowTally.verdict.in_(("open", "blocked"))
        )
    )
    return _added((Key(group, "workflow", name), verdict == "open", users) for group, name, verdict, users in rows)


def _rules(session: Session, remembered: Remembered) -> dict[Key, Count]:
    ours = list(
        session.scalars(
            select(ExportRule.rule_id)
            .group_by(ExportRule.rule_id)
            .order_by(func.max(ExportRule.export_id).desc(), ExportRule.rule_id)
            .limit(MOST_RULES)
        )
    )
    if not ours:
        return {}
    users_of = policy_users(session)
    learn_rules(session, users_of, remembered)
    # What a rule set was exported for to take out is to vanish.
    leaving = session.scalars(
        select(RuleSetRow.removes).where(RuleSetRow.id.in_(select(RuleSetExport.rule_set_id))).limit(500)
    )
    wanted = frozenset(ours) - {one["id"] for removes in leaving for one in removes}
    having: defaultdict[str, int] = defaultdict(int)
    readable = 0
    for set_id, users in users_of.items():
        rules = remembered.rules.get(set_id)
        if rules is None:
            continue
        readable += users
        for rule_id in rules & wanted:
            having[rule_id] += users
    return {
        Key(FLEET, "rule", rule_id): Count(having[rule_id], readable - having[rule_id]) for rule_id in sorted(wanted)
    }


def policy_users(session: Session) -> dict[int, int]:
    """How many counted users have each policy."""
    rows = session.execute(
        select(Tally.set_id, func.sum(Tally.subjects))
        .join(FactSet, FactSet.id == Tally.set_id)
        .where(Tally.standing == Standing.COUNTED.value, FactSet.kind == KIND_NUMBERS["policy"], Tally.subjects > 0)
        .group_by(Tally.set_id)
    )
    return {set_id: int(users) for set_id, users in rows}


def learn_rules(session: Session, set_ids: Iterable[int], remembered: Remembered) -> None:
    """Reads the policies that are not remembered yet."""
    if len(remembered.rules) > MAX_REMEMBERED:
        remembered.rules.clear()
        remembered.changed.clear()
    missing = sorted(set(set_ids) - remembered.rules.keys())
    for begin in range(0, len(missing), _SETS_AT_ONCE):
        some = missing[begin : begin + _SETS_AT_ONCE]
        for set_id, body in session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(some))):
            found = rules_in_force(body)
            remembered.rules[set_id] = found.ids if found.is_readable else None
            if found.changed:
                remembered.changed[set_id] = found.changed


def _added(rows: Iterable[tuple[Key, bool, int]]) -> dict[Key, Count]:
    found: dict[Key, Count] = {}
    for key, is_open, users in rows:
        count = found.get(key, Count(0, 0))
        found[key] = (
            Count(count.open + int(users), count.closed) if is_open else Count(count.open, count.closed + int(users))
        )
    return found
