"""Erasing a host and all that was kept of it and its users. What counts keep names nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.fleet.hosts import get_host, lock_subjects
from app.fleet.standing import Standing
from app.fleet.sweep import set_standing
from app.fleet.tables import Host, Pulse, Sighting, Subject, Transition, Unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """How much was erased."""

    subjects: int
    sightings: int
    transitions: int


def find_hosts(session: Session, name: str) -> tuple[int, ...]:
    """The ids of the hosts of a name, whatever its case; a name may be that of several."""
    wanted = name.casefold()
    query = select(Host.id, Host.name).where(Host.name.in_({name, name.upper(), name.lower()})).order_by(Host.id)
    return tuple(row.id for row in session.execute(query) if row.name.casefold() == wanted)


def forget_host(session: Session, host_id: int, *, actor: Actor) -> Forgotten:
    """Erases a host, its users, their sightings and changes. Its token is worthless at once.

    Shared sets that only its users had go with the next retirement of sets. The audit entry holds the id, no name.

    raises: NotFoundError.
    """
    get_host(session, host_id)
    ids = lock_subjects(session, host_id)
    if ids:
        set_standing(session.connection(), ids, Standing.REVOKED, now())  # out of all counts first
    subjects = select(Subject.id).where(Subject.host_id == host_id)
    forgotten = Forgotten(
        sightings=_count(session.execute(delete(Sighting).where(Sighting.host_id == host_id))),
        transitions=_count(session.execute(delete(Transition).where(Transition.subject_id.in_(subjects)))),
        subjects=len(ids),
    )
    session.execute(delete(Unseen).where(Unseen.subject_id.in_(subjects)))
    session.execute(delete(Pulse).where(Pulse.subject_id.in_(subjects)))
    session.execute(delete(Subject).where(Subject.host_id == host_id))
    session.execute(delete(Host).where(Host.id == host_id))
    record(session, actor, "host.forgotten", str(host_id), sightings=forgotten.sightings)
    return forgotten


def _count(result: object) -> int:
    return cast("CursorResult[Any]", result).rowcount
