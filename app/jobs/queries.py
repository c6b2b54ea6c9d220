"""What the page about jobs shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import now
from app.jobs.run import OVERDUE_AFTER
from app.jobs.tables import JobRow
from app.jobs.work import JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One piece of work and its last run. `state`: waiting (never ran), running, done, failed or lost.

    Lost is a run whose process ended before it did.
    """

    name: str
    title: str
    every: timedelta
    state: str
    next_at: datetime | None
    began_at: datetime | None
    took_ms: int | None
    said: str


def list_jobs(session: Session) -> tuple[JobLine, ...]:
    """All work by the clock, in the order in which it is done."""
    rows = {row.name: row for row in session.scalars(select(JobRow))}
    lines = []
    for job in JOBS:
        row = rows.get(job.name)
        lines.append(
            JobLine(
                name=job.name,
                title=job.title,
                every=job.every,
                state="waiting" if row is None else _state(row),
                next_at=row.next_at if row else None,
                began_at=row.began_at if row else None,
                took_ms=row.took_ms if row else None,
                said=row.said if row else "",
            )
        )
    return tuple(lines)


def _state(row: JobRow) -> str:
    if row.began_at is None:
        return "waiting"
    if row.ended_at is None:
        return "lost" if row.began_at < now() - OVERDUE_AFTER else "running"
    return "failed" if row.failed else "done"
