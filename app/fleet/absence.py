"""Counts who is missing: silent subjects, and those of whose reports some never came. Once an hour, by group."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, literal, select

from app.fleet.standing import Standing
from app.fleet.tables import PULSE_OF_SUBJECT, Absence, Pulse, Subject

SILENT = "silent"
GAP = "gap"


def count_absent(connection: Connection, at: datetime) -> None:
    """Counts anew. Commits. Reads the indexes of the silent and of the gaps, not all subjects."""
    columns = ["group_id", "what", "subjects", "counted_at"]
    stamp = literal(at, Absence.counted_at.type)
    with connection.begin():
        connection.execute(delete(Absence))
        connection.execute(
            insert(Absence).from_select(
                columns,
                select(Subject.group_id, literal(SILENT), func.count(), stamp)
                .where(Subject.standing == literal(Standing.SILENT.value, literal_execute=True))
                .group_by(Subject.group_id),
            )
        )
        connection.execute(
            insert(Absence).from_select(
                columns,
                select(Subject.group_id, literal(GAP), func.count(), stamp)
                .join(Pulse, PULSE_OF_SUBJECT)
                .where(
                    Pulse.missed > literal(0, literal_execute=True),
                    Subject.standing.not_in((Standing.SILENT.value, Standing.REVOKED.value)),
                )
                .group_by(Subject.group_id),
            )
        )
