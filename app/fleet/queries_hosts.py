"""What the pages about hosts show: the list, filtered and paged by key, and one host with its users and its history."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import from_ms
from app.db.paging import Page, decode_cursor, encode_cursor
from app.errors import NotFoundError
from app.fleet.facts import read_set
from app.fleet.host_filter import HostFilter as HostFilter
from app.fleet.host_filter import count_fitting as count_fitting
from app.fleet.host_filter import fitting_hosts
from app.fleet.probes import PatternFact
from app.fleet.standing import HostState, Standing
from app.fleet.tables import (
    KIND_NAMES,
    PULSE_OF_SUBJECT,
    FactSet,
    Host,
    HostGroup,
    Pulse,
    Subject,
    Transition,
)

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLine:
    """One line of the host list."""

    id: int
    name: str
    group: str
    group_id: int
    platform: str
    os: str
    state: HostState
    attested: bool
    enrolled_at: datetime
    last_seen_at: datetime | None
    subjects: int
    standings: tuple[Standing, ...]
    blocked: int
    """Patterns blocked for at least one of its users."""
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change in a subject's history: which kind of facts, and for probes which patterns."""

    at: datetime
    kind: str
    patterns: tuple[tuple[str, str, str], ...]
    """Pattern, outcome before ('' if not tried), outcome after ('' if not tried)."""
    version: tuple[str, str] | None
    """uv's version before and after, for the kind `uv`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectDetail:
    """One user on a host. The user is known only as `number`: the server keeps a keyed hash of the SID."""

    id: int
    number: int
    standing: Standing
    first_seen_at: datetime
    last_seen_at: datetime
    changed_at: datetime
    received: int
    missed: int
    patterns: tuple[PatternFact, ...]
    sets: dict[str, Any]
    """Kind -> the body as it was reported (probes, uv, environment, policy, token)."""
    policy_id: int | None
    """The set in force, as the pages about policies know it."""
    sequence: int
    """The number of the newest report."""
    timeline: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDetail:
    """One host. Everything but group, state and times is what it says of itself."""

    id: int
    name: str
    group: str
    group_id: int
    state: HostState
    platform: str
    os: str
    os_build: str
    domain: str | None
    unit: str | None
    agent_version: str
    attested: bool
    appid_service: str
    multi_session: bool
    ephemeral: bool
    enrolled_at: datetime
    subjects: tuple[SubjectDetail, ...]


def list_hosts(
    session: Session, wanted: HostFilter, cursor: str | None = None, rows: int = PAGE_ROWS
) -> Page[HostLine]:
    """A page of hosts, by name.

    raises: InvalidError for a cursor that is none or a pattern's outcome that there is not.
    """
    after: tuple[Any, ...] | None = tuple(decode_cursor(cursor, (str, int))) if cursor else None
    found = session.execute(fitting_hosts(session, wanted, limit=rows + 1, after=after)).all()
    lines = _host_lines(session, [row.id for row in found[:rows]])
    last = found[rows - 1] if len(found) > rows else None
    return Page(rows=lines, next_cursor=None if last is None else encode_cursor([last.name, last.id]))


def get_host(session: Session, host_id: int) -> HostDetail:
    """One host with its users.

    raises: NotFoundError.
    """
    row = session.execute(
        select(Host, HostGroup.name).join(HostGroup, HostGroup.id == Host.group_id).where(Host.id == host_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError("There is no such host.", field="host")
    host, group = row
    return HostDetail(
        id=host.id,
        name=host.name,
        group=group,
        group_id=host.group_id,
        state=HostState(host.state),
        platform=host.platform,
        os=host.os,
        os_build=host.os_build,
        domain=host.domain,
        unit=host.unit,
        agent_version=host.agent_version,
        attested=host.attested,
        appid_service=host.appid_service,
        multi_session=host.multi_session,
        ephemeral=host.ephemeral,
        enrolled_at=host.enrolled_at,
        subjects=_subjects_of(session, host_id),
    )


def _host_lines(session: Session, ids: list[int]) -> tuple[HostLine, ...]:
    if not ids:
        return ()
    subjects: defaultdict[int, list[Any]] = defaultdict(list)
    query = (
        select(Subject.host_id, Subject.standing, Subject.probes_id, Subject.uv_id, Pulse.last_seen_at)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(Subject.host_id.in_(ids), Pulse.received > 0)
    )
    for row in session.execute(query):
        subjects[row.host_id].append(row)
    every = [row for rows in subjects.values() for row in rows]
    bodies = _bodies(session, {row.probes_id for row in every} | {row.uv_id for row in every})
    lines = []
    hosts = session.execute(
        select(Host, HostGroup.name)
        .join(HostGroup, HostGroup.id == Host.group_id)
        .where(Host.id.in_(ids))
        .order_by(Host.name, Host.id)
    )
    for host, group in hosts:
        of_host = sorted(subjects[host.id], key=lambda row: row.last_seen_at, reverse=True)
        blocked = {
            fact.pattern
            for row in of_host
            if row.probes_id in bodies
            for fact in read_set(*bodies[row.probes_id]).patterns
            if fact.outcome == "blocked"
        }
        versions = [read_set(*bodies[row.uv_id]).version for row in of_host if row.uv_id in bodies]
        lines.append(
            HostLine(
                id=host.id,
                name=host.name,
                group=group,
                group_id=host.group_id,
                platform=host.platform,
                os=host.os,
                state=HostState(host.state),
                attested=host.attested,
                enrolled_at=host.enrolled_at,
                last_seen_at=of_host[0].last_seen_at if of_host else None,
                subjects=len(of_host),
                standings=tuple(sorted({Standing(row.standing) for row in of_host})),
                blocked=len(blocked),
                version=next((version for version in versions if version), None),
            )
        )
    return tuple(lines)


def _subjects_of(session: Session, host_id: int) -> tuple[SubjectDetail, ...]:
    rows = session.execute(
        select(Subject, Pulse)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(Subject.host_id == host_id, Pulse.received > 0)
        .order_by(Subject.id)
        .limit(200)
    ).all()
    history = _history(session, [subject.id for subject, _pulse in rows])
    ids = {set_id for subject, _pulse in rows for set_id in _set_ids(subject).values()}
    ids |= {set_id for changes in history.values() for row in changes for set_id in (row.old_id, row.new_id)}
    bodies = _bodies(session, ids)
    details = []
    for number, (subject, pulse) in enumerate(rows, 1):
        sets = {kind: json.loads(bodies[set_id][1]) for kind, set_id in _set_ids(subject).items() if set_id in bodies}
        probes = bodies.get(subject.probes_id) if subject.probes_id is not None else None
        details.append(
            SubjectDetail(
                id=subject.id,
                number=number,
                standing=Standing(subject.standing),
                first_seen_at=subject.first_seen_at,
                last_seen_at=pulse.last_seen_at,
                changed_at=subject.changed_at,
                received=pulse.received,
                missed=pulse.missed,
                patterns=read_set(*probes).patterns if probes else (),
                sets=sets,
                policy_id=subject.policy_id,
                sequence=pulse.sequence,
                timeline=tuple(_change(row, bodies) for row in history[subject.id]),
            )
        )
    return tuple(details)


def _history(session: Session, subject_ids: list[int]) -> defaultdict[int, list[Any]]:
    history: defaultdict[int, list[Any]] = defaultdict(list)
    if subject_ids:
        query = (
            select(Transition.subject_id, Transition.at, Transition.kind, Transition.old_id, Transition.new_id)
            .where(Transition.subject_id.in_(subject_ids))
            .order_by(Transition.at.desc())
            .limit(100)
        )
        for row in session.execute(query):
            history[row.subject_id].append(row)
    return history


def _change(row: Any, bodies: dict[int, tuple[str, str]]) -> Change:
    kind = KIND_NAMES[row.kind]
    before = read_set(*bodies[row.old_id]) if row.old_id in bodies else None
    after = read_set(*bodies[row.new_id]) if row.new_id in bodies else None
    patterns: list[tuple[str, str, str]] = []
    if kind == "probes":
        was = {fact.pattern: fact.outcome for fact in before.patterns} if before else {}
        now = {fact.pattern: fact.outcome for fact in after.patterns} if after else {}
        patterns = [
            (name, was.get(name, ""), now.get(name, ""))
            for name in sorted(was.keys() | now.keys())
            if was.get(name) != now.get(name)
        ]
    version = None
    if kind == "uv":
        version = ((before.version or "") if before else "", (after.version or "") if after else "")
    at = row.at if isinstance(row.at, datetime) else from_ms(row.at)
    return Change(at=at, kind=kind, patterns=tuple(patterns), version=version)


def _set_ids(subject: Subject) -> dict[str, int | None]:
    return {
        "probes": subject.probes_id,
        "uv": subject.uv_id,
        "environment": subject.environment_id,
        "policy": subject.policy_id,
        "token": subject.token_id,
    }


def _bodies(session: Session, ids: set[int | None]) -> dict[int, tuple[str, str]]:
    """Kind and body of each set."""
    wanted = sorted(set_id for set_id in ids if set_id is not None)
    if not wanted:
        return {}
    rows = session.execute(select(FactSet.id, FactSet.kind, FactSet.body).where(FactSet.id.in_(wanted)))
    return {set_id: (KIND_NAMES[kind], body) for set_id, kind, body in rows}
