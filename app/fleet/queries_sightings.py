"""What pages show of sightings: the files that hosts really tried to run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.fleet.tables import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file that was really tried. `path` is templated: no user and no project is named in it."""

    at: datetime
    host_id: int
    event_id: int
    pattern: str
    path: str
    collection: str | None
    rule_id: str | None
    sha256: str | None
    fqbn: str | None


def list_sightings(
    session: Session, *, pattern: str | None = None, host_id: int | None = None, limit: int = 25
) -> tuple[SeenFile, ...]:
    """The newest files that were tried at a pattern, or on a host."""
    statement = select(Sighting).order_by(Sighting.at.desc()).limit(limit)
    if pattern is not None:
        statement = statement.where(Sighting.pattern == pattern)
    if host_id is not None:
        statement = statement.where(Sighting.host_id == host_id)
    return tuple(
        SeenFile(
            at=row.at,
            host_id=row.host_id,
            event_id=row.event_id,
            pattern=row.pattern,
            path=row.path,
            collection=row.collection,
            rule_id=row.rule_id,
            sha256=row.sha256,
            fqbn=row.fqbn,
        )
        for row in session.scalars(statement)
    )
