"""Work as rows: asked for once at a time, moved on, ended, cancelled, found again, forgotten after a week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, defer

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import ConflictError, NotFoundError
from app.work.claims import is_held, make_claim
from app.work.tables import WorkRow

WAITING, RUNNING, DONE, FAILED, CANCELLED, INTERRUPTED = (
    "waiting",
    "running",
    "done",
    "failed",
    "cancelled",
    "interrupted",
)
UNDER_WAY = (WAITING, RUNNING)
KEPT_FOR = timedelta(days=7)
CUT_OFF = "The server was stopped or restarted meanwhile."


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work as it stands. `result`: where it is asked for; `doing`, `done`, `total`: how far."""

    id: int
    kind: str
    key: str
    title: str
    page: str
    state: str
    doing: str
    done: int
    total: int
    asked_at: datetime
    asked_by: str
    ended_at: datetime | None
    problem: str | None
    result: dict[str, Any] | None = None

    @property
    def is_under_way(self) -> bool:
        return self.state in UNDER_WAY

    @property
    def per_cent(self) -> int | None:
        """How much of it is done; None where nobody can tell."""
        return min(100, 100 * self.done // self.total) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What asking gave: the work, and the claim of whoever has to do it (None: it is under way already)."""

    work: Work
    claim: str | None


def ask_for_work(session: Session, *, kind: str, key: str, title: str, page: str, actor: Actor) -> Asked:
    """Note that something is to be worked out, by this process, unless it is being worked out already."""
    at = now()
    session.execute(delete(WorkRow).where(WorkRow.ended_at < at - KEPT_FOR))
    claim = make_claim()
    for _ in range(3):
        found = session.scalar(select(WorkRow).where(WorkRow.under_way == f"{kind}:{key}"))
        if found is not None and is_held(found.claim, found.beat_at):
            return Asked(work=_read(found), claim=None)
        if found is not None:
            _end(session, found.id, found.claim, INTERRUPTED, problem=CUT_OFF)
        row = WorkRow(
            kind=kind,
            key=key,
            under_way=f"{kind}:{key}",
            title=title[:300],
            page=page[:500],
            state=WAITING,
            claim=claim,
            beat_at=at,
            doing="",
            done=0,
            total=0,
            asked_at=at,
            asked_by=actor.name[:254],
        )
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:  # somebody else asked for the same at the same time
            continue
        return Asked(work=_read(row), claim=claim)
    raise ConflictError("Others ask for the same at this moment. Try again.")


def begin_work(session: Session, work_id: int, claim: str) -> bool:
    """Whether the work is still to be done by whoever has this claim."""
    return _change(session, work_id, claim, state=RUNNING, beat_at=now())


def move_on(session: Session, work_id: int, claim: str, *, doing: str, done: int, total: int) -> bool:
    """Note how far it is; False when it was cancelled."""
    return _change(session, work_id, claim, doing=doing[:100], done=done, total=total, beat_at=now())


def beat(session: Session, claims: list[str]) -> frozenset[str]:
    """Say that these claims are alive. Returns those that still have work under way: the others were cancelled."""
    session.execute(
        update(WorkRow)
        .where(WorkRow.claim.in_(claims), WorkRow.state.in_(UNDER_WAY))
        .values(beat_at=now())
        .execution_options(synchronize_session=False)
    )
    return frozenset(
        session.scalars(select(WorkRow.claim).where(WorkRow.claim.in_(claims), WorkRow.state.in_(UNDER_WAY)))
    )


def end_work(session: Session, work_id: int, claim: str, state: str, *, problem: str | None = None) -> bool:
    """End it, in the transaction that keeps what came of it; False when it was cancelled meanwhile."""
    return _end(session, work_id, claim, state, problem=problem)


def keep_result(session: Session, work_id: int, result: dict[str, Any]) -> None:
    """Keep what work gave."""
    session.execute(
        update(WorkRow).where(WorkRow.id == work_id).values(result=result).execution_options(synchronize_session=False)
    )


def cancel_work(session: Session, work_id: int, *, actor: Actor) -> None:
    """End work before its time. Whoever does it notices within a second or two.

    raises: NotFoundError; ConflictError for what is over.
    """
    row = session.get(WorkRow, work_id, with_for_update=True)
    if row is None:
        raise NotFoundError("There is no such work: it may have ended over a week ago.", field="work")
    if row.state not in UNDER_WAY or not is_held(row.claim, row.beat_at):
        raise ConflictError("This work is over already.", field="work")
    _end(session, row.id, row.claim, CANCELLED, problem=f"Cancelled by {actor.name}.")
    record(session, actor, "work.cancelled", row.title, work=row.id, kind=row.kind)


def find_work(session: Session, kind: str, key: str, *, state: str | None = None) -> Work | None:
    """The newest work of a kind about something, of those in a state if one is given, with its result."""
    query = select(WorkRow).where(WorkRow.kind == kind, WorkRow.key == key).order_by(WorkRow.id.desc()).limit(1)
    row = session.scalar(query if state is None else query.where(WorkRow.state == state))
    return None if row is None else _read(row, with_result=True)


def find_fresh_work(session: Session, kind: str, key: str, *, within: timedelta) -> Work | None:
    """The newest work of a kind about something; None if there is none, or its answer is older than `within`."""
    found = find_work(session, kind, key)
    if found is not None and found.state == DONE and (found.ended_at is None or now() - found.ended_at > within):
        return None
    return found


def get_work(session: Session, work_id: int) -> Work:
    """Work by its number, with its result. raises: NotFoundError"""
    row = session.get(WorkRow, work_id)
    if row is None:
        raise NotFoundError("There is no such work: it may have ended over a week ago.", field="work")
    return _read(row, with_result=True)


def list_work(session: Session, *, before: int | None = None, limit: int = 50) -> tuple[Work, ...]:
    """The newest work first, older than `before`, without results."""
    query = select(WorkRow).options(defer(WorkRow.result)).order_by(WorkRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(WorkRow.id < before)
    return tuple(_read(row) for row in session.scalars(query))


def _change(session: Session, work_id: int, claim: str, /, **values: object) -> bool:
    changed = session.execute(
        update(WorkRow).where(*_is_mine(work_id, claim)).values(**values).execution_options(synchronize_session=False)
    )
    return changed.rowcount == 1  # type: ignore[attr-defined, no-any-return]  # an update gives a cursor's result


def _end(session: Session, work_id: int, claim: str, state: str, /, **values: object) -> bool:
    return _change(session, work_id, claim, state=state, claim="", under_way=None, ended_at=now(), **values)


def _is_mine(work_id: int, claim: str) -> tuple[ColumnElement[bool], ...]:
    return WorkRow.id == work_id, WorkRow.claim == claim, WorkRow.state.in_(UNDER_WAY)


def _read(row: WorkRow, *, with_result: bool = False) -> Work:
    lost = row.state in UNDER_WAY and not is_held(row.claim, row.beat_at)
    return Work(
        id=row.id,
        kind=row.kind,
        key=row.key,
        title=row.title,
        page=row.page,
        state=INTERRUPTED if lost else row.state,
        doing=row.doing,
        done=row.done,
        total=row.total,
        asked_at=row.asked_at,
        asked_by=row.asked_by,
        ended_at=row.ended_at,
        problem=CUT_OFF if lost else row.problem,
        result=row.result if with_result else None,
    )
