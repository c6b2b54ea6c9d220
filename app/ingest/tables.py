"""The secrets with which agents enrol: limited in time, number and network, and naming the group of the new hosts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import BIG_ID, BYTES, Base


class EnrolmentSecret(Base):
    """One secret, kept as its hash. `uses_left` None: any number; `network`: CIDR from which it works, None: any."""

    __tablename__ = "enrolment_secret"

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(BYTES)
    group_id: Mapped[int] = mapped_column(ForeignKey("host_group.id"))
    uses_left: Mapped[int | None] = mapped_column(Integer)
    expires_at: Mapped[datetime | None]
    network: Mapped[str | None] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(String(200), default="")
    trial: Mapped[bool] = mapped_column(default=False, server_default=false())
    """For agents that users run themselves: what their hosts report is never attested."""
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
