"""Where a policy tells the canary from what uv would really put at a pattern: a fact of its own, from the newest sets.

A canary that is refused where the real file starts shows that a publisher or hash rule works; one that starts where the
real file is refused shows that something speaks of that file. Read are a bounded number of sets, whatever their number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.reported import find_mismatches, read_reported
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally

NEWEST_SETS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchCount:
    """How many users have it: with what uv would put there, and with the canary."""

    collection: str
    specimen: str
    outcome: str
    canary: str
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatches:
    """What was found at a pattern in the `sets` newest sets of outcomes, the most users first."""

    counts: tuple[MismatchCount, ...]
    sets: int


def read_mismatches(session: Session, pattern: str) -> Mismatches:
    """Where the canary and something better fared differently at a pattern."""
    newest = session.execute(
        select(FactSet.id, FactSet.body)
        .where(FactSet.kind == KIND_NUMBERS["probes"], FactSet.retired_at.is_(None))
        .order_by(FactSet.id.desc())
        .limit(NEWEST_SETS)
    ).all()
    found: dict[int, list[tuple[str, str, str, str]]] = {}
    for set_id, body in newest:
        if '"real"' not in body and '"launcher"' not in body:
            continue
        value = json.loads(body)
        of_pattern = {**value, "probes": [one for one in value.get("probes", ()) if one.get("pattern") == pattern]}
        here = find_mismatches(read_reported({"probes": of_pattern}).probes)
        if here:
            found[set_id] = [(one.collection, one.specimen, one.outcome, one.canary) for one in here]
    subjects: dict[tuple[str, str, str, str], int] = {}
    if found:
        counted = session.execute(
            select(Tally.set_id, func.sum(Tally.subjects)).where(Tally.set_id.in_(found)).group_by(Tally.set_id)
        )
        for set_id, users in counted:
            for key in found[set_id]:
                subjects[key] = subjects.get(key, 0) + int(users)
    counts = [
        MismatchCount(collection=key[0], specimen=key[1], outcome=key[2], canary=key[3], subjects=users)
        for key, users in subjects.items()
        if users
    ]
    counts.sort(key=lambda one: (-one.subjects, one.collection, one.specimen, one.outcome))
    return Mismatches(counts=tuple(counts), sets=len(newest))
