"""Subjects that fell silent leave the counts, a bounded batch at a time; their next report brings them back."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, select, update

from app.db.base import from_ms, to_ms
from app.db.slices import slice_of, walk
from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.buckets import are_in, parts_of
from app.fleet.moves import count_move
from app.fleet.rows import DeltaRow, SubjectUpdate
from app.fleet.standing import Standing
from app.fleet.tables import PULSE_OF_SUBJECT, SUBJECT_OF_HOST, Host, Pulse, Subject

BATCH = 1000
EPHEMERAL_HOURS = 24


def mark_silent(connection: Connection, at: datetime, *, days: int) -> int:
    """Takes subjects not seen for `days` (of ephemeral hosts: 24 hours) out of the counts; how many. Commits."""
    marked = 0
    ranges = ((bucket, *one) for bucket in parts_of(connection) for one in walk(connection, Pulse.subject_id))
    for bucket, after, until in ranges:
        last_id = after
        while True:
            with slice_of(connection):
                ids = _lock_silent(connection, at, days, bucket, after=last_id, until=until)
                if ids:
                    set_standing(connection, ids, Standing.SILENT, at)
            marked += len(ids)
            if len(ids) < BATCH:
                break
            last_id = ids[-1]
    return marked


def _lock_silent(
    connection: Connection, at: datetime, days: int, bucket: int | None, *, after: int, until: int
) -> list[int]:
    long_ago, a_day_ago = to_ms(at - timedelta(days=days)), to_ms(at - timedelta(hours=EPHEMERAL_HOURS))
    limit = case((Host.ephemeral, a_day_ago), else_=long_ago)
    query = (
        select(Pulse.subject_id)
        .join(Subject, PULSE_OF_SUBJECT)
        .join(Host, SUBJECT_OF_HOST)
        .where(
            *are_in(bucket, Pulse, Subject, Host),
            Pulse.subject_id > after,
            Pulse.subject_id <= until,
            # Said of the pulse alone: of most nothing more is looked up.
            Pulse.last_seen_at < from_ms(max(long_ago, a_day_ago)),
            Pulse.last_seen_at < limit,
            Subject.standing.not_in((Standing.SILENT.value, Standing.REVOKED.value, Standing.IMPORTED.value)),
        )
        .order_by(Pulse.subject_id)
        .limit(BATCH)
        .with_for_update(of=Pulse, skip_locked=True)
    )
    return list(connection.scalars(query))


def set_standing(connection: Connection, subject_ids: list[int], standing: Standing, at: datetime) -> None:
    """Gives subjects, whose pulses the caller has locked, another standing, and moves them in the counts."""
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    deltas: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    updates = []
    for old in rows.find_pointers(cursor, sorted(subject_ids)):
        new = old._replace(standing=standing.value)
        count_move(old, new, deltas)
        updates.append(SubjectUpdate(new.id, new.group_id, new.standing, to_ms(at), *new[3:]))
    if updates:
        rows.update_subjects(cursor, updates)
    changed = [DeltaRow(*key, by) for key, by in sorted(deltas.items()) if by]
    if changed:
        rows.insert_deltas(cursor, changed)
    # Their next report says the same as their last: it must be looked at in full all the same.
    connection.execute(update(Pulse).where(Pulse.subject_id.in_(subject_ids)).values(said=b""))
