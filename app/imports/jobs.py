"""An import from its first byte to its end, as rows: begun, claimed by one reader, moved on, cancelled, asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, Actor, record
from app.db.base import now
from app.errors import ConflictError, NotFoundError
from app.fleet.imported import Stored
from app.imports.model import MAX_PROBLEMS, Given, Part
from app.imports.read import Format, Kind
from app.imports.tables import ImportJob
from app.work.claims import is_held, make_claim

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_END_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An import as it stands. `faults`: how many places of the file could not be read."""

    id: int
    name: str
    kind: Kind
    given: Given
    is_upload: bool
    state: str
    claim: str
    position: Mapping[str, int]
    size_bytes: int
    read_bytes: int
    events: int
    added: int
    known: int
    hosts_made: int
    left_out: Mapping[str, int]
    problems: tuple[tuple[str, str], ...]
    fault: str
    took_ms: int
    created_at: datetime
    created_by: str
    beat_at: datetime
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)

    @property
    def bytes_a_second(self) -> float:
        """How fast it was read so far; 0 when nothing was."""
        return self.read_bytes / (self.took_ms / 1000) if self.took_ms else 0.0

    @property
    def remaining_s(self) -> float | None:
        """How long reading on would take; None while that can't be told."""
        rate = self.bytes_a_second
        return (self.size_bytes - self.read_bytes) / rate if rate and not self.is_over else None


def begin_import(
    session: Session,
    *,
    name: str,
    size_bytes: int,
    fingerprint: bytes,
    kind: Kind,
    given: Given,
    is_upload: bool,
    actor: Actor,
) -> int:
    """A new import that waits for its reader; its id."""
    at = now()
    job = ImportJob(
        name=name[:255],
        size_bytes=size_bytes,
        fingerprint=fingerprint,
        kind=kind.format.value,
        given={
            "encoding": kind.encoding,
            "names_files": kind.names_files,
            **{key: value for key, value in asdict(given).items() if key != "env"},
            "env": dict(given.env),
        },
        is_upload=is_upload,
        state=WAITING,
        claim="",
        position={},
        read_bytes=0,
        events=0,
        added=0,
        known=0,
        hosts_made=0,
        left_out={},
        problems=[],
        fault="",
        took_ms=0,
        created_at=at,
        created_by=actor.name[:254],
        beat_at=at,
    )
    session.add(job)
    session.flush()  # its id is wanted
    record(session, actor, "import.started", name, size_bytes=size_bytes, kind=kind.format.value)
    return job.id


def find_unfinished(session: Session, fingerprint: bytes, kind: Kind, given: Given) -> Import | None:
    """The import of the same file, read in the same way, that was cut off."""
    rows = session.scalars(
        select(ImportJob)
        .where(
            ImportJob.fingerprint == fingerprint,
            ImportJob.state.in_((WAITING, RUNNING)),
            ImportJob.is_upload.is_(False),
        )
        .order_by(ImportJob.id.desc())
    )
    for row in rows:
        found = _read(row)
        if found.kind == kind and (found.given.computer, found.given.event_type, dict(found.given.env)) == (
            given.computer,
            given.event_type,
            dict(given.env),
        ):
            return found
    return None


def claim_import(session: Session, job_id: int) -> str:
    """Makes the caller the reader of an import. Returns the word by which its steps are accepted.

    raises: NotFoundError; ConflictError when it is over, or somebody else reads it.
    """
    found = get_import(session, job_id)
    if found.is_over:
        raise ConflictError(f"This import is {found.state}.", field="import")
    if is_being_read(found):
        raise ConflictError("Another process reads this file at the moment.", field="import")
    claim = make_claim()
    changed = session.execute(
        update(ImportJob)
        .where(ImportJob.id == job_id, ImportJob.claim == found.claim, ImportJob.state.in_((WAITING, RUNNING)))
        .values(claim=claim, state=RUNNING, beat_at=now())
        .execution_options(synchronize_session=False)
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]  # an update gives a cursor's result
        raise ConflictError("Another process reads this file at the moment.", field="import")
    return claim


def move_on(
    session: Session, job_id: int, claim: str, parts: Part, stored: Stored, *, read_bytes: int, took_ms: int
) -> bool:
    """Notes what a stretch gave, in the transaction that stores its sightings; False when it was cancelled or taken."""
    job = session.get_one(ImportJob, job_id, with_for_update=True)
    if job.claim != claim or job.state != RUNNING:
        return False
    left_out = dict(job.left_out)
    for reason, count in parts.left_out.items():
        left_out[reason] = left_out.get(reason, 0) + count
    job.position, job.read_bytes, job.left_out = dict(parts.after), read_bytes, left_out
    job.events += parts.read
    job.added += stored.added
    job.known += stored.known
    job.hosts_made += stored.hosts_made
    job.took_ms += took_ms
    job.problems = [*job.problems, *([*one] for one in parts.problems)][:MAX_PROBLEMS]
    job.beat_at = now()
    return True


