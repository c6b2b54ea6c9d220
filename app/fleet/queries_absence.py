"""What pages show of subjects that are missing: silent ones, and gaps in what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.absence import GAP, SILENT
from app.fleet.tables import Absence


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceCount:
    """How many subjects are missing. `counted_at` is None where nobody is, or nothing was counted yet."""

    silent: int
    with_gaps: int
    counted_at: datetime | None


def read_absence(session: Session, group_id: int | None = None) -> AbsenceCount:
    """Of the fleet or of one group, as of the last hourly count."""
    query = select(
        Absence.what, func.sum(Absence.subjects), func.max(Absence.counted_at, type_=Absence.counted_at.type)
    )
    if group_id is not None:
        query = query.where(Absence.group_id == group_id)
    counts: dict[str, int] = {}
    counted_at = None
    for what, subjects, at in session.execute(query.group_by(Absence.what)):
        counts[what] = int(subjects)
        counted_at = at
    return AbsenceCount(silent=counts.get(SILENT, 0), with_gaps=counts.get(GAP, 0), counted_at=counted_at)
