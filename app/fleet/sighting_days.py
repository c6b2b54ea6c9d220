"""Counts sightings by day, so that a page over millions of them reads a few hundred rows.

Each count takes what was recorded since the last one and remembers how far it came, in the same transaction: a late
report, or an imported log of last year, adds to the day on which the files were tried. It never comes further than the
oldest transaction that is still open: what is committed late would be skipped for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, insert, select, text, update

from app.db.base import from_ms, to_ms
from app.db.tables import Setting
from app.fleet.retention import DAY_MS
from app.fleet.tables import Sighting, SightingDay

COUNTED_UNTIL = "sightings_counted_until"
"""The setting that holds how far counting came: milliseconds since 1970 of `recorded_at`."""

SETTLES = timedelta(seconds=60)
"""The time of recording is read so long before the transaction begins at most (a writer gives up sooner)."""


def count_sightings(connection: Connection, at: datetime, *, settles: timedelta = SETTLES) -> int:
    """Adds what was recorded since the last count; how many sightings. Commits."""
    with connection.begin():
        until_ms = to_ms(at - settles) - _oldest_open_ms(connection)
        value = connection.scalar(select(Setting.value).where(Setting.name == COUNTED_UNTIL).with_for_update())
        after_ms = int(value) if value is not None else 0
        if until_ms <= after_ms:
            return 0
        day = cast(Sighting.at, BigInteger).op("/")(DAY_MS)
        rows = connection.execute(
            select(day, Sighting.pattern, Sighting.event_id, func.count())
            .where(Sighting.recorded_at > from_ms(after_ms), Sighting.recorded_at <= from_ms(until_ms))
            .group_by(day, Sighting.pattern, Sighting.event_id)
        ).all()
        _add(connection, [tuple(row) for row in rows])
        changed = {"value": str(until_ms), "updated_at": at}
        if value is None:
            connection.execute(insert(Setting).values(name=COUNTED_UNTIL, **changed))
        else:
            connection.execute(update(Setting).where(Setting.name == COUNTED_UNTIL).values(**changed))
    return sum(row[3] for row in rows)


def _oldest_open_ms(connection: Connection) -> int:
    """For how long the oldest transaction but ours has been open; by the database's clock alone, as ours may differ."""
    if connection.dialect.name != "postgresql":
        return 0  # nobody else writes
    query = text(
        "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)) * 1000, 0) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return int(connection.execute(query).scalar_one())


def drop_old_days(connection: Connection, at: datetime, *, days: int) -> int:
    """Deletes the counts of days whose sightings are no longer kept; how many rows. Commits."""
    with connection.begin():
        return connection.execute(
            delete(SightingDay).where(SightingDay.day < to_ms(at - timedelta(days=days)) // DAY_MS)
        ).rowcount


def _add(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    known = {
        tuple(row)
        for row in connection.execute(
            select(SightingDay.day, SightingDay.pattern, SightingDay.event_id).where(
                SightingDay.day.in_({row[0] for row in rows})
            )
        )
    }
    new = [row for row in rows if row[:3] not in known]
    more = [row for row in rows if row[:3] in known]
    if new:
        connection.execute(
            insert(SightingDay),
            [dict(zip(("day", "pattern", "event_id", "sightings"), row, strict=True)) for row in new],
        )
    if more:
        connection.execute(
            update(SightingDay)
            .where(
                SightingDay.day == bindparam("on_day"),
                SightingDay.pattern == bindparam("at_pattern"),
                SightingDay.event_id == bindparam("by_event"),
            )
            .values(sightings=SightingDay.sightings + bindparam("more")),
            [dict(zip(("on_day", "at_pattern", "by_event", "more"), row, strict=True)) for row in more],
        )
