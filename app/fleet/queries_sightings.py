"""What pages show of sightings: the files that hosts really tried to run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPath:
    """One path among the newest sightings of a pattern: on how many hosts, how often, by which event."""

    path: str
    event_id: int
    times: int
    hosts: int
    last_at: datetime


def summarise_sightings(session: Session, pattern: str, *, newest: int = 1000, limit: int = 10) -> tuple[SeenPath, ...]:
    """The paths among the newest sightings of a pattern, the latest first."""
    recent = (
        select(Sighting.path, Sighting.event_id, Sighting.host_id, Sighting.at)
        .where(Sighting.pattern == pattern)
        .order_by(Sighting.at.desc())
        .limit(newest)
        .subquery()
    )
    last_at = func.max(recent.c.at, type_=recent.c.at.type)
    rows = session.execute(
        select(recent.c.path, recent.c.event_id, func.count(), func.count(recent.c.host_id.distinct()), last_at)
        .group_by(recent.c.path, recent.c.event_id)
        .order_by(last_at.desc())
        .limit(limit)
    )
    return tuple(
        SeenPath(path=path, event_id=event_id, times=times, hosts=hosts, last_at=at)
        for path, event_id, times, hosts, at in rows
    )


def list_sightings(session: Session, host_id: int, *, limit: int = 25) -> tuple[SeenFile, ...]:
    """The newest files that were tried on a host."""
    statement = select(Sighting).where(Sighting.host_id == host_id).order_by(Sighting.at.desc()).limit(limit)
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
