"""The tables of requests for access: what is asked for, grouped by what is blocked, and who asked, for a while."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class AccessGroup(Base):
    """All requests for one pattern under one engine, answered once. `pattern` is empty for files that are not uv's.

    `requests` counts askers; `requests_since` those of them who asked after the answer.
    """

    __tablename__ = "access_group"
    __table_args__ = (UniqueConstraint("engine", "pattern"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    engine: Mapped[str] = mapped_column(String(24))
    pattern: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(12))
    note: Mapped[str] = mapped_column(String(1000))
    requests: Mapped[int]
    requests_since: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[str | None] = mapped_column(String(254))


class AccessRequest(Base):
    """One asker of a group. `asker`: a keyed hash of address and contact, so that asking twice counts once."""

    __tablename__ = "access_request"
    __table_args__ = (UniqueConstraint("group_id", "asker"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("access_group.id", ondelete="CASCADE"))
    asker: Mapped[bytes]
    asked_at: Mapped[datetime] = mapped_column(index=True)
    workflow: Mapped[str | None] = mapped_column(String(60))
    contact: Mapped[str] = mapped_column(String(200))
    message: Mapped[str] = mapped_column(String(500))