def end_import(session: Session, job_id: int, claim: str, *, fault: str = "", actor: Actor) -> None:
    """An import that came to its end, or can't go on."""
    job = session.get_one(ImportJob, job_id, with_for_update=True)
    if job.claim != claim or job.state != RUNNING:
        return
    job.state, job.fault, job.claim, job.ended_at = (FAILED if fault else DONE), fault[:2000], "", now()
    if not fault:
        job.read_bytes = job.size_bytes
    record(
        session,
        actor,
        "import.failed" if fault else "import.finished",
        job.name,
        events=job.events,
        added=job.added,
        known=job.known,
    )


def let_go(session: Session, job_id: int, claim: str) -> None:
    """The reader stops before the end; anybody may go on."""
    session.execute(
        update(ImportJob)
        .where(ImportJob.id == job_id, ImportJob.claim == claim)
        .values(claim="", state=WAITING)
        .execution_options(synchronize_session=False)
    )


def give_up_import(session: Session, job_id: int, fault: str) -> None:
    """Ends an import whose reader ended again and again."""
    job = session.get(ImportJob, job_id, with_for_update=True)
    if job is not None and job.state in (WAITING, RUNNING) and not is_being_read(_read(job)):
        job.state, job.fault, job.claim, job.ended_at = FAILED, fault, "", now()
        record(session, SYSTEM, "import.failed", job.name, events=job.events, added=job.added)


def cancel_import(session: Session, job_id: int, *, actor: Actor) -> None:
    """Ends an import before its time; what it stored stays. Its reader notices at its next step.

    raises: NotFoundError, ConflictError for one that is over.
    """
    job = session.get(ImportJob, job_id, with_for_update=True)
    if job is None:
        raise NotFoundError("There is no such import.", field="import")
    if job.state not in (WAITING, RUNNING):
        raise ConflictError(f"This import is {job.state} already.", field="import")
    job.state, job.claim, job.ended_at = CANCELLED, "", now()
    record(session, actor, "import.cancelled", job.name, events=job.events, added=job.added)


def get_import(session: Session, job_id: int) -> Import:
    """The import of an id. raises: NotFoundError."""
    row = session.get(ImportJob, job_id)
    if row is None:
        raise NotFoundError("There is no such import.", field="import")
    return _read(row)


def list_imports(session: Session, *, before: int | None = None, limit: int = 50) -> tuple[Import, ...]:
    """The newest imports first, older than import `before`."""
    query = select(ImportJob).order_by(ImportJob.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ImportJob.id < before)
    return tuple(_read(row) for row in session.scalars(query))


def count_added(session: Session) -> tuple[int, int]:
    """How many imports there are, and how many sightings came of them all."""
    imports, added = session.execute(select(func.count(), func.sum(ImportJob.added))).one()
    return imports, int(added or 0)


def list_unread_uploads(session: Session) -> tuple[Import, ...]:
    """Uploaded files that nobody reads, the oldest first."""
    rows = session.scalars(
        select(ImportJob)
        .where(ImportJob.state.in_((WAITING, RUNNING)), ImportJob.is_upload.is_(True))
        .order_by(ImportJob.id)
        .limit(100)
    )
    return tuple(found for row in rows if not is_being_read(found := _read(row)))


def is_being_read(found: Import) -> bool:
    """Whether an import's reader is at work."""
    return is_held(found.claim, found.beat_at)


def fingerprint(path: Path) -> bytes:
    """By what a file is known again: its size, beginning and end. raises: OSError."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.blake2b(str(size).encode() + b"\n" + file.read(_END_BYTES), digest_size=16)
        file.seek(max(0, size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return digest.digest()


def _read(row: ImportJob) -> Import:
    given = row.given
    return Import(
        id=row.id,
        name=row.name,
        kind=Kind(
            format=Format(row.kind),
            encoding=given.get("encoding", "utf-8"),
            names_files=bool(given.get("names_files")),
        ),
        given=Given(
            computer=given.get("computer", ""),
            event_type=given.get("event_type", ""),
            at=int(given.get("at", 0)),
            env=given.get("env", {}),
        ),
        is_upload=row.is_upload,
        state=row.state,
        claim=row.claim,
        position=row.position,
        size_bytes=row.size_bytes,
        read_bytes=row.read_bytes,
        events=row.events,
        added=row.added,
        known=row.known,
        hosts_made=row.hosts_made,
        left_out=dict(sorted(row.left_out.items(), key=lambda item: -item[1])),
        problems=tuple((place, message) for place, message in row.problems),
        fault=row.fault,
        took_ms=row.took_ms,
        created_at=row.created_at,
        created_by=row.created_by,
        beat_at=row.beat_at,
        ended_at=row.ended_at,
    )
