"""How well facts are shared: of each kind, how many distinct sets there are for how many users.

A fleet stays cheap because its workstations look alike. Where something makes every one different (a path that is not
templated, a group of its own for each user), each report brings a set of its own, and all that is kept by set grows
with the fleet. Nothing is counted wrong then; it becomes large and slow, and somebody should know why.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, record
from app.db.base import from_ms, to_ms
from app.db.slices import slice_of, walk
from app.db.tables import find_setting, put_setting
from app.fleet.tables import KIND_NAMES, KIND_NUMBERS, NO_SET, FactSet, Tally

SETTING = "fact_sharing"
ENOUGH_USERS = 500
"""Of fewer users nothing is concluded: a small fleet may well have a set for each."""
USERS_PER_SET = 10
"""Fewer users per set, and sharing fails: of a million users that is more than 100,000 sets, the most ever measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSharing:
    """Of one kind of facts: distinct sets in use, and users who have one."""

    kind: str
    sets: int
    users: int

    @property
    def users_per_set(self) -> float:
        return self.users / self.sets if self.sets else 0.0

    @property
    def fails(self) -> bool:
        """Whether hardly anybody shares a set with anybody.

        >>> KindSharing(kind="token", sets=900, users=1000).fails, KindSharing(kind="uv", sets=40, users=1000).fails
        (True, False)
        >>> KindSharing(kind="token", sets=90, users=90).fails
        False
        """
        return self.users >= ENOUGH_USERS and self.users < USERS_PER_SET * self.sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """All kinds, as they were measured last."""

    measured_at: datetime
    kinds: tuple[KindSharing, ...]

    @property
    def failing(self) -> tuple[KindSharing, ...]:
        return tuple(one for one in self.kinds if one.fails)


def measure_sharing(connection: Connection, at: datetime) -> Sharing:
    """Measures and keeps it; the audit log gets an entry when sharing of a kind begins or ceases to fail. Commits."""
    measured = Sharing(measured_at=at, kinds=_count(connection))
    with connection.begin(), Session(connection) as session:
        before = find_sharing(session)
        failed = {one.kind for one in before.failing} if before else set()
        for one in measured.kinds:
            if one.fails != (one.kind in failed):
                action = "facts.sharing_failed" if one.fails else "facts.sharing_recovered"
                record(session, SYSTEM, action, one.kind, sets=one.sets, users=one.users)
        kept = {"at": to_ms(at), "kinds": {one.kind: [one.sets, one.users] for one in measured.kinds}}
        put_setting(session, SETTING, json.dumps(kept))
        session.flush()
    return measured


def find_sharing(session: Session) -> Sharing | None:
    """What was measured last; None before the first time."""
    text = find_setting(session, SETTING)
    if text is None:
        return None
    kept = json.loads(text)
    kinds: Mapping[str, tuple[int, int]] = kept["kinds"]
    return Sharing(
        measured_at=from_ms(kept["at"]),
        kinds=tuple(
            KindSharing(kind=kind, sets=kinds[kind][0], users=kinds[kind][1]) for kind in KIND_NUMBERS if kind in kinds
        ),
    )


def _count(connection: Connection) -> tuple[KindSharing, ...]:
    """By slices of the sets' numbers: where nobody shares anything there are as many counts as users."""
    sets: defaultdict[int, int] = defaultdict(int)
    users: defaultdict[int, int] = defaultdict(int)
    for after, until in walk(connection, FactSet.id):
        within = (Tally.set_id > after, Tally.set_id <= until, FactSet.id > after, FactSet.id <= until)
        with slice_of(connection):
            rows = connection.execute(
                select(FactSet.kind, func.count(Tally.set_id.distinct()), func.sum(Tally.subjects))
                .join(Tally, Tally.set_id == FactSet.id)
                .where(Tally.set_id != NO_SET, *within)
                .group_by(FactSet.kind)
            ).all()
        for kind, some_sets, some_users in rows:
            sets[kind] += some_sets
            users[kind] += int(some_users)
    return tuple(KindSharing(kind=KIND_NAMES[kind], sets=sets[kind], users=users[kind]) for kind in sorted(sets))
