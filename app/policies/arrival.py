"""Closing the loop: on how many subjects an export's rules have arrived.

Rules are found again by their ids in the policies that hosts report; ids are derived from content, so what has the id
does what was exported. Counts come from tallies. What became of the patterns is in `after`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally
from app.policies.tables import ExportRow, ExportRule

_ID = re.compile(r"\bId=\"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?\"")
_SETS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleArrival:
    """One exported rule, and on how many subjects it is in force."""

    rule_id: str
    collection: str
    kind: str
    patterns: tuple[str, ...]
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How far an export has come. `base`: subjects that count; `unreadable`: their policy cannot be read."""

    export_id: int
    base: int
    arrived: int
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
    counts = {"arrived": 0, "partly": 0, "missing": 0, "unreadable": 0}
    by_rule: dict[str, int] = defaultdict(int)
    for set_id, found, readable in _policies(session, subjects_of):
        subjects = subjects_of[set_id]
        present = wanted & found
        for rule_id in present:
            by_rule[rule_id] += subjects
        if present and present == wanted:
            counts["arrived"] += subjects
        elif not readable:
            counts["unreadable"] += subjects
        else:
            counts["partly" if present else "missing"] += subjects
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


def _policies(session: Session, subjects_of: Mapping[int, int]) -> Iterable[tuple[int, set[str], bool]]:
    """Per policy set: the rule ids in it, and whether it could be read as a whole."""
    for some in _in_parts(sorted(subjects_of)):
        for set_id, body in session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(some))):
            yield set_id, *rules_in_force(body)


def rules_in_force(body: str) -> tuple[set[str], bool]:
    """The ids of the rules in a policy set's body, and whether all policies in force could be read.

    >>> rules_in_force('{"csp":"none","gpo":null,"srp":false}')
    (set(), False)
    """
    value = json.loads(body)
    collections = value.get("gpo")
    if collections is None:
        return set(), False
    ids = {
        found[1].lower()
        for collection in collections.values()
        for rule in collection.get("rules", ())
        if (found := _ID.search(rule)) is not None
    }
    return ids, value.get("csp") != "present-unreadable"


def _in_parts(ids: list[int]) -> Iterable[list[int]]:
    for begin in range(0, len(ids), _SETS_AT_ONCE):
        yield ids[begin : begin + _SETS_AT_ONCE]
