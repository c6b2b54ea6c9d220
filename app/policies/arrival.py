"""Closing the loop: on how many subjects an export's rules have arrived.

Rules are found again by their ids in the policies that hosts report. An id is derived from content, and computed anew
from what was reported: a rule that does something else under an id of ours has not arrived, it was changed. Counts
come from tallies. What became of the patterns is in `after`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.applocker.identify import rule_id as id_of_content
from app.applocker.model import AppLockerError
from app.applocker.read import parse_policy
from app.errors import NotFoundError
from app.fleet.bodies import iterate_bodies
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally
from app.policies.tables import ExportRow, ExportRule

# Of the fifth version, as derived ids are: what Windows and other tools make is of the fourth, and need not be read.
_DERIVED_ID = re.compile(r"Id=\"\{?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-5[0-9a-fA-F]{3}-")
_MOST_REMEMBERED_LETTERS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleArrival:
    """One exported rule, and on how many subjects it is in force. `changed`: where its id does something else."""

    rule_id: str
    collection: str
    kind: str
    patterns: tuple[str, ...]
    subjects: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How far an export has come. `base`: subjects that count; `changed`: an id of it does something else there,
    whatever else is in force; `unreadable`: their policy cannot be read.
    """

    export_id: int
    base: int
    arrived: int
    changed: int
    partly: int
    missing: int
    unreadable: int
    rules: tuple[RuleArrival, ...]


def read_arrival(session: Session, export_id: int, *, group_id: int | None = None) -> Arrival:
    """How far an export has come in the fleet, or in one group of hosts. raises: NotFoundError"""
    export = session.get(ExportRow, export_id)
    if export is None:
        raise NotFoundError(f"There is no export {export_id}.")
    rules = session.scalars(
        select(ExportRule).where(ExportRule.export_id == export_id).order_by(ExportRule.collection, ExportRule.rule_id)
    ).all()
    wanted = {rule.rule_id for rule in rules}
    subjects_of = _policy_subjects(session, group_id)
    counts = {"arrived": 0, "changed": 0, "partly": 0, "missing": 0, "unreadable": 0}
    by_rule: dict[str, int] = defaultdict(int)
    changed_by_rule: dict[str, int] = defaultdict(int)
    for set_id, found in _policies(session, subjects_of):
        subjects = subjects_of[set_id]
        for rule_id in wanted & found.ids:
            by_rule[rule_id] += subjects
        for rule_id in wanted & found.changed:
            changed_by_rule[rule_id] += subjects
        counts[stage_of(wanted, found)] += subjects
    return Arrival(
        export_id=export_id,
        base=sum(subjects_of.values()),
        rules=tuple(
            RuleArrival(
                rule_id=rule.rule_id,
                collection=rule.collection,
                kind=rule.kind,
                patterns=tuple(rule.patterns),
                subjects=by_rule[rule.rule_id],
                changed=changed_by_rule[rule.rule_id],
            )
            for rule in rules
        ),
        **counts,
    )


def _policy_subjects(session: Session, group_id: int | None) -> dict[int, int]:
    """Policy sets and how many counted subjects have each."""
    query = (
        select(Tally.set_id, func.sum(Tally.subjects))
        .join(FactSet, FactSet.id == Tally.set_id)
        .where(Tally.standing == Standing.COUNTED.value, FactSet.kind == KIND_NUMBERS["policy"])
        .group_by(Tally.set_id)
    )
    if group_id is not None:
        query = query.where(Tally.group_id == group_id)
    return {set_id: int(subjects) for set_id, subjects in session.execute(query) if subjects}


def _policies(session: Session, subjects_of: Mapping[int, int]) -> Iterable[tuple[int, RulesInForce]]:
    """Per policy set: the rules in it."""
    for set_id, body in iterate_bodies(session, subjects_of):
        yield set_id, rules_in_force(body)


class RulesInForce(NamedTuple):
    """Rules with derived ids in a policy. `ids`: of those that do what their id says; `changed`: of those that do
    something else; an id that both have is changed. `is_readable`: whether all policies in force could be read.
    """

    ids: frozenset[str]
    changed: frozenset[str]
    is_readable: bool


def rules_in_force(body: str) -> RulesInForce:
    """The rules of ours, and of others with derived ids, in a policy set's body. Text that is no rule is none.

    >>> rules_in_force('{"csp":"none","gpo":null,"srp":false}')
    RulesInForce(ids=frozenset(), changed=frozenset(), is_readable=False)
    """
    value = json.loads(body)
    collections = value.get("gpo")
    if collections is None:
        return RulesInForce(frozenset(), frozenset(), False)
    ids: set[str] = set()
    changed: set[str] = set()
    for kind, collection in collections.items():
        for rule in collection.get("rules", ()):
            if _DERIVED_ID.search(rule) is None:
                continue
            read = _ids_remembered if len(rule) <= _MOST_REMEMBERED_LETTERS else _ids_of
            for told, derived in read(kind, rule):
                (ids if told == derived else changed).add(told)
    return RulesInForce(frozenset(ids - changed), frozenset(changed), value.get("csp") != "present-unreadable")


def stage_of(wanted: Collection[str], found: RulesInForce) -> str:
    """How far some rules have come in one policy: arrived, changed, partly, missing or unreadable."""
    present = found.ids.intersection(wanted)
    if not found.changed.isdisjoint(wanted):
        return "changed"
    if present and len(present) == len(wanted):
        return "arrived"
    if not found.is_readable:
        return "unreadable"
    return "partly" if present else "missing"


def _ids_of(collection: str, text: str) -> tuple[tuple[str, str], ...]:
    """Of each rule in a reported text the id that it has, and the id that its content would have."""
    if not collection.isalpha():
        return ()
    try:
        policy = parse_policy(f'<RuleCollection Type="{collection}">{text}</RuleCollection>')
    except AppLockerError:
        return ()
    return tuple(
        (rule.id.lower(), id_of_content(kind, rule.action, rule.sid, [rule.condition], rule.exceptions))
        for kind, rule in policy.rules()
        if _DERIVED_ID.match(f'Id="{rule.id}')
    )


# The same rules stand in thousands of policies.
_ids_remembered = lru_cache(maxsize=4096)(_ids_of)
