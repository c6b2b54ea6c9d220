"""Putting judged outcomes in the place of those that agents left open, a batch of subjects at a time.

A subject that reported untried patterns points to the set as it was sent. The set with the judged outcomes is made once
for all that share policy, token and places, and the subject is moved to it, with its counts. An unchanged report leaves
it there; a changed one brings the open outcomes again, which are judged again.

Some can never be judged, and a fleet may be full of them: they are looked at without a lock, and again only when they
changed. Only those that are to be moved are locked.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, or_, select, update

from agent.catalogue import load as load_catalogue
from agent.contract.canonical import ContractError, digest
from app.applocker.model import AppLockerError
from app.db.base import to_ms
from app.db.slices import is_among, slice_of
from app.db.writers import have_writers_ended
from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.buckets import are_in, parts_of
from app.fleet.facts import read_set
from app.fleet.moves import count_move
from app.fleet.rows import DeltaRow, NewSet, PointerRow, SubjectUpdate
from app.fleet.tables import KIND_NUMBERS, PULSE_OF_SUBJECT, FactSet, Pulse, Subject, Transition
from app.policies.judged import judge_probes

log = logging.getLogger("wayleave.jobs")

BATCH = 500
LATE_IDS = 1_000
"""So many numbers of sets below the newest are looked at again: SQLite gives those of deleted sets anew."""

MAX_REMEMBERED = 20_000
SHORTLY = timedelta(minutes=5)
"""Changes are committed after the time that they bear: those of the last minutes are looked at again."""

_PROBES = KIND_NUMBERS["probes"]
_OPEN = '"method":"policy","outcome":"unknown"'


class _Said(NamedTuple):
    probes_id: int
    policy_id: int | None
    token_id: int | None
    environment_id: int | None
    uv_id: int | None


@dataclass(slots=True)
class Judging:
    """What one process remembers between runs: up to which number all sets were looked at, those with open outcomes,
    what came of each combination, and up to when and to which number all subjects were looked at.
    """

    newest: int = 0
    open_sets: set[int] = field(default_factory=set)
    judged: dict[_Said, int | None] = field(default_factory=dict)
    looked_until: datetime | None = None
    newest_subject: int = 0


def judge_untried(connection: Connection, at: datetime, judging: Judging) -> int:
    """Judges what agents left open. How many subjects were moved. Commits."""
    _find_open_sets(connection, judging)
    if len(judging.judged) > MAX_REMEMBERED:
        judging.judged.clear()
    newest_subject = _newest_subject(connection)
    parts = [_judge_part(connection, at, judging, bucket) for bucket in parts_of(connection)]
    if not any(left for _, left in parts):
        judging.looked_until, judging.newest_subject = at - SHORTLY, newest_subject
    return sum(moved for moved, _ in parts)


def _judge_part(connection: Connection, at: datetime, judging: Judging, bucket: int | None) -> tuple[int, int]:
    """How many subjects were moved, and how many could not be looked at because a report was at work on them."""
    moved = left = 0
    after = 0
    while judging.open_sets:
        some = _read_subjects(connection, judging, bucket, after)
        hopeful = [subject_id for subject_id, said in some if judging.judged.get(said, said) is not None]
        if hopeful:
            with connection.begin():
                locked = _lock_subjects(connection, judging, bucket, hopeful)
                moved += _move(connection, locked, at, judging)
            left += len(hopeful) - len(locked)
        if len(some) < BATCH:
            break
        after = some[-1][0]
    return moved, left


def _newest_subject(connection: Connection) -> int:
    with slice_of(connection, writes=False):
        return connection.scalar(select(func.max(Subject.id))) or 0


def _find_open_sets(connection: Connection, judging: Judging) -> None:
    with slice_of(connection, writes=False):
        newest = connection.scalar(select(func.max(FactSet.id))) or 0
    is_whole = have_writers_ended(connection, FactSet.__tablename__)
    with slice_of(connection, writes=False):
        rows = connection.execute(
            select(FactSet.id, FactSet.body.contains(_OPEN, autoescape=True))
            .where(FactSet.kind == _PROBES, FactSet.id > judging.newest - LATE_IDS)
            .order_by(FactSet.id)
        )
        judging.open_sets.update(set_id for set_id, is_open in rows if is_open)
    if is_whole:
        # Else a set below the newest may be committed yet: the next run looks from the same place.
        judging.newest = newest


_SAID = (Subject.probes_id, Subject.policy_id, Subject.token_id, Subject.environment_id, Subject.uv_id)


def _read_subjects(connection: Connection, judging: Judging, bucket: int | None, after: int) -> list[tuple[int, _Said]]:
    """Subjects with open outcomes that were not looked at as they are now, in the order of their numbers."""
    query = (
        select(Subject.id, *_SAID)
        .where(*are_in(bucket, Subject), Subject.id > after, is_among(connection, Subject.probes_id, judging.open_sets))
        .order_by(Subject.id)
        .limit(BATCH)
    )
    if judging.looked_until is not None:
        query = query.where(or_(Subject.changed_at >= judging.looked_until, Subject.id > judging.newest_subject))
    with slice_of(connection, writes=False):
        return [(row[0], _Said(row[1] or 0, *row[2:])) for row in connection.execute(query)]


def _lock_subjects(
    connection: Connection, judging: Judging, bucket: int | None, ids: list[int]
) -> list[tuple[int, _Said]]:
    """Those of the subjects that still have open outcomes and that no report is at work on, their pulses locked."""
    query = (
        select(Subject.id, *_SAID)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(
            *are_in(bucket, Subject, Pulse),
            is_among(connection, Subject.id, ids),
            is_among(connection, Subject.probes_id, judging.open_sets),
        )
        .order_by(Subject.id)
        .with_for_update(of=Pulse, skip_locked=True)
    )
    return [(row[0], _Said(row[1] or 0, *row[2:])) for row in connection.execute(query)]


def _move(connection: Connection, subjects: list[tuple[int, _Said]], at: datetime, judging: Judging) -> int:
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    targets: dict[int, int] = {}
    said_by = dict(subjects)
    for subject_id, said in subjects:
        if said not in judging.judged:
            judging.judged[said] = _judge(connection, said, at)
        target = judging.judged[said]
        if target is not None and target != said.probes_id:
            targets[subject_id] = target
    deltas: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    updates = []
    raw: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for old in rows.find_pointers(cursor, sorted(targets)):
        if said_by[old.id] != (old.probes_id, old.policy_id, old.token_id, old.environment_id, old.uv_id):
            continue  # a report changed it between the look and the lock: it is judged with the next run
        new: PointerRow = old._replace(probes_id=targets[old.id])
        count_move(old, new, deltas)
        updates.append(SubjectUpdate(new.id, new.group_id, new.standing, to_ms(at), *new[3:]))
        raw[old.probes_id, targets[old.id]].append(old.id)
    if updates:
        rows.update_subjects(cursor, updates)
    changed = [DeltaRow(*key, by) for key, by in sorted(deltas.items()) if by]
    if changed:
        rows.insert_deltas(cursor, changed)
    for (old_id, new_id), ids in raw.items():
        # What changed for the subject is the judged outcome; the open one was never looked at by anybody.
        connection.execute(
            update(Transition)
            .where(Transition.subject_id.in_(ids), Transition.kind == _PROBES, Transition.new_id == old_id)
            .values(new_id=new_id)
        )
    return len(updates)


def _judge(connection: Connection, said: _Said, at: datetime) -> int | None:
    """The set with judged outcomes; None if nothing of it can be judged."""
    ids = [one for one in said if one is not None]
    bodies = {row[0]: row[1] for row in connection.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(ids)))}
    before = bodies.get(said.probes_id)
    if before is None:
        return None
    try:
        body = judge_probes(
            before,
            bodies.get(said.policy_id or 0),
            bodies.get(said.token_id or 0),
            bodies.get(said.environment_id or 0),
            bodies.get(said.uv_id or 0),
            load_catalogue(),
        )
        facts = read_set("probes", body)
    except (AppLockerError, ContractError, ValueError, TypeError, KeyError, AttributeError):
        # The bodies are what workstations sent: one that the engine stumbles over must not stop the others.
        log.warning("the outcomes of set %d cannot be judged", said.probes_id, exc_info=True)
        return None
    if body == before:
        return None
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    key = (_PROBES, bytes.fromhex(digest("probes", body)[7:]))
    found = rows.find_sets(cursor, [key])
    if not found:
        rows.insert_sets(cursor, [NewSet(*key, body, int(facts.flags), facts.marks)], to_ms(at))
        found = rows.find_sets(cursor, [key])
    elif found[0].retired_at is not None:
        rows.revive_sets(cursor, [found[0].id])
    return found[0].id if found else None
