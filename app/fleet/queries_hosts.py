"""What the hosts pages read: a filtered list by keyset, and everything known of one host."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session

from agent.contract.canonical import ContractError
from app.db.paging import Page, decode_cursor, encode_cursor
from app.errors import NotFoundError
from app.fleet.facts import mark, read_set
from app.fleet.standing import Standing
from app.fleet.tables import (
    KIND_NAMES,
    FactSet,
    Host,
    HostGroup,
    Pulse,
    Sighting,
    Subject,
    Transition,
)

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFilter:
    """Which hosts are wanted; None and '' ask for all. `outcome` is of a subject of the host at `pattern`."""

    name: str = ""
    group_id: int | None = None
    pattern: str | None = None
    outcome: str = "blocked"
    version: str | None = None
    standing: Standing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """One host of the list. `closed`: the most patterns that one of its subjects is refused at (None: not known)."""

    id: int
    name: str
    group: str
    os: str
    state: int
    subjects: int
    standings: tuple[Standing, ...]
    closed: int | None
    versions: tuple[str, ...]
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One probe as a subject last reported it."""

    pattern: str
    collection: str | None
    specimen: str
    method: str
    outcome: str
    why: str | None
    engine: str | None
    error: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUv:
    """One uv that was found on the host. `path` is templated."""

    path: str
    version: str | None
    publisher: str | None
    is_preferred: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """What a subject's policy set says: mode and number of rules by collection; None: could not be read."""

    collections: Mapping[str, tuple[str, int]] | None
    csp: str
    srp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectState:
    """One user of a host and what was last reported of them. `name` is the start of the keyed hash of their SID."""

    id: int
    name: str
    standing: Standing
    first_seen_at: datetime
    changed_at: datetime
    last_seen_at: datetime | None
    received: int
    missed: int
    probes: tuple[ProbeResult, ...]
    found: tuple[FoundUv, ...]
    policy: PolicyInForce | None
    environment: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A subject's set of one kind gave way to another."""

    at: datetime
    subject: str
    kind: str
    is_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file that was really tried. `path` is templated."""

    at: datetime
    event_id: int
    pattern: str
    path: str
    collection: str | None
    rule_id: str | None
    sha256: str | None
    fqbn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDetail:
    """Everything known of one host."""

    id: int
    name: str
    group_id: int
    group: str
    platform: str
    os: str
    os_build: str
    domain: str | None
    unit: str | None
    agent_version: str
    attested: bool
    state: int
    enrolled_at: datetime
    subjects: tuple[SubjectState, ...]
    changes: tuple[Change, ...]
    sightings: tuple[SeenFile, ...]


def list_groups(session: Session) -> dict[int, str]:
    """All groups, id to name, by name."""
    rows = session.execute(select(HostGroup.id, HostGroup.name).order_by(HostGroup.name)).tuples()
    return dict(rows.all())


def count_hosts(session: Session, wanted: HostFilter, *, limit: int = 10_000) -> int:
    """How many hosts fit, counted up to `limit`."""
    some = select(Host.id).where(*_conditions(session, wanted)).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def list_hosts(session: Session, wanted: HostFilter, cursor: str | None = None) -> Page[HostRow]:
    """Hosts that fit, by name.

    raises: InvalidError for a cursor that is not ours.
    """
    statement = (
        select(Host.id, Host.name, Host.group_id, Host.os, Host.state)
        .where(*_conditions(session, wanted))
        .order_by(Host.name, Host.id)
        .limit(PAGE_ROWS + 1)
    )
    if cursor:
        statement = statement.where(tuple_(Host.name, Host.id) > tuple_(*decode_cursor(cursor, (str, int))))
    rows = session.execute(statement).all()
    more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    groups = list_groups(session)
    subjects = _subjects_of(session, [row.id for row in rows])
    bodies = _read_bodies(
        session,
        [set_id for of_host in subjects.values() for one in of_host for set_id in (one.probes_id, one.uv_id) if set_id],
    )
    return Page(
        rows=tuple(
            HostRow(
                id=row.id,
                name=row.name,
                group=groups.get(row.group_id, ""),
                os=row.os,
                state=row.state,
                subjects=len(subjects[row.id]),
                standings=tuple(sorted({Standing(one.standing) for one in subjects[row.id]})),
                closed=max(
                    (_closed(bodies.get(one.probes_id)) for one in subjects[row.id] if one.probes_id), default=None
                ),
                versions=tuple(
                    sorted({_version(bodies.get(one.uv_id)) for one in subjects[row.id] if one.uv_id} - {""})
                ),
                last_seen_at=max((one.last_seen_at for one in subjects[row.id] if one.last_seen_at), default=None),
            )
            for row in rows
        ),
        next_cursor=encode_cursor([rows[-1].name, rows[-1].id]) if more else None,
    )


def count_fitting(session: Session, wanted: HostFilter, limit: int = 1000) -> int:
    """How many hosts fit, counted up to `limit`: beyond it a page says "more than"."""
    some = _fitting(session, wanted).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def get_host(session: Session, host_id: int) -> HostDetail:
    """Everything known of a host. raises: NotFoundError"""
    host = session.get(Host, host_id)
    if host is None:
        raise NotFoundError("There is no such host; it may have been removed.")
    subjects = _subjects_of(session, [host_id])[host_id]
    ids = [
        set_id
        for one in subjects
        for set_id in (one.probes_id, one.uv_id, one.policy_id, one.environment_id)
        if set_id is not None
    ]
    bodies = _read_bodies(session, ids)
    names = {one.id: bytes(one.sid_hmac).hex()[:8] for one in subjects}
    group = session.get(HostGroup, host.group_id)
    changes = session.execute(
        select(Transition)
        .where(Transition.subject_id.in_(names))
        .order_by(Transition.at.desc(), Transition.kind)
        .limit(50)
    ).scalars()
    sightings = session.scalars(
        select(Sighting).where(Sighting.host_id == host_id).order_by(Sighting.at.desc()).limit(50)
    )
    return HostDetail(
        id=host.id,
        name=host.name,
        group_id=host.group_id,
        group=group.name if group else "",
        platform=host.platform,
        os=host.os,
        os_build=host.os_build,
        domain=host.domain,
        unit=host.unit,
        agent_version=host.agent_version,
        attested=host.attested,
        state=host.state,
        enrolled_at=host.enrolled_at,
        subjects=tuple(
            SubjectState(
                id=one.id,
                name=names[one.id],
                standing=Standing(one.standing),
                first_seen_at=one.first_seen_at,
                changed_at=one.changed_at,
                last_seen_at=one.last_seen_at,
                received=one.received or 0,
                missed=one.missed or 0,
                probes=_probes(bodies.get(one.probes_id)),
                found=_found(bodies.get(one.uv_id)),
                policy=_policy(bodies.get(one.policy_id)),
                environment=_environment(bodies.get(one.environment_id)),
            )
            for one in subjects
        ),
        changes=tuple(
            Change(
                at=row.at,
                subject=names[row.subject_id],
                kind=KIND_NAMES.get(row.kind, "host"),
                is_first=row.old_id is None,
            )
            for row in changes
        ),
        sightings=tuple(seen_file(row) for row in sightings),
    )


def list_sightings(session: Session, pattern: str, *, limit: int = 25) -> tuple[SeenFile, ...]:
    """The newest files that were tried at a pattern."""
    rows = session.scalars(
        select(Sighting).where(Sighting.pattern == pattern).order_by(Sighting.at.desc()).limit(limit)
    )
    return tuple(seen_file(row) for row in rows)


def seen_file(row: Sighting) -> SeenFile:
    """A sighting's row as a value."""
    return SeenFile(
        at=row.at,
        event_id=row.event_id,
        pattern=row.pattern,
        path=row.path,
        collection=row.collection,
        rule_id=row.rule_id,
        sha256=row.sha256,
        fqbn=row.fqbn,
    )


