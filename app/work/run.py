"""Does work that was asked for, a few pieces at a time, in threads of the process that was asked.

Each says how far it is, and with that learns whether it was cancelled. A server that stops ends them as interrupted;
of one that is killed the rows tell it, because nobody beats for them any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.db.engine import DRIVER_ERRORS
from app.db.session import session_scope
from app.errors import AppError
from app.work.rows import (
    CUT_OFF,
    DONE,
    FAILED,
    INTERRUPTED,
    Asked,
    Work,
    beat,
    begin_work,
    end_work,
    get_work,
    keep_result,
    move_on,
)

log = logging.getLogger("wayleave.work")

AT_ONCE = 2
"""So many pieces are worked on at a time by a process; others wait for their turn."""
PATIENCE_S = 0.8
TELL_EVERY_S = 0.5
BEAT_EVERY_S = 2.0


class Stopped(Exception):
    """The work was cancelled, or the server stops."""


class Progress:
    """How far one piece of work is. `tell` is cheap, so that it can be called often; it raises `Stopped`."""

    def __init__(self, engine: Engine, work_id: int, claim: str) -> None:
        self._engine, self._work_id, self._claim = engine, work_id, claim
        self._told_s = 0.0
        self.stop = threading.Event()

    def tell(self, doing: str, done: int = 0, total: int = 0) -> None:
        """Note what is being done, and how much of it is. raises: Stopped"""
        if self.stop.is_set():
            raise Stopped
        at_s = time.monotonic()
        if at_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = at_s
        with session_scope(self._engine) as session:
            if not move_on(session, self._work_id, self._claim, doing=doing, done=done, total=total):
                self.stop.set()
        if self.stop.is_set():
            raise Stopped


Keep = Callable[[Session], dict[str, Any] | None]
"""Keeps what came of a piece of work, in the transaction that ends it; gives what its row is to keep."""
Do = Callable[[Engine, Progress], Keep]
"""A piece of work: works something out, saying how far it is, and returns what keeps it."""


def reading(doing: str, read: Callable[[Session, Progress], dict[str, Any]]) -> Do:
    """Work that only reads, in one session, and whose row keeps what it found. `doing`: what it begins with."""

    def do(engine: Engine, progress: Progress) -> Keep:
        progress.tell(doing)
        with session_scope(engine, writes=False) as session:
            values = read(session, progress)
        return lambda _session: values

    return do


class Workers:
    """The threads that do the work, made when the first is asked for.

    `patience_s`: so long somebody who asked waits for the answer before being shown how far it is.
    """

    def __init__(self, engine: Engine, *, patience_s: float = PATIENCE_S) -> None:
        self._engine = engine
        self.patience_s = patience_s
        self._pool: ThreadPoolExecutor | None = None
        self._beats = threading.Thread(target=self._beat, name="work-beat", daemon=True)
        self._running: dict[str, tuple[int, Progress, Future[None]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start_work(self, asked: Asked, do: Do) -> None:
        """Have work done that was asked for and is committed. Nothing happens if somebody else does it."""
        if asked.claim is None:
            return
        progress = Progress(self._engine, asked.work.id, asked.claim)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="work")
                self._beats.start()
            future = self._pool.submit(do_work, self._engine, asked.work.id, asked.claim, do, progress)
            self._running[asked.claim] = asked.work.id, progress, future
        future.add_done_callback(partial(self._forget, asked.claim))

    def wait_for(self, work: Work) -> Work:
        """The work as it stands when it has ended, or after a moment. Only what this process does is waited for."""
        with self._lock:
            future = next((one for work_id, _, one in self._running.values() if work_id == work.id), None)
        if future is not None:
            try:
                future.result(self.patience_s)
            except (TimeoutError, CancelledError):
                log.debug("work %s goes on", work.id)
        with session_scope(self._engine, writes=False) as session:
            return get_work(session, work.id)

    def stop(self) -> None:
        """End what runs, as interrupted. When it returns, nothing of this holds a connection."""
        self._stop.set()
        with self._lock:
            running, pool = dict(self._running), self._pool
        for _, progress, future in running.values():
            progress.stop.set()
            future.cancel()
        for claim, (work_id, _, future) in running.items():
            if future.cancelled():
                _end(self._engine, work_id, claim, INTERRUPTED, CUT_OFF)
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
            self._beats.join()

    def _forget(self, claim: str, _future: Future[None]) -> None:
        with self._lock:
            self._running.pop(claim, None)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_EVERY_S):
            with self._lock:
                running = {claim: progress for claim, (_, progress, _) in self._running.items()}
            if not running:
                continue
            try:
                with session_scope(self._engine) as session:
                    alive = beat(session, list(running))
            except (*DRIVER_ERRORS, SQLAlchemyError) as error:
                log.warning("could not note that work goes on: %s", error)
                continue
            for claim, progress in running.items():
                if claim not in alive:
                    progress.stop.set()


def do_work(engine: Engine, work_id: int, claim: str, do: Do, progress: Progress | None = None) -> None:
    """Do one piece of work and keep what came of it. Never raises: a failure is its result."""
    try:
        with session_scope(engine) as session:
            if not begin_work(session, work_id, claim):
                return
        keep = do(engine, progress or Progress(engine, work_id, claim))
        with session_scope(engine) as session:
            # Ended first: who cancelled it meanwhile gets nothing kept.
            if end_work(session, work_id, claim, DONE):
                result = keep(session)
                if result is not None:
                    keep_result(session, work_id, result)
    except Stopped:
        # Cancelled work has ended already, and this changes nothing.
        _end(engine, work_id, claim, INTERRUPTED, CUT_OFF)
    except AppError as error:
        _end(engine, work_id, claim, FAILED, error.message)
    except Exception:  # whatever it was, the page has to say that it ended
        log.exception("work %s failed", work_id)
        _end(engine, work_id, claim, FAILED, "It failed; the server's log says why.")


def _end(engine: Engine, work_id: int, claim: str, state: str, problem: str) -> None:
    try:
        with session_scope(engine) as session:
            end_work(session, work_id, claim, state, problem=problem[:1000])
    except (*DRIVER_ERRORS, SQLAlchemyError):
        log.exception("could not note that work %s has ended; its row will tell", work_id)
