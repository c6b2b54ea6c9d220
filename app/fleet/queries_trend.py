"""What pages show of days gone by: a command over weeks, and what changed since yesterday; from daily counts alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from agent import catalogue
from agent.catalogue.changes import read_version
from app.db.base import to_ms
from app.fleet.queries import Overview
from app.fleet.retention import DAY_MS
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, Daily, FactSet, Tally

What = Literal["pattern", "workflow", "version", "subjects"]
MOST_POLICIES = 5
MOST_VERSIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendDay:
    """For how many users a command worked at the end of a day (UTC)."""

    day: date
    open: int
    blocked: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPolicy:
    """A policy first reported in the time shown, and how many users it reached."""

    set_id: int
    first_at: datetime
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A uv that is newer than all before it, the day (UTC) at whose end users first had it, and how many in the end."""

    version: str
    day: date
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One count that is another than on the day before. `name`: pattern, workflow or version; '' for all users."""

    what: What
    name: str
    before: int
    now: int

    @property
    def by(self) -> int:
        return self.now - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """What changed since the end of `day`, the largest change first; None where no earlier day is known."""

    day: date | None
    shifts: tuple[Shift, ...]


def read_trend(
    session: Session, workflow: str, *, days: int, until: datetime, group_id: int | None = None
) -> tuple[TrendDay, ...]:
    """One entry for each of the last `days` days that has counts, the oldest first."""
    last = day_number(until)
    rows = session.execute(
        select(Daily.day, Daily.value, func.sum(Daily.subjects))
        .where(
            Daily.day.between(last - days + 1, last),
            Daily.what == "workflow",
            Daily.name == workflow,
            *_in_group(group_id),
        )
        .group_by(Daily.day, Daily.value)
    )
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for day, verdict, subjects in rows:
        found[day][verdict] = int(subjects)
    return tuple(
        TrendDay(
            day=date_of(day),
            open=counts.get("open", 0),
            blocked=counts.get("blocked", 0),
            unknown=counts.get("unknown", 0),
        )
        for day, counts in sorted(found.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTrend:
    """Users by uv version and day (UTC), the oldest day first. `others` sums what is not among the versions named."""

    days: tuple[date, ...]
    versions: tuple[tuple[str, tuple[int, ...]], ...]
    others: tuple[int, ...]


def read_version_trend(session: Session, *, days: int, until: datetime, most: int = 6) -> VersionTrend:
    """The versions that most users have had in this time, at most so many ('' where none was found)."""
    last = day_number(until)
    rows = session.execute(
        select(Daily.day, Daily.name, func.sum(Daily.subjects))
        .where(Daily.day.between(last - days + 1, last), Daily.what == "version")
        .group_by(Daily.day, Daily.name)
    )
    counts: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for day, version, subjects in rows:
        counts[version][day] = int(subjects)
    known = sorted({day for by_day in counts.values() for day in by_day})
    ranked = sorted(counts, key=lambda version: (-max(counts[version].values()), version))
    return VersionTrend(
        days=tuple(date_of(day) for day in known),
        versions=tuple((version, tuple(counts[version].get(day, 0) for day in known)) for version in ranked[:most]),
        others=tuple(sum(counts[version].get(day, 0) for version in ranked[most:]) for day in known),
    )


def list_new_policies(session: Session, since: datetime) -> tuple[NewPolicy, ...]:
    """The policies first reported since then that most users are under, the newest first."""
    subjects = func.sum(Tally.subjects)
    rows = session.execute(
        select(FactSet.id, FactSet.created_at, subjects)
        .join(Tally, Tally.set_id == FactSet.id)
        .where(
            FactSet.kind == KIND_NUMBERS["policy"],
            FactSet.created_at >= since,
            Tally.standing == Standing.COUNTED.value,
        )
        .group_by(FactSet.id, FactSet.created_at)
        .having(subjects > 0)
        .order_by(subjects.desc())
        .limit(MOST_POLICIES)
    )
    found = [NewPolicy(set_id=set_id, first_at=at, subjects=int(count)) for set_id, at, count in rows]
    return tuple(sorted(found, key=lambda one: one.first_at, reverse=True))


def list_new_versions(
    session: Session, *, days: int, until: datetime, group_id: int | None = None
) -> tuple[NewVersion, ...]:
    """The uv versions newer than all that were there before in these days, the newest first.

    What was there on the first of the days is not new, nor is an old version that came with users who did.
    """
    last = day_number(until)
    rows = session.execute(
        select(Daily.name, Daily.day, func.sum(Daily.subjects))
        .where(Daily.day.between(last - days + 1, last), Daily.what == "version", *_in_group(group_id))
        .group_by(Daily.name, Daily.day)
    )
    by_day: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for name, day, subjects in rows:
        by_day[day][name] = int(subjects)
    found: list[NewVersion] = []
    newest: tuple[int, int, int] | None = None
    for day, counts in sorted(by_day.items()):
        known = sorted((number, name) for name in counts if (number := _numbers(name)) is not None)
        if newest is not None:
            found += [
                NewVersion(version=name, day=date_of(day), subjects=by_day[max(by_day)].get(name, 0))
                for number, name in known
                if number > newest
            ]
        newest = max([*([] if newest is None else [newest]), *(number for number, _ in known)], default=None)
    return tuple(reversed(found[-MOST_VERSIONS:]))


def _numbers(version: str) -> tuple[int, int, int] | None:
    try:
        return read_version(version)
    except ValueError:
        return None  # none at all, or one that a host reported in words of its own


def read_shifts(session: Session, overview: Overview, until: datetime) -> Shifts:
    """What an overview counts otherwise than the last day before today did."""
    group_id = None if overview.group is None else overview.group.id
    today = day_number(until)
    day = session.scalar(
        select(func.max(Daily.day)).where(Daily.day < today, Daily.what == "subjects", *_in_group(group_id))
    )
    if day is None:
        return Shifts(day=None, shifts=())
    before: dict[tuple[str, str], int] = {}
    rows = session.execute(
        select(Daily.what, Daily.name, Daily.value, func.sum(Daily.subjects))
        .where(Daily.day == day, *_in_group(group_id))
        .group_by(Daily.what, Daily.name, Daily.value)
    )
    for what, name, value, subjects in rows:
        # Of an outcome the engine follows it; what is compared is "blocked" of patterns and of commands.
        if what in ("version", "subjects") or value.split(" ")[0] == "blocked":
            before[what, name] = before.get((what, name), 0) + int(subjects)
    after: dict[tuple[str, str], int] = {("subjects", ""): overview.counted}
    after |= {("pattern", one.pattern): one.blocked for one in overview.patterns}
    after |= {("workflow", one.workflow): one.blocked for one in overview.workflows}
    after |= {("version", one.version): one.subjects for one in overview.versions}
    known = {
        "pattern": {one.id for one in catalogue.load().patterns},
        "workflow": {one.id for one in catalogue.load().workflows},
    }
    shifts = [
        Shift(what=what, name=name, before=before.get((what, name), 0), now=after.get((what, name), 0))  # type: ignore[arg-type]  # what: one of the words above
        for what, name in before.keys() | after.keys()
        if what not in known or name in known[what]
    ]
    changed = [one for one in shifts if one.by]
    return Shifts(day=date_of(day), shifts=tuple(sorted(changed, key=lambda one: (-abs(one.by), one.what, one.name))))


def day_number(at: datetime) -> int:
    """Days since 1970 of a time, in UTC.

    >>> from app.db.base import from_ms
    >>> day_number(from_ms(2 * DAY_MS + 1))
    2
    """
    return to_ms(at) // DAY_MS


def date_of(day: int) -> date:
    """The date of a number of days since 1970.

    >>> date_of(2)
    datetime.date(1970, 1, 3)
    """
    return date(1970, 1, 1) + timedelta(days=day)


def _in_group(group_id: int | None) -> tuple[ColumnElement[bool], ...]:
    return () if group_id is None else (Daily.group_id == group_id,)
