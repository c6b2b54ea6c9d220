"""Who writes to a table is waited for; who reads it, writes elsewhere, or came later is not."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, record
from app.audit.tables import AuditEntry
from app.db import writers
from app.db.base import now
from app.db.tables import Setting
from app.db.writers import have_writers_ended


def test_nobody_writes(database: Engine) -> None:
    with database.connect() as connection:
        assert have_writers_ended(connection, "audit_entry")


@pytest.mark.postgresql
def test_only_writers_of_the_table_are_waited_for(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if database.name != "postgresql":
        return  # there whoever writes holds up all others
    monkeypatch.setattr(writers, "WAITS_S", 0.1)
    with database.connect() as connection, Session(database) as other:
        other.execute(insert(Setting).values(name="a", value="b", updated_at=now()))
        assert other.scalars(select(AuditEntry)).all() == []
        assert have_writers_ended(connection, "audit_entry")
        assert not have_writers_ended(connection, "setting")
        record(other, SYSTEM, "host.moved")
        other.flush()
        assert not have_writers_ended(connection, "audit_entry")
        other.rollback()
        assert have_writers_ended(connection, "audit_entry")
