"""What the pages about hosts show: the list, filtered and paged by key, and one host with its users and its history."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.db.base import from_ms
from app.db.paging import Page, cut_page, decode_cursor, encode_cursor
from app.errors import NotFoundError
from app.fleet.facts import read_set
from app.fleet.host_filter import HostFilter as HostFilter
from app.fleet.host_filter import count_fitting as count_fitting
from app.fleet.host_filter import fitting_hosts
from app.fleet.host_lines import HostLine as HostLine
from app.fleet.host_lines import Known, read_lines
from app.fleet.probes import PatternFact
from app.fleet.sequence import ReportNumber, list_recent
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
MOST_USERS = 200
MOST_CHANGES = 100


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
    """Kind -> the body as it was reported (probes, uv, environment, policy). Not `token`: see `look_at_rights`."""
    policy_id: int | None
    """The set in force, as the pages about policies know it."""
    sequence: int
    """The number of the newest report."""
    last_reports: tuple[ReportNumber, ...]
    """The newest numbers, at most 16, and which of them arrived. The newest came at `last_seen_at`; when the others
    came is not kept."""
    timeline: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDetail:
    """One host. Everything but group, state and times is what it says of itself.

    `sightings_left_out`: so many events it told of a pattern or kind that is not known here.
    """

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
    sightings_left_out: int
    subjects: tuple[SubjectDetail, ...]
    users: int
    """How many users reported from it; at most `MOST_USERS` of them are in `subjects`."""
    has_older_changes: bool
    """Whether there are older changes than the newest `MOST_CHANGES` of all its users, which the timelines hold."""


def list_hosts(
    session: Session,
    wanted: HostFilter,
    cursor: str | None = None,
    rows: int = PAGE_ROWS,
    known: Known | None = None,
    *,
    with_tags: bool = True,
) -> Page[HostLine]:
    """A page of hosts, by name. `known`: what was read for other pages of sets, if many pages are read.

    raises: InvalidError for a cursor that is none or a pattern's outcome that there is not.
    """
    after: tuple[Any, ...] | None = tuple(decode_cursor(cursor, (str, int))) if cursor else None
    found, last = cut_page(session.execute(fitting_hosts(session, wanted, limit=rows + 1, after=after)).all(), rows)
    lines = read_lines(session, [row.id for row in found], known, with_tags=with_tags)
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
    subjects, has_older_changes = _subjects_of(session, host_id)
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
        sightings_left_out=host.sightings_left_out,
        subjects=subjects,
        users=len(subjects) if len(subjects) < MOST_USERS else _count_users(session, host_id),
        has_older_changes=has_older_changes,
    )


def users_of(host_id: int, *columns: Any) -> Select[Any]:
    """Columns of the users that a page numbers, in the order of their numbers."""
    return (
        select(*columns)
        .join_from(Subject, Pulse, PULSE_OF_SUBJECT)
        .where(Subject.host_id == host_id, Pulse.received > 0)
        .order_by(Subject.id)
        .limit(MOST_USERS)
    )


def _count_users(session: Session, host_id: int) -> int:
    query = select(func.count()).select_from(Subject).join(Pulse, PULSE_OF_SUBJECT)
    return session.scalar(query.where(Subject.host_id == host_id, Pulse.received > 0)) or 0


def _subjects_of(session: Session, host_id: int) -> tuple[tuple[SubjectDetail, ...], bool]:
    rows = session.execute(users_of(host_id, Subject, Pulse)).all()
    history, has_older_changes = _history(session, [subject.id for subject, _pulse in rows])
    ids = {set_id for subject, _pulse in rows for set_id in _set_ids(subject).values()}
    ids |= {set_id for changes in history.values() for row in changes for set_id in (row.old_id, row.new_id)}
    bodies = _bodies(session, ids)
    details = []
    for number, (subject, pulse) in enumerate(rows, 1):
        sets = {
            kind: json.loads(bodies[set_id][1])
            for kind, set_id in _set_ids(subject).items()
            if set_id in bodies and kind != "token"
        }
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
                last_reports=list_recent(pulse.sequence, pulse.recent, pulse.missed),
                timeline=tuple(_change(row, bodies) for row in history[subject.id]),
            )
        )
    return tuple(details), has_older_changes


def _history(session: Session, subject_ids: list[int]) -> tuple[defaultdict[int, list[Any]], bool]:
    """The newest changes of these users together, by user; and whether there are older ones."""
    history: defaultdict[int, list[Any]] = defaultdict(list)
    if not subject_ids:
        return history, False
    rows = session.execute(
        select(Transition.subject_id, Transition.at, Transition.kind, Transition.old_id, Transition.new_id)
        .where(Transition.subject_id.in_(subject_ids))
        .order_by(Transition.at.desc())
        .limit(MOST_CHANGES + 1)
    ).all()
    for row in rows[:MOST_CHANGES]:
        history[row.subject_id].append(row)
    return history, len(rows) > MOST_CHANGES


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
