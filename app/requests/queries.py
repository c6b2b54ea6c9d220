"""Reading requests for access: all groups for whoever answers them, and the answer for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.requests.record import OPEN
from app.requests.tables import AccessGroup, AccessRequest

SHOWN_GROUPS = 100
SHOWN_PER_GROUP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one asker wrote."""

    asked_at: datetime
    workflow: str | None
    contact: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The requests for one pattern under one engine. `asked`: the newest of them."""

    id: int
    engine: str
    pattern: str
    state: str
    note: str
    requests: int
    requests_since: int
    first_at: datetime
    last_at: datetime
    answered_at: datetime | None
    answered_by: str | None
    asked: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """How many groups of requests there are; those that are open, and the requests in these."""

    groups: int
    open_groups: int
    open_requests: int


def list_groups(session: Session, *, skip: int = 0, limit: int = SHOWN_GROUPS) -> tuple[Group, ...]:
    """Open groups first, the most asked for on top, after the first `skip`; each with its newest requests."""
    rows = session.scalars(
        select(AccessGroup)
        .order_by(case((AccessGroup.state == OPEN, 0), else_=1), AccessGroup.requests.desc(), AccessGroup.id)
        .offset(skip)
        .limit(limit)
    ).all()
    newest_first = func.row_number().over(partition_by=AccessRequest.group_id, order_by=AccessRequest.asked_at.desc())
    ranked = (
        select(AccessRequest, newest_first.label("place"))
        .where(AccessRequest.group_id.in_([row.id for row in rows]))
        .subquery()
    )
    asked: dict[int, list[Asked]] = {}
    for one in session.execute(
        select(ranked).where(ranked.c.place <= SHOWN_PER_GROUP).order_by(ranked.c.group_id, ranked.c.place)
    ):
        asked.setdefault(one.group_id, []).append(
            Asked(asked_at=one.asked_at, workflow=one.workflow, contact=one.contact, message=one.message)
        )
    return tuple(_group(row, tuple(asked.get(row.id, ()))) for row in rows)


def count_groups(session: Session) -> RequestCounts:
    """How many groups there are, and how much waits for an answer."""
    is_open = AccessGroup.state == OPEN
    total, opened, asked = session.execute(
        select(func.count(), func.count().filter(is_open), func.sum(AccessGroup.requests).filter(is_open))
    ).one()
    return RequestCounts(groups=total, open_groups=opened, open_requests=int(asked or 0))


def find_groups(session: Session, engine: str, patterns: Sequence[str]) -> dict[str, Group]:
    """What was asked and answered for these patterns under an engine: pattern -> group, without who asked."""
    rows = session.scalars(
        select(AccessGroup).where(AccessGroup.engine == engine, AccessGroup.pattern.in_(list(patterns)))
    ).all()
    return {row.pattern: _group(row, ()) for row in rows}


def _group(row: AccessGroup, asked: tuple[Asked, ...]) -> Group:
    return Group(
        id=row.id,
        engine=row.engine,
        pattern=row.pattern,
        state=row.state,
        note=row.note,
        requests=row.requests,
        requests_since=row.requests_since,
        first_at=row.first_at,
        last_at=row.last_at,
        answered_at=row.answered_at,
        answered_by=row.answered_by,
        asked=asked,
    )
