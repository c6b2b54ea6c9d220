"""What runs by the clock: when each piece of work runs next, and how its last run ended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class JobRow(Base):
    """One piece of work. Whoever moves `next_at` on has taken the run: with several processes one of them does it."""

    __tablename__ = "job"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    next_at: Mapped[datetime]
    began_at: Mapped[datetime | None]
    """Of the run that goes on, or of the last one."""
    ended_at: Mapped[datetime | None]
    """None while a run goes on, and if its process ended before it did."""
    took_ms: Mapped[int | None] = mapped_column(Integer)
    """Of the last run that ended."""
    said: Mapped[str] = mapped_column(Text)
    """What the last run did, in words."""
    failed: Mapped[bool]
