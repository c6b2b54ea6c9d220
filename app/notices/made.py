"""Notices of a made fleet: looked for at the end of each day of its story, as the clock of a server would have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from app.notices.counts import Remembered
from app.notices.watch import Thresholds, WatchRun, watch_fleet


def watch_days() -> Callable[[Connection, datetime], WatchRun]:
    """What `make_fleet` calls for each day; nothing is mailed or sent."""
    remembered = Remembered()

    def watch_day(connection: Connection, at: datetime) -> WatchRun:
        return watch_fleet(connection, at, Thresholds(), remembered)

    return watch_day
