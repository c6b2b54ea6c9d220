"""What administrators do to hosts: revoke, approve, put into another group. Each is in the audit log."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import ConflictError, NotFoundError
from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.record import count_move
from app.fleet.rows import DeltaRow
from app.fleet.standing import HostState, Standing
from app.fleet.sweep import set_standing
from app.fleet.tables import Host, HostGroup, Pulse, Subject


def revoke_host(session: Session, host_id: int, *, actor: Actor) -> None:
    """Its token is worthless at once, and its users leave the counts.

    raises: NotFoundError.
    """
    host = get_host(session, host_id)
    ids = lock_subjects(session, host_id)
    session.execute(update(Host).where(Host.id == host_id).values(state=HostState.REVOKED.value))
    if ids:
        set_standing(session.connection(), ids, Standing.REVOKED, now())
    record(session, actor, "host.revoked", host.name)


def approve_host(session: Session, host_id: int, *, actor: Actor) -> None:
    """It leaves quarantine; its users are counted from their next report on.

    raises: NotFoundError; ConflictError for a host that is not in quarantine, as one that was revoked.
    """
    host = get_host(session, host_id)
    if host.state != HostState.QUARANTINED:
        raise ConflictError("This host is not in quarantine.", field="host")
    ids = lock_subjects(session, host_id)
    session.execute(update(Host).where(Host.id == host_id).values(state=HostState.ACTIVE.value))
    session.execute(update(Pulse).where(Pulse.subject_id.in_(ids)).values(said=b""))
    record(session, actor, "host.approved", host.name)


def move_host(session: Session, host_id: int, group_id: int, *, actor: Actor) -> None:
    """Puts a host into another group, with its users' counts.

    raises: NotFoundError for the host or the group.
    """
    host = get_host(session, host_id)
    group = session.get(HostGroup, group_id)
    if group is None:
        raise NotFoundError("There is no such group.", field="group")
    ids = lock_subjects(session, host_id)
    session.execute(update(Host).where(Host.id == host_id).values(group_id=group_id))
    connection = session.connection()
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    deltas: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    for old in rows.find_pointers(cursor, ids):
        count_move(old, old._replace(group_id=group_id), deltas)
    if deltas:
        connection.execute(update(Subject).where(Subject.id.in_(ids)).values(group_id=group_id))
        rows.insert_deltas(cursor, [DeltaRow(*key, by) for key, by in sorted(deltas.items()) if by])
    record(session, actor, "host.moved", host.name, group=group.name)


def get_host(session: Session, host_id: int) -> Host:
    """The host of an id. raises: NotFoundError."""
    host = session.get(Host, host_id)
    if host is None:
        raise NotFoundError("There is no such host.", field="host")
    return host


def lock_subjects(session: Session, host_id: int) -> list[int]:
    """The ids of a host's users, their pulses locked in this order, as report writers lock them."""
    query = (
        select(Pulse.subject_id)
        .join(Subject, Subject.id == Pulse.subject_id)
        .where(Subject.host_id == host_id)
        .order_by(Pulse.subject_id)
        .with_for_update(of=Pulse)
    )
    return list(session.scalars(query))
