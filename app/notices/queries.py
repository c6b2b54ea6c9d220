"""Reading notices for their page, the newest first, and how many somebody has not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.db.paging import cut_page, newest_first
from app.errors import InvalidError, NotFoundError
from app.notices.record import KINDS
from app.notices.tables import NoticeRead, NoticeRow, NoticeSend

PAGE_ROWS = 25
STATES = ("open", "acknowledged", "over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How one message about a notice fared."""

    way: str
    event: str
    tries: int
    sent_at: datetime | None
    next_at: datetime
    given_up: bool
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice. `state`: open, acknowledged (somebody looks after it) or over."""

    id: int
    kind: str
    key: str
    title: str
    users: int
    state: str
    times: int
    opened_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str
    note: str
    detail: Mapping[str, Any]
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePage:
    """Notices of one page, how many there are of each state, and the id that the next page begins below."""

    notices: tuple[Notice, ...]
    next_before: int | None
    states: Mapping[str, int]


def page_notices(
    session: Session, *, state: str = "", kind: str = "", before: int | None = None, rows: int = PAGE_ROWS
) -> NoticePage:
    """Notices of a state and a kind, the newest first. raises: InvalidError for those that there are not"""
    if state and state not in STATES:
        raise InvalidError(f"Choose one of {', '.join(STATES)}.", field="state")
    if kind and kind not in KINDS:
        raise InvalidError(f"Choose one of {', '.join(KINDS)}.", field="kind")
    fits = [NoticeRow.kind == kind] if kind else []
    states = {
        name: session.scalar(select(func.count()).select_from(NoticeRow).where(_is(name), *fits)) or 0
        for name in STATES
    }
    query = select(NoticeRow).where(*fits)
    if state:
        query = query.where(_is(state))
    newest = newest_first(query, NoticeRow.id, before=before, rows=rows)
    found, last = cut_page(session.scalars(newest).all(), rows)
    return NoticePage(
        notices=tuple(_notice(row) for row in found),
        next_before=last.id if last is not None else None,
        states=states,
    )


def get_notice(session: Session, notice_id: int) -> Notice:
    """One notice, and how its messages fared. raises: NotFoundError"""
    row = session.get(NoticeRow, notice_id)
    if row is None:
        raise NotFoundError(f"There is no notice {notice_id}.")
    sent = session.scalars(
        select(NoticeSend).where(NoticeSend.notice_id == notice_id).order_by(NoticeSend.event.desc(), NoticeSend.way)
    )
    return _notice(
        row,
        tuple(
            Sent(
                way=one.way,
                event=one.event,
                tries=one.tries,
                sent_at=one.sent_at,
                next_at=one.next_at,
                given_up=one.given_up,
                problem=one.problem,
            )
            for one in sent
        ),
    )


def count_unread(session: Session, account_id: int) -> int:
    """Notices that are not over, opened since somebody read them last."""
    read_at = session.scalar(select(NoticeRead.read_at).where(NoticeRead.account_id == account_id))
    query = select(func.count()).select_from(NoticeRow).where(NoticeRow.ended_at.is_(None))
    if read_at is not None:
        query = query.where(NoticeRow.opened_at > read_at)
    return session.scalar(query) or 0


def _is(state: str) -> ColumnElement[bool]:
    if state == "over":
        return NoticeRow.ended_at.is_not(None)
    acknowledged = NoticeRow.acknowledged_at.is_not(None)
    return NoticeRow.ended_at.is_(None) & (acknowledged if state == "acknowledged" else ~acknowledged)


def _notice(row: NoticeRow, sent: tuple[Sent, ...] = ()) -> Notice:
    state = "over" if row.ended_at else "acknowledged" if row.acknowledged_at else "open"
    return Notice(
        id=row.id,
        kind=row.kind,
        key=row.key,
        title=row.title,
        users=row.users,
        state=state,
        times=row.times,
        opened_at=row.opened_at,
        changed_at=row.changed_at,
        ended_at=row.ended_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        note=row.note,
        detail=row.detail,
        sent=sent,
    )
