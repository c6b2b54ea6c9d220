"""The lines of the host list: what each host is, and what its users' newest facts come to.

Sets of facts never change, so what one comes to is read once, however many hosts share it; a file of all hosts keeps it
from page to page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from app.db.slices import is_among
from app.fleet.derive import known_marks
from app.fleet.facts import read_set
from app.fleet.marks import RANK
from app.fleet.standing import HostState, Standing
from app.fleet.tables import KIND_NUMBERS, PULSE_OF_SUBJECT, FactSet, Host, HostGroup, HostTag, Pulse, Subject

MAX_KNOWN = 50_000
"""So many sets at most are remembered from page to page."""


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
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetSays:
    """What a line tells of a set: the patterns blocked in it (by name, or by number if unknown), or uv's version."""

    blocked: frozenset[str | int] = frozenset()
    version: str | None = None


Known = dict[int, SetSays]


def read_lines(
    session: Session, ids: Collection[int], known: Known | None = None, *, with_tags: bool = True
) -> tuple[HostLine, ...]:
    """The lines of some hosts, by name. `known`: what was read of sets before; more is added."""
    if not ids:
        return ()
    connection = session.connection()
    subjects: defaultdict[int, list[Any]] = defaultdict(list)
    query = (
        select(Subject.host_id, Subject.standing, Subject.probes_id, Subject.uv_id, Pulse.last_seen_at)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(is_among(connection, Subject.host_id, ids), Pulse.received > 0)
    )
    wanted: set[int | None] = set()
    for row in session.execute(query):
        subjects[row.host_id].append(row)
        wanted |= {row.probes_id, row.uv_id}
    says = _read_sets(session, wanted, {} if known is None else known)
    tags: defaultdict[int, list[str]] = defaultdict(list)
    if with_tags:
        tagged = select(HostTag.host_id, HostTag.tag).where(is_among(connection, HostTag.host_id, ids))
        for host_id, tag in session.execute(tagged.order_by(HostTag.tag)):
            tags[host_id].append(tag)
    hosts = session.execute(
        select(
            Host.id,
            Host.name,
            HostGroup.name.label("group"),
            Host.group_id,
            Host.platform,
            Host.os,
            Host.state,
            Host.attested,
            Host.enrolled_at,
        )
        .join(HostGroup, HostGroup.id == Host.group_id)
        .where(is_among(connection, Host.id, ids))
        .order_by(Host.name, Host.id)
    )
    return tuple(_line(host, subjects[host.id], says, tuple(tags[host.id])) for host in hosts)


def _line(host: Any, subjects: list[Any], says: Known, tags: tuple[str, ...]) -> HostLine:
    if len(subjects) > 1:
        subjects.sort(key=lambda row: row.last_seen_at, reverse=True)
    nothing = SetSays()
    blocked = [says.get(row.probes_id, nothing).blocked for row in subjects]
    versions = (says.get(row.uv_id, nothing).version for row in subjects)
    return HostLine(
        id=host.id,
        name=host.name,
        group=host.group,
        group_id=host.group_id,
        platform=host.platform,
        os=host.os,
        state=HostState(host.state),
        attested=host.attested,
        enrolled_at=host.enrolled_at,
        last_seen_at=subjects[0].last_seen_at if subjects else None,
        subjects=len(subjects),
        standings=tuple(sorted({Standing(row.standing) for row in subjects})),
        blocked=len(blocked[0]) if len(blocked) == 1 else len(frozenset[str | int]().union(*blocked)),
        version=next((version for version in versions if version), None),
        tags=tags,
    )


def _read_sets(session: Session, ids: Collection[int | None], known: Known) -> Known:
    """What sets say; those of `known` are not read again."""
    if len(known) > MAX_KNOWN:
        known.clear()
    new = [one for one in ids if one is not None and one not in known]
    if new:
        marks = known_marks()
        is_uv = FactSet.kind == KIND_NUMBERS["uv"]
        # Of probes their marks say it: bodies are long.
        query = select(FactSet.id, FactSet.facts, case((is_uv, FactSet.body)).label("body"))
        for set_id, facts, body in session.execute(query.where(is_among(session.connection(), FactSet.id, new))):
            if body is not None:
                known[set_id] = SetSays(version=read_set("uv", body).version)
                continue
            blocked = [number for number in facts or () if number & 7 == RANK["blocked"]]
            known[set_id] = SetSays(
                frozenset(marks[number].pattern if number in marks else number for number in blocked)
            )
    return known
