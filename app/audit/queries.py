"""Reading the audit log for its page, newest first, by keyset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.audit.tables import AuditEntry
from app.db.paging import cut_page, newest_first


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the log."""

    id: int
    at: datetime
    actor: str
    actor_kind: str
    address: str | None
    action: str
    target: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Some entries, and the id to ask the next, older ones before (None at the end)."""

    entries: tuple[Entry, ...]
    next_before: int | None


def list_entries(session: Session, *, search: str = "", before: int | None = None, limit: int = 50) -> EntryPage:
    """Entries whose actor, action or target contains `search`, older than entry `before`."""
    statement = newest_first(select(AuditEntry), AuditEntry.id, before=before, rows=limit)
    if search:
        statement = statement.where(
            or_(
                AuditEntry.actor.icontains(search, autoescape=True),
                AuditEntry.action.icontains(search, autoescape=True),
                AuditEntry.target.icontains(search, autoescape=True),
            )
        )
    rows, last = cut_page(session.scalars(statement).all(), limit)
    entries = tuple(
        Entry(
            id=row.id,
            at=row.at,
            actor=row.actor,
            actor_kind=row.actor_kind,
            address=row.address,
            action=row.action,
            target=row.target,
            detail=row.detail,
        )
        for row in rows
    )
    return EntryPage(entries=entries, next_before=last.id if last is not None else None)
