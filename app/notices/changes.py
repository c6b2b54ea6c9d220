"""What changed where something got worse: looked up for some of the users concerned, from their own transitions.

A count that rose says nothing of causes, and may be made up of users who just appeared. So some users who changed are
looked at: whether the thing really went from open to closed for them, on how many distinct hosts, and what else changed
for them shortly before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from agent.catalogue import load as load_catalogue
from app.fleet.buckets import bucket_of
from app.fleet.facts import read_set
from app.fleet.host_conditions import holds_mark
from app.fleet.probes import marks_of
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NAMES, KIND_NUMBERS, FactSet, Host, Subject, Tally, Transition
from app.fleet.workflows import CLOSED_OUTCOMES, OPEN_OUTCOMES
from app.notices.counts import FLEET, Key, Remembered, learn_rules, policy_users

SAMPLE = 300
MAX_SETS = 2_000
MAX_TRANSITIONS = 5_000
MOST_CHANGES = 6
SHORTLY = timedelta(hours=26)
"""Agents probe at least once a day: what closed a pattern is seen in the policy first, and by a probe within a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that changed for `users` of those looked at. `before_id`, `after_id`: sets, where there are pages."""

    what: str
    before: str
    after: str
    users: int
    before_id: int | None = None
    after_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a look at some users gave: for how many it went from open to closed, on how many hosts, what changed.

    `changes`: the most common; `kinds`: for how many anything of a kind changed.
    """

    looked_at: int
    users: int
    hosts: int
    changes: tuple[Change, ...]
    kinds: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "looked_at": self.looked_at,
            "users": self.users,
            "hosts": self.hosts,
            "changes": [asdict(one) for one in self.changes],
        }


def look_closer(session: Session, key: Key, since: datetime, remembered: Remembered) -> Evidence:
    """Looks at the newest users for whom something is closed now."""
    kind = "policy" if key.what == "rule" else "probes"
    column = Subject.policy_id if key.what == "rule" else Subject.probes_id
    closed = _closed_sets(session, key, remembered)
    users = _newest_users(session, column, closed, key.group_id, since)
    rows = _transitions(session, users, since - SHORTLY)
    sets = _read_sets(session, rows)
    was_open = _openness(session, key, {row.old_id for row in rows if KIND_NAMES[row.kind] == kind}, remembered)
    moved: dict[int, datetime] = {}
    for row in rows:
        if KIND_NAMES[row.kind] == kind and row.at >= since and was_open.get(row.old_id or 0):
            moved[row.subject_id] = max(row.at, moved.get(row.subject_id, row.at))
    counts: Counter[tuple[str, str, str, int | None, int | None]] = Counter()
    kinds: set[tuple[str, int]] = set()
    # Many users changed alike, and what a set says is read from its text.
    known: dict[tuple[int, int | None, int | None], list[tuple[str, str, str, int | None, int | None]]] = {}
    for row in rows:
        at = moved.get(row.subject_id)
        if at is not None and at - SHORTLY <= row.at <= at:
            alike = (row.kind, row.old_id, row.new_id)
            if alike not in known:
                known[alike] = _said(KIND_NAMES[row.kind], row.old_id, row.new_id, sets)
            said = known[alike]
            counts.update(said)
            kinds |= {(one[0], row.subject_id) for one in said}
    affected = [user for user in users if user.id in moved]
    agents = _agents(session, affected, key, column, closed)
    found = [
        Change(what=what, before=before, after=after, users=count, before_id=before_id, after_id=after_id)
        for (what, before, after, before_id, after_id), count in counts.most_common(MOST_CHANGES)
    ]
    return Evidence(
        looked_at=len(users),
        users=len(affected),
        hosts=len({user.host_id for user in affected}),
        changes=(*found, *agents),
        kinds=tuple(sorted(Counter(what for what, _ in kinds).items(), key=lambda one: (-one[1], one[0]))),
    )


def _closed_sets(session: Session, key: Key, remembered: Remembered) -> list[int]:
    """The newest sets in use in which it is closed."""
    if key.what == "rule":
        users_of = policy_users(session)
        learn_rules(session, users_of, remembered)
        rules = remembered.rules
        closed = [number for number in users_of if rules.get(number) is not None and key.name not in rules[number]]  # type: ignore[operator]  # None is left out just before
        return sorted(closed, reverse=True)[:MAX_SETS]
    query = (
        select(Tally.set_id)
        .join(FactSet, FactSet.id == Tally.set_id)
        .where(
            Tally.group_id == key.group_id,
            Tally.standing == Standing.COUNTED.value,
            Tally.subjects > 0,
            FactSet.kind == KIND_NUMBERS["probes"],
            holds_mark(session, _marks(_needs(key), CLOSED_OUTCOMES)),
        )
        .order_by(Tally.set_id.desc())
        .limit(MAX_SETS)
    )
    return list(session.scalars(query))


def _openness(session: Session, key: Key, ids: Collection[int | None], remembered: Remembered) -> dict[int, bool]:
    """Of sets that gave way whether it was open in them."""
    known = sorted(number for number in ids if number is not None)
    if key.what == "rule":
        learn_rules(session, known, remembered)
        return {number: key.name in (remembered.rules.get(number) or ()) for number in known}
    opened, closed = set(_marks(_needs(key), OPEN_OUTCOMES)), set(_marks(_needs(key), CLOSED_OUTCOMES))
    found = {}
    for begin in range(0, len(known), 500):
        rows = session.execute(select(FactSet.id, FactSet.facts).where(FactSet.id.in_(known[begin : begin + 500])))
        for number, facts in rows:
            has = set(facts or ())
            found[number] = bool(has & opened) and not has & closed
    return found


