"""Small named facts about this installation, such as where its fleet comes from."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db.base import Base, now

FLEET_ORIGIN = "fleet_origin"
"""Set when the fleet was made by `wayleave fleet make`: every page says so."""


class Setting(Base):
    """One named value."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]


def find_setting(session: Session, name: str) -> str | None:
    """The value of a name, or None."""
    row = session.get(Setting, name)
    return None if row is None else row.value


def put_setting(session: Session, name: str, value: str) -> None:
    """Set a name's value."""
    session.merge(Setting(name=name, value=value, updated_at=now()))
