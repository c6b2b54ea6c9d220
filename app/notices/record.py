"""Opening, ending and acknowledging notices; each is in the audit log, and each way to tell gets its message once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import ConflictError, InvalidError, NotFoundError
from app.notices.tables import NoticeRead, NoticeRow, NoticeSend

KINDS = ("regression", "rules-gone", "rules-changed", "sharing", "more")
COMES_AGAIN_WITHIN = timedelta(days=1)
"""What ends and comes again so soon is the same notice: it is opened again, and nobody is told twice."""
MOST_A_DAY = 30
"""So many notices a day; beyond them one says how many more there were."""
MAX_NOTE_LETTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Something that got worse. `detail`: groups and what changed, as JSON values."""

    kind: str
    key: str
    title: str
    users: int
    detail: Mapping[str, Any]


def open_notice(session: Session, found: Found, at: datetime, *, ways: Collection[str] = ()) -> NoticeRow | None:
    """A new notice, or the last one of this key opened again; None where too many came today.

    `ways`: by which to tell of it.
    """
    last = session.scalar(
        select(NoticeRow).where(NoticeRow.key == found.key).order_by(NoticeRow.id.desc()).limit(1).with_for_update()
    )
    if last is not None and (last.ended_at is None or last.ended_at > at - COMES_AGAIN_WITHIN):
        if last.ended_at is not None:
            last.ended_at, last.times = None, last.times + 1
            last.acknowledged_at, last.acknowledged_by = None, ""
            record(session, SYSTEM, "notice.opened_again", last.title[:200], notice=last.id, times=last.times)
        last.title, last.detail = found.title[:300], dict(found.detail)
        last.users, last.changed_at = max(last.users, found.users), at
        return last
    today = session.scalar(
        select(func.count()).select_from(NoticeRow).where(NoticeRow.opened_at > at - timedelta(days=1))
    )
    if (today or 0) >= MOST_A_DAY and found.kind != "more":
        return None
    made = NoticeRow(
        kind=found.kind,
        key=found.key,
        title=found.title[:300],
        users=found.users,
        detail=dict(found.detail),
        times=1,
        opened_at=at,
        changed_at=at,
        ended_at=None,
        acknowledged_at=None,
        acknowledged_by="",
        note="",
    )
    session.add(made)
    session.flush()  # what is sent needs the id
    _tell(session, made.id, "opened", at, ways)
    record(session, SYSTEM, "notice.opened", made.title[:200], notice=made.id, kind=made.kind, users=made.users)
    return made


def end_notice(session: Session, row: NoticeRow, at: datetime, *, ways: Collection[str] = ()) -> None:
    """It is over; who was told hears of it, once."""
    row.ended_at = row.changed_at = at
    _tell(session, row.id, "ended", at, ways)
    record(session, SYSTEM, "notice.ended", row.title[:200], notice=row.id)


def acknowledge_notice(session: Session, notice_id: int, *, note: str = "", actor: Actor) -> None:
    """Somebody looks after it. raises: NotFoundError, ConflictError (somebody does already), InvalidError"""
    row = session.get(NoticeRow, notice_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"There is no notice {notice_id}.")
    if row.acknowledged_at is not None:
        raise ConflictError(f"{row.acknowledged_by} looks after this already.")
    text = note.strip()
    if len(text) > MAX_NOTE_LETTERS or not text.replace("\r\n", " ").isprintable():
        raise InvalidError(f"A note has at most {MAX_NOTE_LETTERS:,} printable letters.", field="note")
    row.acknowledged_at, row.acknowledged_by, row.note = from_ms(to_ms(now())), actor.name[:254], text
    record(session, actor, "notice.acknowledged", row.title[:200], notice=row.id, note=text[:200])


def mark_read(session: Session, account_id: int) -> None:
    """Somebody has read all notices up to now."""
    session.merge(NoticeRead(account_id=account_id, read_at=from_ms(to_ms(now()))))


def _tell(session: Session, notice_id: int, event: str, at: datetime, ways: Collection[str]) -> None:
    known = set(
        session.scalars(
            select(NoticeSend.way).where(NoticeSend.notice_id == notice_id, NoticeSend.event == event)
        ).all()
    )
    for way in sorted(set(ways) - known):
        session.add(
            NoticeSend(
                notice_id=notice_id,
                way=way,
                event=event,
                tries=0,
                next_at=at,
                sent_at=None,
                given_up=False,
                problem="",
            )
        )