def _needs(key: Key) -> tuple[str, ...]:
    return load_catalogue().workflow(key.name).needs if key.what == "workflow" else (key.name,)


def _marks(patterns: Iterable[str], outcomes: Iterable[str]) -> list[int]:
    return [number for pattern in patterns for outcome in outcomes for number in marks_of(pattern, outcome)]


def _newest_users(
    session: Session,
    column: InstrumentedAttribute[int | None],
    sets: Sequence[int],
    group_id: int,
    since: datetime,
) -> Sequence[Any]:
    if not sets:
        return ()
    query = (
        select(Subject.id, Subject.host_id, Subject.bucket)
        .where(column.in_(sets), Subject.standing == Standing.COUNTED.value, Subject.changed_at >= since)
        .order_by(Subject.changed_at.desc(), Subject.id)
        .limit(SAMPLE)
    )
    if group_id != FLEET:
        query = query.where(Subject.group_id == group_id)
    return session.execute(query).all()


def _transitions(session: Session, users: Sequence[Any], since: datetime) -> Sequence[Any]:
    if not users:
        return ()
    query = (
        select(Transition.subject_id, Transition.at, Transition.kind, Transition.old_id, Transition.new_id)
        .where(
            Transition.subject_id.in_([user.id for user in users]),
            # A cluster then asks those nodes alone that have them.
            Transition.bucket.in_(sorted({user.bucket for user in users})),
            Transition.at >= since,
        )
        .order_by(Transition.at.desc())
        .limit(MAX_TRANSITIONS)
    )
    return session.execute(query).all()


def _read_sets(session: Session, rows: Sequence[Any]) -> dict[int, tuple[str, bytes, str]]:
    """Kind, digest and body of the sets that transitions name; policies may be large, so theirs stay unread."""
    wanted = {
        number
        for row in rows
        if KIND_NAMES[row.kind] in ("policy", "uv", "probes")
        for number in (row.old_id, row.new_id)
        if number is not None
    }
    found = {}
    known = sorted(wanted)
    for begin in range(0, len(known), 500):
        query = select(FactSet.id, FactSet.kind, FactSet.digest).where(FactSet.id.in_(known[begin : begin + 500]))
        for number, kind, digest in session.execute(query):
            found[number] = (KIND_NAMES[kind], bytes(digest), "")
    texts = sorted(number for number, (kind, _, _) in found.items() if kind in ("uv", "probes"))
    for begin in range(0, len(texts), 500):
        query_of = select(FactSet.id, FactSet.body).where(FactSet.id.in_(texts[begin : begin + 500]))
        for number, body in session.execute(query_of):
            found[number] = (*found[number][:2], body)
    return found


def _said(
    kind: str, old_id: int | None, new_id: int | None, sets: Mapping[int, tuple[str, bytes, str]]
) -> list[tuple[str, str, str, int | None, int | None]]:
    """A transition as a change for reading; none where nothing can be said."""
    if kind == "policy":
        names = [_name(number, sets) for number in (old_id, new_id)]
        return [("policy", names[0], names[1], old_id, new_id)]
    if kind == "uv":
        versions = [_version(number, sets) for number in (old_id, new_id)]
        return [("uv", versions[0], versions[1], None, None)] if versions[0] != versions[1] else []
    if kind == "probes":
        etags = [_catalogue(number, sets) for number in (old_id, new_id)]
        return [("catalogue", etags[0], etags[1], None, None)] if etags[0] != etags[1] and all(etags) else []
    return [("environment" if kind == "environment" else "token", "", "", None, None)]


def _name(number: int | None, sets: Mapping[int, tuple[str, bytes, str]]) -> str:
    return sets[number][1].hex()[:8] if number is not None and number in sets else "none"


def _version(number: int | None, sets: Mapping[int, tuple[str, bytes, str]]) -> str:
    return (read_set("uv", sets[number][2]).version or "none") if number is not None and number in sets else "none"


def _catalogue(number: int | None, sets: Mapping[int, tuple[str, bytes, str]]) -> str:
    if number is None or number not in sets:
        return ""
    told = json.loads(sets[number][2]).get("catalogue")
    return told[:16] if isinstance(told, str) and told.isprintable() else ""


def _agents(
    session: Session,
    affected: Sequence[Any],
    key: Key,
    column: InstrumentedAttribute[int | None],
    closed: Sequence[int],
) -> tuple[Change, ...]:
    """The agent's version, where most of those affected have one that hardly anybody else of the group has."""
    if not affected:
        return ()
    there = _agent_versions(session, {user.host_id for user in affected})
    others = session.scalars(
        select(Subject.host_id)
        .where(
            Subject.standing == Standing.COUNTED.value,
            column.is_not(None),
            column.not_in(closed),
            *([Subject.group_id == key.group_id] if key.group_id != FLEET else []),
        )
        .limit(SAMPLE)
    ).all()
    elsewhere = _agent_versions(session, others)
    (version, count), total = there.most_common(1)[0], sum(there.values())
    usual = elsewhere.most_common(1)
    if not usual or count * 10 < total * 9 or elsewhere[version] * 4 > sum(elsewhere.values()):
        return ()
    return (Change(what="agent", before=usual[0][0], after=version, users=count),)


def _agent_versions(session: Session, host_ids: Iterable[int]) -> Counter[str]:
    ids = sorted(set(host_ids))[:SAMPLE]
    buckets = sorted({bucket_of(host_id) for host_id in ids})
    return Counter(session.scalars(select(Host.agent_version).where(Host.id.in_(ids), Host.bucket.in_(buckets))).all())
