"""What runs by the clock: one thread per process; where several processes run, the database says who does the work."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.base import now
from app.db.engine import DRIVER_ERRORS
from app.fleet.absence import count_absent
from app.fleet.fold import ContributionCache, fold, rebuild_if_catalogue_changed
from app.fleet.retention import drop_old, retire_sets, write_daily
from app.fleet.sweep import mark_silent
from app.requests.record import drop_old_requests

log = logging.getLogger("wayleave.jobs")

FOLD_EVERY_S = 1.0
HOUR_S = 3600.0
DAY_S = 86_400.0


class Clock:
    """Folds the tallies every second, and does the hour's and the day's work, until stopped."""

    def __init__(self, engine: Engine, *, silent_after_days: int, retention_days: int) -> None:
        self._engine = engine
        self._silent_after_days = silent_after_days
        self._retention_days = retention_days
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._cache = ContributionCache()
        self._catalogue_checked = False
        # The first hourly round comes a minute after the start, when the first reports are through.
        self._hourly_at_s = time.monotonic() + 60
        self._daily_at_s = time.monotonic() + 120

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(FOLD_EVERY_S):
            try:
                with self._engine.connect() as connection:
                    self._tick(connection)
            except (*DRIVER_ERRORS, SQLAlchemyError) as error:
                log.warning("work by the clock failed and is tried again: %s", error)
            except Exception:
                log.exception("work by the clock failed and is tried again")

    def _tick(self, connection: Connection) -> None:
        if not self._catalogue_checked:
            rebuild_if_catalogue_changed(connection, self._cache)
            self._catalogue_checked = True
        fold(connection, self._cache)
        if time.monotonic() >= self._hourly_at_s:
            self._hourly_at_s = time.monotonic() + HOUR_S
            mark_silent(connection, now(), days=self._silent_after_days)
            count_absent(connection, now())
            write_daily(connection, now())
        if time.monotonic() >= self._daily_at_s:
            self._daily_at_s = time.monotonic() + DAY_S
            drop_old(connection, now(), days=self._retention_days)
            retire_sets(connection, now())
            drop_old_requests(connection, now())
