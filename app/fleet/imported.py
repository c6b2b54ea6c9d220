"""Sightings that come from files instead of agents: whose hosts and users they are, and storing each once.

An event names a computer. If a host of that name has enrolled, the sighting is that host's. If not, a host is made that
no agent speaks for (`HostState.IMPORTED`): it is in no count. When a host enrols under its name, the two become one.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, case, delete, exists, func, select, text, update
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, record
from app.db.base import from_ms, now, to_ms
from app.fleet import rows_postgresql, rows_sqlite
from app.fleet.buckets import bucket_of, take_host_ids
from app.fleet.groups import DEFAULT_GROUP, get_or_make_group
from app.fleet.rows import NewSubject, SightingRow
from app.fleet.standing import HostState, Standing
from app.fleet.tables import Host, Pulse, Sighting, Subject

_KNOWN_HOSTS = 50_000
_KNOWN_USERS = 50_000
_UNNUMBERED = 2**53
"""Sightings without a record number get one from here on, made of what they say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of some sightings: stored, or there already."""

    added: int
    known: int
    hosts_made: int


@dataclass(slots=True)
class Places:
    """Hosts and users that an import has met, so that few are asked for twice."""

    hosts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Id and group by the computer's name."""
    subjects: dict[tuple[int, bytes], int] = field(default_factory=dict)


class Tried(NamedTuple):
    """One sighting to store. `subject`: the keyed hash of its user; `at`: milliseconds since 1970.

    `record` is the log's own number, or not told (`has_record`); without `has_time` the file alone tells whether it is
    known.
    """

    computer: str
    subject: bytes
    channel: str
    record: int
    at: int
    event_id: int
    pattern: str
    path: str
    collection: str | None
    rule_id: str | None
    sha256: str | None
    fqbn: str | None
    has_record: bool = True
    has_time: bool = True


def store_imported(session: Session, tried: Sequence[Tried], places: Places) -> Stored:
    """Stores sightings, each once however often its file is read. The caller commits."""
    if not tried:
        return Stored(added=0, known=0, hosts_made=0)
    made = _find_hosts(session, {one.computer for one in tried}, places)
    _find_subjects(session, tried, places)
    recorded_at = to_ms(now())
    hosts, subjects = places.hosts, places.subjects
    rows: dict[tuple[int, int, str, int], SightingRow] = {}
    doubtful: dict[tuple[int, int, str, int], Tried] = {}
    for one in tried:
        host_id = hosts[one.computer][0]
        number = one.record if one.has_record else _number_of(one)
        key = (host_id, one.at, one.channel, number)
        if key not in rows:
            subject_id = subjects[host_id, one.subject]
            rows[key] = SightingRow(
                *key,
                subject_id,
                recorded_at,
                one.event_id,
                one.pattern,
                one.path,
                one.collection,
                one.rule_id,
                one.sha256,
                one.fqbn,
            )
        if not one.has_record:
            doubtful[key] = one
    for key, one in doubtful.items():
        if _is_known(session, rows[key], has_time=one.has_time):
            del rows[key]
    added = _insert(session.connection(), [rows[key] for key in sorted(rows)])
    return Stored(added=added, known=len(tried) - added, hosts_made=made)


def merge_imported_hosts(session: Session) -> int:
    """Makes hosts that only files named one with enrolled hosts of their names; how many. The caller commits."""
    merged = 0
    waiting = session.execute(
        select(Host.id, Host.name).where(Host.state == HostState.IMPORTED.value).order_by(Host.id)
    ).all()
    for start in range(0, len(waiting), 500):
        batch = waiting[start : start + 500]
        enrolled = _named(session, {row.name for row in batch}, imported=False)
        for row in batch:
            found = enrolled.get(row.name)
            if found is not None:
                _merge(session, row.id, *found)
                record(session, SYSTEM, "host.merged", row.name, host=found[0])
                merged += 1
    return merged


def _find_hosts(session: Session, computers: set[str], places: Places) -> int:
    """Learns the hosts of some computers; makes those that are not there. How many were made."""
    if len(places.hosts) > _KNOWN_HOSTS:
        places.hosts.clear()
    wanted = {name for name in computers if name not in places.hosts}
    if not wanted:
        return 0
    places.hosts |= _named(session, wanted, imported=True)
    missing = sorted(name for name in wanted if name not in places.hosts)
    if not missing:
        return 0
    group_id = get_or_make_group(session, DEFAULT_GROUP, "default").id
    ids = take_host_ids(session.connection(), len(missing))
    made = {
        name.lower(): Host(
            id=host_id,
            group_id=group_id,
            state=HostState.IMPORTED.value,
            token_hash=hashlib.sha256(secrets.token_bytes(32)).digest(),  # nobody's
            enrolled_at=now(),
            name=name,
            platform="windows",
        )
        for host_id, name in zip(ids, missing, strict=True)
    }
    session.add_all(made.values())
    session.flush()
    places.hosts |= {name: (made[name.lower()].id, group_id) for name in missing}
    return len(made)


