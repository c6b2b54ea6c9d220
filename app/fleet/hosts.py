"""What administrators do to hosts: revoke, approve, mark as shared, put into another group. Each is audited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import ConflictError, InvalidError, NotFoundError
from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.buckets import are_in, bucket_of, parts_of
from app.fleet.moves import count_move
from app.fleet.rows import DeltaRow
from app.fleet.standing import HostState, Standing
from app.fleet.sweep import set_standing
from app.fleet.tables import Host, HostGroup, Pulse, Subject

MOST_NAMES = 10_000
MOST_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedHosts:
    """Hosts that somebody named: those that are there, and the names of which there is none."""

    ids: tuple[int, ...]
    found: tuple[str, ...]
    unknown: tuple[str, ...]


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


def mark_shared(session: Session, host_id: int, *, shared: bool, actor: Actor) -> None:
    """Says whether many users share a host at once (remote desktops), so that it may bring more of them in a day.

    raises: NotFoundError; ConflictError if it is marked so already.
    """
    host = get_host(session, host_id)
    if host.multi_session == shared:
        raise ConflictError(f"This host is marked as {'shared' if shared else 'not shared'} already.", field="host")
    host.multi_session = shared
    record(session, actor, "host.shared" if shared else "host.unshared", host.name)


def move_host(session: Session, host_id: int, group_id: int, *, actor: Actor) -> None:
    """Puts a host into another group, with its users' counts.

    raises: NotFoundError for the host or the group.
    """
    host = get_host(session, host_id)
    group = _move(session, [host_id], group_id)
    record(session, actor, "host.moved", host.name, group=group.name)


def move_hosts(session: Session, names: NamedHosts, group_id: int, *, actor: Actor) -> int:
    """Puts hosts into another group, with their users' counts; how many. raises: NotFoundError for the group."""
    group = _move(session, names.ids, group_id)
    record(session, actor, "hosts.moved", group.name, hosts=len(names.ids), first=names.found[:MOST_TOLD])
    return len(names.ids)


def find_named_hosts(session: Session, names: Iterable[str]) -> NamedHosts:
    """The hosts of names, however they are written. Several hosts of one name are all meant.

    raises: InvalidError for none, or for more than MOST_NAMES.
    """
    wanted = list(dict.fromkeys(name.strip().casefold() for name in names if name.strip()))
    if not wanted:
        raise InvalidError("Name at least one host.", field="names")
    if len(wanted) > MOST_NAMES:
        raise InvalidError(f"Name at most {MOST_NAMES} hosts at once.", field="names")
    rows = [
        row
        for start in range(0, len(wanted), 500)
        for row in session.execute(
            select(Host.id, Host.name).where(func.lower(Host.name).in_(wanted[start : start + 500])).order_by(Host.id)
        )
    ]
    known = {name.casefold() for _host_id, name in rows}
    return NamedHosts(
        ids=tuple(host_id for host_id, _name in rows),
        found=tuple(name for _host_id, name in rows),
        unknown=tuple(name for name in wanted if name not in known),
    )


def _move(session: Session, host_ids: Sequence[int], group_id: int) -> HostGroup:
    group = session.get(HostGroup, group_id)
    if group is None:
        raise NotFoundError("There is no such group.", field="group")
    connection = session.connection()
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    deltas: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    # All pulses first, in the order in which report writers lock them.
    ids = lock_subjects(session, *host_ids)
    for start in range(0, len(host_ids), 500):
        session.execute(update(Host).where(Host.id.in_(host_ids[start : start + 500])).values(group_id=group_id))
    cursor = connection.connection.cursor()
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        for old in rows.find_pointers(cursor, some):
            count_move(old, old._replace(group_id=group_id), deltas)
        connection.execute(update(Subject).where(Subject.id.in_(some)).values(group_id=group_id))
    changed = [DeltaRow(*key, by) for key, by in sorted(deltas.items()) if by]
    if changed:
        rows.insert_deltas(cursor, changed)
    return group


def get_host(session: Session, host_id: int) -> Host:
    """The host of an id. raises: NotFoundError."""
    host = session.get(Host, host_id)
    if host is None:
        raise NotFoundError("There is no such host.", field="host")
    return host


def lock_subjects(session: Session, *host_ids: int) -> list[int]:
    """The ids of hosts' users, their pulses locked in this order, as report writers lock them."""
    ids = sorted(
        subject_id
        for start in range(0, len(host_ids), 500)
        for subject_id in session.scalars(select(Subject.id).where(Subject.host_id.in_(host_ids[start : start + 500])))
    )
    locked: list[int] = []
    mine = {bucket_of(host_id) for host_id in host_ids}
    for bucket in parts_of(session.connection()):
        if bucket is None or bucket in mine:
            for start in range(0, len(ids), 500):
                query = select(Pulse.subject_id).where(
                    *are_in(bucket, Pulse), Pulse.subject_id.in_(ids[start : start + 500])
                )
                locked += session.scalars(query.order_by(Pulse.subject_id).with_for_update(of=Pulse))
    return sorted(locked)
