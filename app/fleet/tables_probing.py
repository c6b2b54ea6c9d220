"""Where administrators have stopped probing: for all hosts, or for those of a group."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class ProbingStop(Base):
    """One stop, as long as it lasts. `group_id` None: of all hosts."""

    __tablename__ = "probing_stop"

    id: Mapped[int] = mapped_column(primary_key=True)
    group_id: Mapped[int | None] = mapped_column(ForeignKey("host_group.id"), unique=True)
    reason: Mapped[str] = mapped_column(String(400), default="")
    stopped_at: Mapped[datetime]
    stopped_by: Mapped[str] = mapped_column(String(254))
