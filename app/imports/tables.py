"""The table of imports: what was read of a file, how far it came, and what became of its events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class ImportJob(Base):
    """One file. `state`: `waiting`, `running`, `done`, `failed`, `cancelled`; `given`: what a person said of it.

    `position` is where reading goes on, as the file's kind counts; it, the counts and the sightings of a stretch are
    written in one transaction, so that a reading that was cut off goes on without losing or doubling anything.
    """

    __tablename__ = "import_job"
    __table_args__ = (Index(None, "state"), Index(None, "fingerprint"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    fingerprint: Mapped[bytes]
    kind: Mapped[str] = mapped_column(String(20))
    given: Mapped[dict[str, Any]] = mapped_column(JSON)
    is_upload: Mapped[bool]
    """Sent by a browser: the file lies in the data directory, and is removed at the end."""
    state: Mapped[str] = mapped_column(String(12))
    claim: Mapped[str] = mapped_column(String(120))
    """Who reads it: machine, process, and a word by which they know that it is still theirs."""
    position: Mapped[dict[str, int]] = mapped_column(JSON)
    read_bytes: Mapped[int] = mapped_column(BigInteger)
    events: Mapped[int] = mapped_column(BigInteger)
    added: Mapped[int] = mapped_column(BigInteger)
    known: Mapped[int] = mapped_column(BigInteger)
    """Events of uv's that were there already."""
    hosts_made: Mapped[int] = mapped_column(Integer)
    left_out: Mapped[dict[str, int]] = mapped_column(JSON)
    problems: Mapped[list[list[str]]] = mapped_column(JSON)
    fault: Mapped[str] = mapped_column(Text)
    """Why it failed."""
    took_ms: Mapped[int] = mapped_column(BigInteger)
    """How long was read, over all attempts."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(254))
    beat_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
