"""How uv came onto workstations: the place that each user's uv runs from, by the catalogue's pattern, over the fleet.

Each distinct set of uvs is read once; how many users have it comes from the tallies. No host is read.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally

MOST_SETS = 500
"""So many distinct sets are read, those of most users first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installs:
    """Users by the pattern of the uv that they run ('' for a place that no pattern names), most first; their base."""

    kinds: tuple[tuple[str, int], ...]
    base: int


def read_installs(session: Session, group_id: int | None = None) -> Installs:
    """How counted users with a uv got it, in the fleet or in one group. One statement."""
    counts: Counter[str] = Counter()
    for _set_id, body, subjects in _sets_in_use(session, group_id):
        kind = install_kind(body)
        if kind is not None:
            counts[kind] += subjects
    return Installs(kinds=tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0]))), base=counts.total())


def find_install_sets(session: Session, kind: str, group_id: int | None = None) -> list[int]:
    """The sets of uvs that `read_installs` counts under a kind. One statement."""
    return [set_id for set_id, body, _ in _sets_in_use(session, group_id) if install_kind(body) == kind]


def _sets_in_use(session: Session, group_id: int | None) -> list[tuple[int, str, int]]:
    """Id, body and counted users of the sets that most of them have."""
    users = func.sum(Tally.subjects)
    query = (
        select(FactSet.id, FactSet.body, users)
        .join(Tally, Tally.set_id == FactSet.id)
        .where(FactSet.kind == KIND_NUMBERS["uv"], Tally.standing == Standing.COUNTED.value, Tally.subjects > 0)
        .group_by(FactSet.id, FactSet.body)
        .order_by(users.desc(), FactSet.id)
        .limit(MOST_SETS)
    )
    if group_id is not None:
        query = query.where(Tally.group_id == group_id)
    return [(set_id, body, int(subjects)) for set_id, body, subjects in session.execute(query)]


@lru_cache(maxsize=2 * MOST_SETS)
def install_kind(body: str) -> str | None:
    """The pattern of the uv that is first on PATH, else of the first found; '' if none names it; None without a uv.

    >>> install_kind('{"found":[{"path":"a","pattern":"uv-exe-winget"}],"preferred":"a"}')
    'uv-exe-winget'
    >>> install_kind('{"found":[],"preferred":null}') is None
    True
    """
    told = json.loads(body)
    found = told.get("found") or ()
    chosen = next((one for one in found if one.get("path") == told.get("preferred")), found[0] if found else None)
    return None if chosen is None else str(chosen.get("pattern") or "")
