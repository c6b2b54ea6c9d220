"""The table of work that people asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BIG_ID, Base


class WorkRow(Base):
    """One piece of work. `state`: `waiting`, `running`, `done`, `failed`, `cancelled`, `interrupted`.

    `kind` and `key` say what is worked out; while it is under way, `under_way` holds both: so the database sees to it
    that the same is not worked out twice at a time, by however many processes. `page`: where its result is shown.
    """

    __tablename__ = "work"
    __table_args__ = (Index(None, "kind", "key", "id"), Index(None, "ended_at"))

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(String(100))
    under_way: Mapped[str | None] = mapped_column(String(130), unique=True)
    title: Mapped[str] = mapped_column(String(300))
    page: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(12))
    claim: Mapped[str] = mapped_column(String(120))
    """Who does it; empty once it ended."""
    beat_at: Mapped[datetime]
    """When its process last said that it is there."""
    doing: Mapped[str] = mapped_column(String(100))
    done: Mapped[int] = mapped_column(Integer)
    total: Mapped[int] = mapped_column(Integer)
    """Of what `doing` names; 0 where nobody can tell."""
    asked_at: Mapped[datetime]
    asked_by: Mapped[str] = mapped_column(String(254))
    ended_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    problem: Mapped[str | None] = mapped_column(String(1000))