def _named(session: Session, computers: set[str], *, imported: bool) -> dict[str, tuple[int, int]]:
    """Id and group of the host that each of some computers is. An enrolled one goes before one that files made.

    A host is known by the computer's whole name, or by its first part if its domain does not say otherwise.
    """
    labels = {name.lower() for name in computers} | {name.lower().partition(".")[0] for name in computers}
    states = [HostState.ACTIVE.value, HostState.QUARANTINED.value]
    if imported:
        states.append(HostState.IMPORTED.value)
    rows = session.execute(
        select(Host.id, Host.group_id, Host.name, Host.domain, Host.state)
        .where(func.lower(Host.name).in_(labels), Host.state.in_(states))
        .order_by(case((Host.state == HostState.IMPORTED.value, 1), else_=0), Host.enrolled_at.desc(), Host.id.desc())
    ).all()
    by_name: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_name[row.name.lower()].append(row)
    found: dict[str, tuple[int, int]] = {}
    for name in computers:
        label, _, suffix = name.lower().partition(".")
        for row in (*by_name[name.lower()], *(by_name[label] if suffix else ())):
            domain = (row.domain or "").lower()
            is_whole = row.name.lower() == name.lower()
            is_label = row.state != HostState.IMPORTED.value and row.name.lower() == label
            if is_whole or (is_label and not ("." in domain and suffix and domain != suffix)):
                found[name] = (row.id, row.group_id)
                break
    return found


def _find_subjects(session: Session, tried: Iterable[Tried], places: Places) -> None:
    """Learns the users of some sightings; those that are not there are made, and are in no count."""
    if len(places.subjects) > _KNOWN_USERS:
        places.subjects.clear()
    wanted = {(places.hosts[one.computer][0], one.subject): places.hosts[one.computer][1] for one in tried}
    missing = {key: group for key, group in wanted.items() if key not in places.subjects}
    if not missing:
        return
    connection = session.connection()
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    made = [NewSubject(*key, missing[key]) for key in sorted(missing)]
    rows.insert_subjects(cursor, made, Standing.IMPORTED.value, to_ms(now()))
    found = session.execute(
        select(Subject.host_id, Subject.sid_hmac, Subject.id).where(Subject.host_id.in_({key[0] for key in missing}))
    )
    places.subjects |= {(row.host_id, bytes(row.sid_hmac)): row.id for row in found}


def _number_of(one: Tried) -> int:
    """A number for a sighting whose file gives none: the same each time it is read."""
    said = [one.at if one.has_time else "", one.event_id, one.path, one.rule_id, one.sha256, one.fqbn]
    digest = hashlib.blake2b("\n".join(map(str, said)).encode() + one.subject, digest_size=6).digest()
    return _UNNUMBERED + int.from_bytes(digest, "big")


def _is_known(session: Session, row: SightingRow, *, has_time: bool) -> bool:
    """Whether a sighting without a number is there under the log's own number, or, without a time, at another time."""
    same = [Sighting.host_id == row.host_id, Sighting.channel == row.channel]
    if has_time:
        same += [Sighting.at == from_ms(row.at), Sighting.event_id == row.event_id, Sighting.path == row.path]
    else:
        same.append(Sighting.record == row.record)
    return bool(session.scalar(select(exists().where(and_(*same)))))


def _insert(connection: Connection, rows: list[SightingRow]) -> int:
    """Inserts sightings in the order of their keys; how many were not there."""
    if not rows:
        return 0
    module: Any = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    cursor = connection.connection.cursor()
    module.insert_sightings(cursor, rows)
    return max(int(cursor.rowcount), 0)


def _merge(session: Session, old_id: int, new_id: int, group_id: int) -> None:
    """Gives a host's users and sightings to another, and removes it."""
    connection = session.connection()
    rows = rows_postgresql if connection.dialect.name == "postgresql" else rows_sqlite
    old = {bytes(sid): one for sid, one in session.execute(_users(old_id))}
    made = [NewSubject(new_id, sid, group_id) for sid in sorted(old)]
    if made:
        # Of those that the other has, nothing is made. A user stays in the bucket of their host, so none can be moved.
        rows.insert_subjects(connection.connection.cursor(), made, Standing.IMPORTED.value, to_ms(now()))
    for sid, new in session.execute(_users(new_id)):
        theirs = old.get(bytes(sid))
        if theirs is not None:
            session.execute(
                update(Sighting).where(Sighting.host_id == old_id, Sighting.subject_id == theirs).values(subject_id=new)
            )
    session.execute(delete(Pulse).where(Pulse.subject_id.in_(old.values())))
    session.execute(delete(Subject).where(Subject.host_id == old_id))
    names = ", ".join(column.name for column in Sighting.__table__.columns if column.name not in ("host_id", "bucket"))
    session.execute(
        text(
            f"INSERT INTO sighting (host_id, bucket, {names}) SELECT :new, :bucket, {names} FROM sighting"  # noqa: S608 - our names
            " WHERE host_id = :old ON CONFLICT DO NOTHING"
        ),
        {"new": new_id, "bucket": bucket_of(new_id), "old": old_id},
    )
    session.execute(delete(Sighting).where(Sighting.host_id == old_id))
    session.execute(delete(Host).where(Host.id == old_id))


def _users(host_id: int) -> Select[bytes, int]:
    return select(Subject.sid_hmac, Subject.id).where(Subject.host_id == host_id)
