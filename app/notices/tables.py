"""The tables of notices: what was noticed, what is watched to notice it, who was told, who has read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class NoticeRow(Base):
    """One thing that got worse, until it is over. `key`: what it is about; of one key one notice is open at a time.

    `users`: for how many, at its worst; `detail`: groups, what changed, as JSON values; `times`: how often it came.
    """

    __tablename__ = "notice"
    __table_args__ = (Index(None, "key", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(120))
    title: Mapped[str] = mapped_column(String(300))
    users: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    times: Mapped[int] = mapped_column(Integer)
    opened_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str] = mapped_column(String(254))
    note: Mapped[str] = mapped_column(String(1000))


class NoticeSend(Base):
    """One message about a notice, by one way. `event`: opened or ended; `sent_at` None: it waits, or was given up."""

    __tablename__ = "notice_send"
    __table_args__ = (Index(None, "way", "sent_at"),)

    notice_id: Mapped[int] = mapped_column(ForeignKey("notice.id", ondelete="CASCADE"), primary_key=True)
    way: Mapped[str] = mapped_column(String(10), primary_key=True)
    event: Mapped[str] = mapped_column(String(10), primary_key=True)
    tries: Mapped[int] = mapped_column(Integer)
    next_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    given_up: Mapped[bool]
    problem: Mapped[str] = mapped_column(Text)


class NoticeRead(Base):
    """Up to when somebody has read the notices."""

    __tablename__ = "notice_read"

    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", ondelete="CASCADE"), primary_key=True)
    read_at: Mapped[datetime]


class Watched(Base):
    """How good it was: the most users for whom something was open in the time watched, the fewest for whom closed.

    `group_id` 0: the whole fleet; `what`: pattern, workflow or rule.
    """

    __tablename__ = "watched"

    group_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    what: Mapped[str] = mapped_column(String(10), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    since_at: Mapped[datetime]
    most_open: Mapped[int] = mapped_column(BigInteger)
    fewest_closed: Mapped[int] = mapped_column(BigInteger)
