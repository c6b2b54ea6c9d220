"""Keeps a list of the users who were not seen for a day, brought up to date every few minutes from the pulses.

Reports change all the time when somebody was seen: an index of it would make each of them dearer. Of those who are
away nothing changes, so a list of them costs little. It may be minutes old: who asks it looks at the pulse, too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, exists, insert, select
from sqlalchemy.orm import Session

from app.db.base import from_ms, to_ms
from app.db.slices import is_among, slice_of, walk
from app.db.tables import Setting
from app.fleet.standing import Standing
from app.fleet.tables import PULSE_OF_SUBJECT, SUBJECT_OF_HOST, Host, Pulse, Subject, Unseen

AFTER = timedelta(days=1)
"""Who was not seen for so long is in the list."""
LISTED_AT = "unseen_listed_at"
"""The setting that says as of when the list is: milliseconds since 1970."""

OUTSIDE = tuple(one.value for one in Standing if not one.in_tallies)


def list_unseen(connection: Connection, at: datetime) -> int:
    """Brings the list up to date; how many are in it. Commits, slice by slice."""
    limit = at - AFTER
    listed = 0
    for after, until in walk(connection, Pulse.subject_id):
        with slice_of(connection):
            known = _known(connection, after, until)
            there = _there(connection, after, until, limit)
            gone = [subject for subject, seen_at in known.items() if there.get(subject) != seen_at]
            if gone:
                connection.execute(delete(Unseen).where(is_among(connection, Unseen.subject_id, gone)))
            new = [subject for subject, seen_at in there.items() if known.get(subject) != seen_at]
            if new:
                connection.execute(
                    insert(Unseen).from_select(
                        ["subject_id", "host_id", "name", "last_seen_at"],
                        select(Subject.id, Host.id, Host.name, Pulse.last_seen_at)
                        .join(Host, SUBJECT_OF_HOST)
                        .join(Pulse, PULSE_OF_SUBJECT)
                        .where(is_among(connection, Subject.id, new)),
                    )
                )
        listed += len(there)
    with connection.begin():
        # Of those whose pulse went with them no range of pulses tells.
        connection.execute(delete(Unseen).where(~exists().where(Subject.id == Unseen.subject_id)))
        connection.execute(delete(Setting).where(Setting.name == LISTED_AT))
        connection.execute(insert(Setting).values(name=LISTED_AT, value=str(to_ms(at)), updated_at=at))
    return listed


def read_listed_at(session: Session) -> datetime | None:
    """As of when the list is; None where it was never made."""
    value = session.scalar(select(Setting.value).where(Setting.name == LISTED_AT))
    return from_ms(int(value)) if value is not None else None


def _known(connection: Connection, after: int, until: int) -> dict[int, datetime]:
    rows = connection.execute(
        select(Unseen.subject_id, Unseen.last_seen_at).where(Unseen.subject_id > after, Unseen.subject_id <= until)
    )
    return {row[0]: row[1] for row in rows}


def _there(connection: Connection, after: int, until: int, limit: datetime) -> dict[int, datetime]:
    """Who belongs into the list, of a range. The pulses are looked at alone: of most nothing more is looked up."""
    rows = connection.execute(
        select(Pulse.subject_id, Pulse.last_seen_at).where(
            Pulse.subject_id > after, Pulse.subject_id <= until, Pulse.received > 0, Pulse.last_seen_at < limit
        )
    )
    away = {row[0]: row[1] for row in rows}
    if away:
        left = select(Subject.id).where(is_among(connection, Subject.id, away), Subject.standing.in_(OUTSIDE))
        for subject in connection.scalars(left):
            del away[subject]
    return away
