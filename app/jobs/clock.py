"""What runs by the clock: one thread per process; where several processes run, the database says who does the work."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import DRIVER_ERRORS
from app.fleet.fold import ContributionCache, fold, rebuild_if_catalogue_changed

log = logging.getLogger("wayleave.jobs")

FOLD_EVERY_S = 1.0


class Clock:
    """Folds the tallies every second until stopped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._cache = ContributionCache()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        catalogue_checked = False
        while not self._stop.wait(FOLD_EVERY_S):
            try:
                with self._engine.connect() as connection:
                    if not catalogue_checked:
                        rebuild_if_catalogue_changed(connection, self._cache)
                        catalogue_checked = True
                    fold(connection, self._cache)
            except (*DRIVER_ERRORS, SQLAlchemyError) as error:
                log.warning("the tallies were not folded, trying again: %s", error)
            except Exception:
                log.exception("the tallies were not folded, trying again")