def _conditions(session: Session, wanted: HostFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.name:
        conditions.append(Host.name.icontains(wanted.name, autoescape=True))
    if wanted.group_id is not None:
        conditions.append(Host.group_id == wanted.group_id)
    of_subject: list[ColumnElement[bool]] = []
    if wanted.pattern:
        number = mark(wanted.pattern, wanted.outcome)
        sets = select(FactSet.id).where(_has_mark(session, number))
        of_subject.append(Subject.probes_id.in_(sets))
    if wanted.version is not None:
        of_subject.append(Subject.uv_id.in_(_sets_of_version(session, wanted.version)))
    if wanted.standing is not None:
        of_subject.append(Subject.standing == wanted.standing.value)
    if of_subject:
        conditions.append(select(Subject.id).where(Subject.host_id == Host.id, *of_subject).exists())
    return conditions


def _has_mark(session: Session, number: int) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        return FactSet.facts.contains(array([number]))
    each = func.json_each(FactSet.facts).table_valued("value")
    return select(each.c.value).where(each.c.value == number).exists()


def _sets_of_version(session: Session, version: str) -> list[int]:
    """The uv sets whose preferred uv has a version. There are a few hundred uv sets in a fleet, whatever its size."""
    rows = session.execute(select(FactSet.id, FactSet.body).where(FactSet.kind == 2, FactSet.retired_at.is_(None)))
    return [set_id for set_id, body in rows if _version(("uv", body)) == version]


def _subjects_of(session: Session, host_ids: Sequence[int]) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in session.execute(
        select(
            Subject.id,
            Subject.host_id,
            Subject.sid_hmac,
            Subject.standing,
            Subject.first_seen_at,
            Subject.changed_at,
            Subject.probes_id,
            Subject.uv_id,
            Subject.policy_id,
            Subject.environment_id,
            Pulse.last_seen_at,
            Pulse.received,
            Pulse.missed,
        )
        .outerjoin(Pulse, Pulse.subject_id == Subject.id)
        .where(Subject.host_id.in_(host_ids))
        .order_by(Subject.id)
    ):
        found[row.host_id].append(row)
    return found


def _read_bodies(session: Session, set_ids: Iterable[int]) -> dict[int | None, tuple[str, str]]:
    """Kind and body of each set."""
    wanted = sorted(set(set_ids))
    rows = session.execute(select(FactSet.id, FactSet.kind, FactSet.body).where(FactSet.id.in_(wanted)))
    return {set_id: (KIND_NAMES[kind], body) for set_id, kind, body in rows}


def _closed(found: tuple[str, str] | None) -> int:
    if found is None:
        return 0
    try:
        facts = read_set(*found).patterns
    except ContractError:
        return 0
    return sum(fact.outcome in ("blocked", "denied") for fact in facts)


def _version(found: tuple[str, str] | None) -> str:
    if found is None:
        return ""
    try:
        return read_set(*found).version or ""
    except ContractError:
        return ""


def _value(found: tuple[str, str] | None) -> dict[str, Any]:
    """The body's value; it was checked when it was stored."""
    value = json.loads(found[1]) if found is not None else {}
    return value if isinstance(value, dict) else {}


def _probes(found: tuple[str, str] | None) -> tuple[ProbeResult, ...]:
    return tuple(
        ProbeResult(
            pattern=one.get("pattern", ""),
            collection=one.get("collection"),
            specimen=one.get("specimen") or "none",
            method=one.get("method") or "none",
            outcome=one.get("outcome") or "unknown",
            why=one.get("why"),
            engine=one.get("engine"),
            error=one.get("error"),
        )
        for one in _value(found).get("probes", [])
    )


def _found(found: tuple[str, str] | None) -> tuple[FoundUv, ...]:
    value = _value(found)
    return tuple(
        FoundUv(
            path=one.get("path") or "",
            version=one.get("version"),
            publisher=one.get("publisher"),
            is_preferred=one.get("path") == value.get("preferred"),
        )
        for one in value.get("found", [])
    )


def _policy(found: tuple[str, str] | None) -> PolicyInForce | None:
    if found is None:
        return None
    value = _value(found)
    gpo = value.get("gpo")
    collections = (
        None
        if gpo is None
        else {name: (str(one.get("mode", "")), len(one.get("rules", []))) for name, one in sorted(gpo.items())}
    )
    return PolicyInForce(collections=collections, csp=str(value.get("csp", "none")), srp=bool(value.get("srp")))


def _environment(found: tuple[str, str] | None) -> dict[str, dict[str, str]]:
    value = _value(found)
    return {name: dict(value.get(name) or {}) for name in ("answers", "variables", "uv_toml", "roots")}
