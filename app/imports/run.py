"""Reads one import to its end: stretch by stretch, each stored together with how far it brings the reading.

Killed at any moment, it goes on from the last stretch that was stored. Cancelled, it stops at the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Engine

from app.audit.record import Actor
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.fleet.imported import Places, Tried, merge_imported_hosts, store_imported
from app.imports.jobs import Import, claim_import, end_import, get_import, let_go, move_on
from app.imports.model import NO_TIME, FileError, Part, Reasons, Seen
from app.imports.read import read_parts
from app.ingest.keys import ServerKeys

STORE_FIRST_S, STORE_SHARE, STORE_LAST_S = 0.3, 0.1, 3.0
"""So long after the last time it is stored: soon at first, so that progress shows, then seldom, which is faster."""
STORE_ROWS = 20_000
AHEAD = timedelta(days=1)
NOBODY = "S-1-0-0"
"""The SID that stands for a user whom the file does not name. source: MS-DTYP, well-known SIDs (NULL)"""

_KNOWN_USERS = 50_000


class Interrupted(Exception):
    """Cancelled, or taken over by another reader."""


def run_import(
    engine: Engine,
    job_id: int,
    path: Path,
    *,
    keys: ServerKeys,
    retention_days: int,
    actor: Actor,
    processes: int = 2,
    tell: Callable[[Import], None] = lambda _import: None,
) -> Import:
    """Reads on from where the import stands, and returns how it ended. `tell` hears of each step.

    raises: ConflictError when another process reads it; KeyboardInterrupt goes through, and leaves it to be continued.
    """
    with session_scope(engine) as session:
        claim = claim_import(session, job_id)
        job = get_import(session, job_id)
    storing = _Storing(engine, job, claim, keys, retention_days)
    try:
        for part in read_parts(path, job.kind, job.position, job.given, processes=processes):
            if storing.add(part):
                with session_scope(engine, writes=False) as session:
                    tell(get_import(session, job_id))
        storing.store()
    except Interrupted:
        pass
    except (FileError, OSError) as error:
        fault = str(error) if isinstance(error, FileError) else f"the file can't be read: {error.strerror or error}"
        with session_scope(engine) as session:
            end_import(session, job_id, claim, fault=fault, actor=actor)
    except BaseException:
        with session_scope(engine) as session:
            let_go(session, job_id, claim)
        raise
    else:
        with session_scope(engine) as session:
            end_import(session, job_id, claim, actor=actor)
            merge_imported_hosts(session)
    with session_scope(engine, writes=False) as session:
        return get_import(session, job_id)


class _Storing:
    """What was read and is not stored yet."""

    def __init__(self, engine: Engine, job: Import, claim: str, keys: ServerKeys, retention_days: int) -> None:
        self._engine, self._job, self._claim, self._keys = engine, job, claim, keys
        self._oldest = to_ms(now() - timedelta(days=retention_days))
        self._newest = to_ms(now() + AHEAD)
        self._places = Places()
        self._users: dict[str, bytes] = {}
        self._waiting: Part | None = None
        self._begun_s = self._since_s = time.monotonic()

    def add(self, part: Part) -> bool:
        """Adds a part; whether that was the moment to store."""
        waiting = self._waiting
        if waiting is None:
            self._waiting = part
        else:
            waiting.after = part.after
            waiting.read += part.read
            waiting.seen += part.seen
            waiting.left_out += part.left_out
            waiting.problems += part.problems
        held = self._waiting
        if held is not None and (len(held.seen) >= STORE_ROWS or self._is_due()):
            self.store()
            return True
        return False

    def _is_due(self) -> bool:
        at_s = time.monotonic()
        return at_s - self._since_s >= min(STORE_LAST_S, STORE_FIRST_S + STORE_SHARE * (at_s - self._begun_s))

    def store(self) -> None:
        """Stores all that waits, with how far it came. raises: Interrupted."""
        part, self._waiting = self._waiting, None
        if part is None:
            return
        tried = [found for seen in part.seen if (found := self._to_store(seen, part)) is not None]
        with session_scope(self._engine) as session:
            stored = store_imported(session, tried, self._places)
            took_ms = round((time.monotonic() - self._since_s) * 1000)
            read_bytes = min(part.after.get("offset", 0), self._job.size_bytes)
            if not move_on(session, self._job.id, self._claim, part, stored, read_bytes=read_bytes, took_ms=took_ms):
                session.rollback()
                raise Interrupted
        self._since_s = time.monotonic()

    def _to_store(self, seen: Seen, part: Part) -> Tried | None:
        if seen.at < self._oldest or seen.at > self._newest:
            part.left_out[Reasons.TOO_OLD if seen.at < self._oldest else Reasons.FUTURE] += 1
            return None
        subject = self._users.get(seen.sid)
        if subject is None:
            subject = self._subject(seen.sid)
        if seen.record < 0:
            return Tried(seen.computer, subject, *seen[2:], has_record=False, has_time=seen.record != NO_TIME)
        return Tried(seen.computer, subject, *seen[2:])

    def _subject(self, sid: str) -> bytes:
        """The keyed hash of a user, remembered."""
        if len(self._users) >= _KNOWN_USERS:
            self._users.clear()
        self._users[sid] = self._keys.hash_sid(sid or NOBODY)
        return self._users[sid]
