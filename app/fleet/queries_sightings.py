"""What pages show of sightings: the files that hosts really tried to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    String,
    Subquery,
    bindparam,
    func,
    literal,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import from_ms
from app.fleet.retention import DAY_MS
from app.fleet.sighting_events import BLOCKED_EVENTS
from app.fleet.tables import Sighting, SightingDay

NEWEST_OF_PATTERN = 1000
"""So many of a pattern's sightings in the time are looked at for paths and identities; the newest."""
NEWEST_OF_ALL = 4000
"""And so many of all patterns together."""
MOST_PATTERNS = 40
MOST_KINDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """A file that was really tried, and by which user of its host. `path` is templated: no user is named in it.

    Who ran what is for those who may see it, and every look is audited: `look_at_sightings`.
    """

    at: datetime
    host_id: int
    subject_id: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDay:
    """How many files were refused, and would have been, on a day (UTC)."""

    day: date
    blocked: int
    audited: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPattern:
    """How often files of a pattern were refused, and would have been, in a time."""

    pattern: str
    blocked: int
    audited: int

    @property
    def times(self) -> int:
        return self.blocked + self.audited


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was tried in a time, by day (each day of it) and by pattern (the most seen first)."""

    days: tuple[SeenDay, ...]
    patterns: tuple[SeenPattern, ...]

    @property
    def blocked(self) -> int:
        return sum(one.blocked for one in self.patterns)

    @property
    def audited(self) -> int:
        return sum(one.audited for one in self.patterns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenKind:
    """Sightings that are alike, of one path or of one identity: how often, on how many hosts, when last.

    `sha256` and `publisher` are of an identity; None where the event named none.
    """

    pattern: str
    path: str | None
    sha256: str | None
    publisher: str | None
    collection: str | None
    blocked: int
    audited: int
    hosts: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenKinds:
    """Paths or identities, the most seen first. `looked_at` of `of` sightings, the newest of each pattern.

    `kinds_in_all`: how many there are among those that were looked at; at most MOST_KINDS of them are told.
    """

    kinds: tuple[SeenKind, ...]
    looked_at: int
    of: int
    kinds_in_all: int


def read_seen(session: Session, first: date, last: date, *, pattern: str | None = None) -> Seen:
    """What was tried from one day to another, both included (UTC). From counts by day: however many there are."""
    one_day = timedelta(days=1)
    query = select(SightingDay.day, SightingDay.pattern, SightingDay.event_id, SightingDay.sightings).where(
        SightingDay.day.between(_number(first), _number(last))
    )
    if pattern is not None:
        query = query.where(SightingDay.pattern == pattern)
    by_day: dict[int, list[int]] = {_number(first) + n: [0, 0] for n in range((last - first) // one_day + 1)}
    by_pattern: dict[str, list[int]] = {}
    for day, name, event_id, count in session.execute(query):
        column = 0 if event_id in BLOCKED_EVENTS else 1
        by_day[day][column] += count
        by_pattern.setdefault(name, [0, 0])[column] += count
    patterns = [SeenPattern(pattern=name, blocked=counts[0], audited=counts[1]) for name, counts in by_pattern.items()]
    return Seen(
        days=tuple(
            SeenDay(day=date(1970, 1, 1) + timedelta(days=day), blocked=counts[0], audited=counts[1])
            for day, counts in by_day.items()
        ),
        patterns=tuple(sorted(patterns, key=lambda one: (-one.times, one.pattern))),
    )


def read_seen_kinds(
    session: Session, seen: Seen, first: date, last: date, *, by: Literal["path", "identity"]
) -> SeenKinds:
    """Paths or identities among the newest sightings of each pattern in a time."""
    patterns = [one.pattern for one in seen.patterns[:MOST_PATTERNS]]
    of = seen.blocked + seen.audited
    if not patterns:
        return SeenKinds(kinds=(), looked_at=0, of=of, kinds_in_all=0)
    names = ("pattern", "collection", "path") if by == "path" else ("pattern", "collection", "sha256", "fqbn")
    start, end = from_ms(_number(first) * DAY_MS), from_ms((_number(last) + 1) * DAY_MS)
    newest = _newest(session, patterns, start, end, names)
    is_blocked = newest.c.event_id.in_(BLOCKED_EVENTS)
    # By host first, then hosts are rows to count: distinct ones would have all sightings sorted.
    by_host = (
        select(
            newest.c.kind,
            *(func.min(newest.c[name]).label(name) for name in names),
            func.count().filter(is_blocked).label("blocked"),
            func.count().label("times"),
            func.max(newest.c.at, type_=newest.c.at.type).label("last_at"),
        )
        .group_by(newest.c.kind, newest.c.host_id)
        .subquery("by_host")
    )
    kind = tuple(func.min(by_host.c[name]).label(name) for name in names)
    times, last_at = func.sum(by_host.c.times), func.max(by_host.c.last_at, type_=newest.c.at.type)
    rows = session.execute(
        select(
            *kind,
            func.sum(by_host.c.blocked).cast(Integer).label("blocked"),
            times.cast(Integer).label("times"),
            func.count().label("hosts"),
            last_at.label("last_at"),
            func.sum(times).over().cast(Integer).label("looked_at"),
            func.count().over().label("kinds_in_all"),
        )
        .group_by(by_host.c.kind)
        .order_by(times.desc(), last_at.desc())
        .limit(MOST_KINDS)
    ).all()
    kinds = tuple(
        SeenKind(
            pattern=row.pattern,
            path=row.path if by == "path" else None,
            sha256=row.sha256 if by == "identity" else None,
            publisher=row.fqbn if by == "identity" else None,
            collection=row.collection,
            blocked=row.blocked,
            audited=row.times - row.blocked,
            hosts=row.hosts,
            last_at=row.last_at,
        )
        for row in rows
    )
    first_row = rows[0] if rows else None
    return SeenKinds(
        kinds=kinds,
        looked_at=first_row.looked_at if first_row else 0,
        of=of,
        kinds_in_all=first_row.kinds_in_all if first_row else 0,
    )


def _newest(
    session: Session, patterns: Sequence[str], start: datetime, end: datetime, names: Sequence[str]
) -> Subquery:
    """The newest sightings of each pattern: read from the index of pattern and time, a bounded number of each.

    `kind` is the same for those that are alike in `names`, and shorter to compare than their texts.
    """
    most = min(NEWEST_OF_PATTERN, NEWEST_OF_ALL // len(patterns))
    columns = [getattr(Sighting, name) for name in (*names, "event_id", "host_id", "at")]
    texts = [func.coalesce(getattr(Sighting, name), "") for name in names]
    within = (Sighting.at >= start, Sighting.at < end)
    if session.get_bind().dialect.name != "postgresql":
        kind: ColumnElement[Any] = literal("")
        for one in texts:
            kind = kind.concat("\x1f").concat(one)
        parts = []
        for name in patterns:
            of_one = select(*columns, kind.label("kind")).where(Sighting.pattern == name, *within)
            parts.append(select(of_one.order_by(Sighting.at.desc()).limit(most).subquery()))
        return union_all(*parts).subquery("newest")
    kind = func.hashtextextended(func.concat_ws("\x1f", *texts), 0)
    # One part to plan, whatever the number of patterns.
    named = select(func.unnest(bindparam("patterns", list(patterns), type_=ARRAY(String))).label("name")).subquery()
    of_each = (
        select(*columns, kind.label("kind"))
        .where(Sighting.pattern == named.c.name, *within)
        .order_by(Sighting.at.desc())
        .limit(most)
        .lateral()
    )
    return select(of_each).select_from(named.join(of_each, true())).subquery("newest")


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


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


def count_host_sightings(session: Session, host_id: int) -> int:
    """How many files were tried on a host, of those still kept: what anybody may know who sees the host."""
    return session.scalar(select(func.count()).select_from(Sighting).where(Sighting.host_id == host_id)) or 0


def look_at_sightings(
    session: Session, host_id: int, host_name: str, *, actor: Actor, limit: int = 100
) -> tuple[SeenFile, ...]:
    """Who tried what on a host, the newest first. That it was looked at goes into the audit log."""
    found = _list_sightings(session, host_id, limit=limit)
    record(session, actor, "sightings.viewed", host_name, host=host_id, shown=len(found))
    return found


def _list_sightings(session: Session, host_id: int, *, limit: int) -> tuple[SeenFile, ...]:
    statement = select(Sighting).where(Sighting.host_id == host_id).order_by(Sighting.at.desc()).limit(limit)
    return tuple(
        SeenFile(
            at=row.at,
            host_id=row.host_id,
            subject_id=row.subject_id,
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
