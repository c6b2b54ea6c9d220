"""What runs by the clock: in each process one thread folds the tallies every second, another does the work that is due.

Two, so that counts don't stand still while work takes its time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from app.db.base import now
from app.db.engine import DRIVER_ERRORS
from app.db.slices import STOP
from app.fleet.fold import ContributionCache, find_oldest_delta, fold, rebuild_if_catalogue_changed
from app.fleet.rule_uses import fold_uses
from app.jobs.run import make_rows, run_due
from app.jobs.work import Keeping

log = logging.getLogger("wayleave.jobs")

FOLD_EVERY_S = 1.0
LOOK_EVERY_S = 5.0
TAKE_OVER_AFTER_S = 60.0
"""So long one change may wait before a server whose catalogue did not make the tallies makes them anew."""


class Clock:
    """Folds the tallies every second, and does the work that is due, until stopped. Holds two connections."""

    def __init__(self, engine: Engine, keeping: Keeping) -> None:
        self._engine = engine
        self._keeping = keeping
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=name, args=(every, tick), daemon=True)
            for name, every, tick in (
                ("clock", lambda: FOLD_EVERY_S, self._fold),
                ("work-by-the-clock", lambda: LOOK_EVERY_S, self._work),
            )
        ]
        self._cache = ContributionCache()
        self._is_prepared = False
        self._has_rows = False
        self._look_at_s = time.monotonic()
        self._oldest: int | None = None
        self._oldest_since_s = 0.0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Both threads are there."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Work that goes slice by slice ends after the one at hand."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, every_s: Callable[[], float], tick: Callable[[Connection], None]) -> None:
        while not self._stop.wait(every_s()):
            try:
                with self._engine.connect() as connection:
                    tick(connection)
            except (*DRIVER_ERRORS, SQLAlchemyError) as error:
                log.warning("work by the clock failed and is tried again: %s", error)
            except Exception:
                log.exception("work by the clock failed and is tried again")

    def _fold(self, connection: Connection) -> None:
        if not self._is_prepared:
            rebuild_if_catalogue_changed(connection, self._cache)
            self._is_prepared = True
        fold(connection, self._cache)
        fold_uses(connection)
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + LOOK_EVERY_S
            self._take_over(connection)

    def _work(self, connection: Connection) -> None:
        connection.info[STOP] = self._stop
        if connection.dialect.name == "postgresql":
            with connection.begin():
                # What runs beside the reports takes one core at most, and plans nothing that pays only when it is long.
                connection.execute(text("SET max_parallel_workers_per_gather = 0"))
                connection.execute(text("SET jit = off"))
        if not self._has_rows:
            make_rows(connection, now())
            self._has_rows = True
        run_due(connection, self._keeping)

    def _take_over(self, connection: Connection) -> None:
        """Where a newer release folded and is gone, or was taken back, counts must not stand still."""
        oldest = find_oldest_delta(connection)
        if oldest is None or oldest != self._oldest:
            self._oldest, self._oldest_since_s = oldest, time.monotonic()
        elif time.monotonic() - self._oldest_since_s >= TAKE_OVER_AFTER_S and rebuild_if_catalogue_changed(
            connection, self._cache
        ):
            log.warning("nobody folded for %.0f s: the tallies were made anew by this catalogue", TAKE_OVER_AFTER_S)
