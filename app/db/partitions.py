"""Tables kept by month on PostgreSQL: partitions made ahead of time, and dropped whole when their month is too old."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from app.db.base import now, to_ms

PARTITIONED = ("transition", "sighting")
MONTHS_AHEAD = 2
_NAME = re.compile(r"[a-z_]+_y(\d{4})m(\d{2})")


def make_month_partitions(connection: Connection, at: datetime | None = None) -> list[str]:
    """Makes the partitions of last month, this month and the next two that are missing; their names.

    A month that already has rows in the default partition keeps them there.
    """
    at = at or now()
    made = []
    for table in PARTITIONED:
        for offset in range(-1, MONTHS_AHEAD + 1):
            start = _month(at.year, at.month + offset)
            end = _month(start.year, start.month + 1)
            name = f"{table}_y{start.year:04}m{start.month:02}"
            if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is not None:
                continue
            held = connection.execute(
                text(f"SELECT EXISTS (SELECT 1 FROM {table}_default WHERE at >= :start AND at < :end)"),  # noqa: S608 - our names
                {"start": to_ms(start), "end": to_ms(end)},
            ).scalar()
            if held:
                continue
            connection.execute(
                text(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({to_ms(start)}) TO ({to_ms(end)})")
            )
            made.append(name)
    return made


def drop_old_partitions(connection: Connection, before: datetime) -> list[str]:
    """Drops the partitions whose whole month lies before a time; their names."""
    dropped = []
    rows = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY(:tables) ORDER BY c.relname"
        ),
        {"tables": list(PARTITIONED)},
    ).scalars()
    for name in rows.all():
        match = _NAME.fullmatch(name)
        if match is not None and _month(int(match[1]), int(match[2]) + 1) <= before:
            connection.execute(text(f"DROP TABLE {name}"))
            dropped.append(name)
    return dropped


def _month(year: int, month: int) -> datetime:
    """The first of a month, whose number may run over the year's ends."""
    return datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
