"""The one thread of a process that writes reports: commits what has gathered, then answers all members at once.

A data error of one report must not cost the others theirs: the group is cut in halves until it is alone. When the
database is away, locked or full, the whole group is told to come back. When it says nothing at all, members are told
so in time, and the connection is cut.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import DATA_ERRORS, DRIVER_ERRORS
from app.fleet.buckets import bucket_of
from app.fleet.incoming import TRY_AGAIN, Incoming, Limits, Outcome
from app.fleet.probing import read_stopped
from app.fleet.record import record_reports
from app.fleet.sets import SetCache

log = logging.getLogger("wayleave.ingest")

STOPS_EVERY_S = 5.0
"""How often the writer looks where probing is stopped."""

LOOK_EVERY_S = 0.5
LOCK_TIMEOUT_MS = 8_000
IDLE_TIMEOUT_MS = 60_000
"""A writer never idles within a transaction: one that does was cut off, and holds locks that others wait for."""

UNWRITABLE = Outcome(
    status=422, error="invalid", message="The database refuses a value of this report.", field="bodies"
)


@dataclass(slots=True)
class _Member:
    report: Incoming
    future: asyncio.Future[Outcome]
    queued_at_s: float
    transport: asyncio.BaseTransport | None

    @property
    def has_left(self) -> bool:
        """It was told to come back already, or its connection has ended."""
        return self.future.done() or (self.transport is not None and self.transport.is_closing())


class Writer:
    """Owns a thread and its connection; `submit` belongs to one event loop."""

    def __init__(
        self,
        engine: Engine,
        *,
        linux_group: int,
        limits: Limits,
        group_reports: int,
        group_wait_s: float,
        by_bucket: bool = False,
        queue_reports: int,
        queue_age_s: float,
        answer_s: float = 20.0,
    ) -> None:
        self._engine = engine
        self._linux_group = linux_group
        self._limits = limits
        self._group_reports = group_reports
        self._group_wait_s = group_wait_s
        self._by_bucket = by_bucket
        self._queue_reports = queue_reports
        self._queue_age_s = queue_age_s
        self._answer_s = answer_s
        self._look_every_s = min(LOOK_EVERY_S, answer_s / 4)
        self._waiting: deque[tuple[float, asyncio.Future[Outcome]]] = deque()
        self._queue: deque[_Member] = deque()
        self._wake = threading.Event()
        self._full = threading.Event()
        self._stopping = False
        self._sets = SetCache()
        self._stopped: frozenset[int] = frozenset()
        self._look_at_s = time.monotonic()
        self._connection: Connection | None = None
        self._line: socket.socket | None = None
        self._group_since_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="report-writer", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread; answers go to this loop."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Writes what is queued and ends the thread."""
        self._stopping = True
        self._wake.set()
        self._full.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_stuck(self) -> bool:
        """The group at hand takes longer than any of its members waits."""
        since_s = self._group_since_s
        return since_s is not None and time.monotonic() - since_s > self._answer_s

    async def submit(self, report: Incoming, transport: asyncio.BaseTransport | None = None) -> Outcome:
        """What became of the report, after it was committed. `transport`: its connection; once it ends, nobody waits.

        Told to come back, it may have been committed all the same: then it is a replay.
        """
        if self._stopping or len(self._queue) >= self._queue_reports:
            return TRY_AGAIN
        assert self._loop is not None  # noqa: S101 - the writer is started before it is given reports
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._queue.append(_Member(report, future, time.monotonic(), transport))
        waiting = len(self._queue)
        if waiting == 1:
            self._wake.set()
        elif waiting >= self._group_reports:
            self._full.set()
        self._waiting.append((self._loop.time() + self._answer_s, future))
        if len(self._waiting) == 1:
            self._loop.call_later(self._look_every_s, self._look_for_late)
        return await future

    def _look_for_late(self) -> None:
        """Tells those to come back who have waited for too long. One timer for all: one for each would cost more."""
        assert self._loop is not None  # noqa: S101 - started
        now_s = self._loop.time()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now_s):
            _until_s, future = self._waiting.popleft()
            if not future.done():
                future.set_result(TRY_AGAIN)
                self._cut()
        if self._waiting:
            self._loop.call_later(self._look_every_s, self._look_for_late)

    def _cut(self) -> None:
        """Ends the connection over which the database has said nothing for so long; the writer then makes a new one."""
        since_s, line = self._group_since_s, self._line
        if line is None or since_s is None or time.monotonic() - since_s < self._answer_s / 2:
            return
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        log.error("the database has not answered for %.0f s: the connection was cut", time.monotonic() - since_s)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if not self._queue:
                self._wake.clear()
                # A member that came between the look and the clear set the event before: look once more.
                if not self._queue:
                    if self._stopping:
                        break
                    continue
            if len(self._queue) < self._group_reports and not self._stopping:
                self._full.wait(self._group_wait_s)
            self._full.clear()
            group = self._take_group()
            for part in self._parts(group):
                self._group_since_s = time.monotonic()
                self._answer(part, self._write(part))
            self._group_since_s = None
        self._disconnect()

    def _take_group(self) -> list[_Member]:
        """The next members; those that left are dropped, those that waited too long are told to come back."""
        group: list[_Member] = []
        expired: list[_Member] = []
        oldest_s = time.monotonic() - self._queue_age_s
        while self._queue and len(group) < self._group_reports:
            member = self._queue.popleft()
            if member.has_left:
                continue
            (expired if member.queued_at_s < oldest_s else group).append(member)
        if expired:
            self._answer(expired, [TRY_AGAIN] * len(expired))
        return group

    def _parts(self, group: list[_Member]) -> list[list[_Member]]:
        """What of a group is committed together."""
        if not self._by_bucket:
            return [group] if group else []
        parts: defaultdict[int, list[_Member]] = defaultdict(list)
        for member in group:
            parts[bucket_of(member.report.host_id)].append(member)
        return list(parts.values())

    def _write(self, group: list[_Member]) -> list[Outcome]:
        reports = [member.report for member in group]
        try:
            return self._record(reports)
        except DATA_ERRORS:
            if len(group) == 1:
                log.exception("the database refuses a report of host %d", reports[0].host_id)
                return [UNWRITABLE]
            middle = len(group) // 2
            return self._write(group[:middle]) + self._write(group[middle:])
        except (*DRIVER_ERRORS, SQLAlchemyError) as error:
            log.error("reports not written, %d told to come back: %s", len(group), error)
            self._disconnect()
            return [TRY_AGAIN] * len(group)
        except Exception:
            log.exception("reports not written, %d told to come back", len(group))
            self._disconnect()
            return [TRY_AGAIN] * len(group)

    def _record(self, reports: list[Incoming]) -> list[Outcome]:
        if self._connection is None:
            self._connect()
        assert self._connection is not None  # noqa: S101 - for the type checker
        if time.monotonic() >= self._look_at_s:
            with self._connection.begin():
                self._stopped = read_stopped(self._connection)
            self._look_at_s = time.monotonic() + STOPS_EVERY_S
        return record_reports(
            self._connection,
            reports,
            now_ms=time.time_ns() // 1_000_000,
            sets=self._sets,
            linux_group=self._linux_group,
            limits=self._limits,
            stopped=self._stopped,
            bucket=bucket_of(reports[0].host_id) if self._by_bucket else None,
        )

    def _connect(self) -> None:
        self._connection = self._engine.connect()
        if self._connection.dialect.name != "postgresql":
            return
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)  # noqa: S101 - for the type checker
        # A descriptor of our own for the same connection: it can't have become another's when it is cut.
        self._line = socket.socket(fileno=os.dup(driver.fileno()))
        with self._connection.begin():
            self._connection.exec_driver_sql(
                f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS};"
                # Each of the writer's statements looks rows up by key. A plan made while tables were small, or their
                # statistics old, would read them whole, and prepared statements keep their plans.
                "SET enable_seqscan = off"
            )

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        line, self._line = self._line, None
        if line is not None:
            line.close()
        # What the cache learnt in a transaction that was lost may not be there.
        self._sets = SetCache()
        if connection is None:
            return
        try:
            connection.invalidate()
            connection.close()
        except (*DRIVER_ERRORS, SQLAlchemyError):
            log.debug("the connection was gone already", exc_info=True)

    def _answer(self, group: list[_Member], outcomes: list[Outcome]) -> None:
        assert self._loop is not None  # noqa: S101 - started
        try:
            self._loop.call_soon_threadsafe(_resolve, group, outcomes)
        except RuntimeError:
            log.debug("the event loop has ended; %d committed reports are not answered", len(group))


def _resolve(group: list[_Member], outcomes: list[Outcome]) -> None:
    for member, outcome in zip(group, outcomes, strict=True):
        if not member.future.done():
            member.future.set_result(outcome)
