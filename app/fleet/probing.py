"""The kill switch: an administrator stops probing for all hosts or a group, and agents obey with their next report.

Stops are few and change seldom, so report writers hold them in memory and look again every few seconds: the path of a
report costs nothing more for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import ConflictError, InvalidError, NotFoundError
from app.fleet.tables import HostGroup
from app.fleet.tables_probing import ProbingStop

EVERY_HOST = 0
"""Stands for all groups among the groups that are stopped."""

MAX_REASON = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One stop in force. `group_id`, `group`: None for all hosts."""

    group_id: int | None
    group: str | None
    reason: str
    stopped_at: datetime
    stopped_by: str


def stop_probing(session: Session, group_id: int | None, *, reason: str, actor: Actor) -> None:
    """From their next report on, the agents of a group (None: all) place and start nothing.

    raises: NotFoundError for the group, ConflictError if it is stopped already, InvalidError for the reason.
    """
    reason = reason.strip()
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise InvalidError(f"Give the reason in one line of at most {MAX_REASON} letters.", field="reason")
    name = _name_of(session, group_id)
    if _find(session, group_id) is not None:
        raise ConflictError(f"Probing is stopped already for {name or 'all hosts'}.", field="group")
    session.add(ProbingStop(group_id=group_id, reason=reason, stopped_at=now(), stopped_by=actor.name[:254]))
    record(session, actor, "probing.stopped", name or "all hosts", reason=reason)


def resume_probing(session: Session, group_id: int | None, *, actor: Actor) -> None:
    """Lift a stop. A group is probed again only if the stop of all hosts, if there is one, is lifted too.

    raises: NotFoundError for the group, or if it was not stopped.
    """
    name = _name_of(session, group_id)
    found = _find(session, group_id)
    if found is None:
        raise NotFoundError(f"Probing is not stopped for {name or 'all hosts'}.", field="group")
    session.delete(found)
    record(session, actor, "probing.resumed", name or "all hosts")


def list_stops(session: Session) -> tuple[Stop, ...]:
    """The stops in force, that of all hosts first."""
    rows = session.execute(
        select(ProbingStop, HostGroup.name).outerjoin(HostGroup, HostGroup.id == ProbingStop.group_id)
    )
    stops = [
        Stop(
            group_id=row.group_id,
            group=name,
            reason=row.reason,
            stopped_at=row.stopped_at,
            stopped_by=row.stopped_by,
        )
        for row, name in rows
    ]
    return tuple(sorted(stops, key=lambda stop: (stop.group is not None, stop.group or "")))


def read_stopped(connection: Connection) -> frozenset[int]:
    """The ids of the groups that are stopped, EVERY_HOST among them if all are."""
    return frozenset(
        EVERY_HOST if group_id is None else group_id for group_id in connection.scalars(select(ProbingStop.group_id))
    )


def _find(session: Session, group_id: int | None) -> ProbingStop | None:
    return session.scalar(select(ProbingStop).where(ProbingStop.group_id.is_not_distinct_from(group_id)))


def _name_of(session: Session, group_id: int | None) -> str | None:
    """The group's name; None for all hosts. raises: NotFoundError"""
    if group_id is None:
        return None
    group = session.get(HostGroup, group_id)
    if group is None:
        raise NotFoundError("There is no such group.", field="group")
    return group.name
