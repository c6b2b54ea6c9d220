"""Who was last seen in a time: from the list of those who were not seen for a day, else from the pulses.

The list is some minutes old. Whoever was seen since is known by the pulse, which is always asked as well; whoever got
to be away for a day only since is missing until the list is brought up to date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, Engine, Select, and_, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.base import now
from app.db.paging import comes_after
from app.db.slices import is_among
from app.errors import InvalidError
from app.fleet.tables import PULSE_OF_SUBJECT, Pulse, Subject, Unseen
from app.fleet.unseen import AFTER, OUTSIDE, read_listed_at

SPANS = ("day", "week", "older")
TOO_OLD = timedelta(minutes=20)
"""A list that was not brought up to date for so long is not believed: the pulses are gone over instead."""
KEPT_S, MOST_KEPT = 300.0, 16
"""Who was found in the pulses is remembered so long, for so many spans."""
MOST_OF_DAYS = 20_000
"""Of days that are over so many at most; of more, hosts are walked."""
LATE = timedelta(minutes=5)
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From one time on and before another."""

    start: datetime
    end: datetime

    @property
    def is_over(self) -> bool:
        """Whether it ended with a day some minutes ago: reports that came in then are recorded by now."""
        return (self.start.time(), self.end.time()) == (time(), time()) and self.end < now() - LATE

    def has(self, column: InstrumentedAttribute[datetime]) -> ColumnElement[bool]:
        return and_(column >= self.start, column < self.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Who was last seen in a span (None: many), and by the clock of this process when. Who they are stays so; their
    groups do not.
    """

    at_s: float
    subjects: list[int] | None


_KEPT: WeakKeyDictionary[Engine, dict[tuple[int, int], _Found]] = WeakKeyDictionary()
"""By database: days that are over."""


def span_of(seen: str | None, first: date | None, last: date | None) -> Span | None:
    """The time that a filter asks for; None where it asks for none. raises: InvalidError for a word that is none."""
    if seen is None and first is None and last is None:
        return None
    at = now()
    # Of those who are seen right now the clock of another process may be ahead.
    start, end = _EVER, at + timedelta(days=1)
    if seen == "day":
        start = at - timedelta(days=1)
    elif seen == "week":
        start, end = at - timedelta(days=7), at - timedelta(days=1)
    elif seen == "older":
        end = at - timedelta(days=7)
    elif seen is not None:
        raise InvalidError(f"Choose one of {', '.join(SPANS)}.", field="seen")
    if first is not None:
        start = max(start, datetime.combine(first, time(), UTC))
    if last is not None and last < date.max:
        end = min(end, datetime.combine(last, time(), UTC) + timedelta(days=1))
    return Span(start, end)


def seen_then(
    session: Session, span: Span, sizes: Mapping[int, int], *, few: int, narrow: bool, in_counts: bool
) -> tuple[ColumnElement[bool], dict[int, int]]:
    """Whether a subject was last seen in the span, and how many at most were, by group. `sizes`: all, by group.

    `narrow`: few hosts are looked at anyway, so that all of them may be asked; `in_counts`: nobody else is asked for.
    """
    holds = has_pulse(span.has(Pulse.last_seen_at))
    if span.end > now():
        return holds, dict(sizes)  # of many hosts there is somebody whom it takes in
    if in_counts and is_listed(session, span):
        if count_unseen(session, span, few + 1) > few:
            return holds, dict(sizes)
        rows = _first(session, span, few)
        ids = [subject for subject, _group in rows]
        return and_(is_among(session.connection(), Subject.id, ids), holds), Counter(group for _, group in rows)
    if narrow and not (in_counts and span.is_over):
        # Few as a rule: to look at all subjects of a group once is quicker than to ask host by host.
        return holds, {group: min(count, few // len(sizes)) for group, count in sizes.items()}
    found = _from_pulses(session, span, MOST_OF_DAYS if span.is_over else few)
    if found is None:
        return holds, dict(sizes)
    subjects, groups = found
    among = is_among(session.connection(), Subject.id, subjects)
    return (and_(among, holds) if span.is_over else among), groups


def count_unseen(session: Session, span: Span, limit: int) -> int:
    """How many are in the list for a span, counted up to `limit`; 0 where the list knows nothing of it."""
    if not is_listed(session, span):
        return 0
    some = select(Unseen.subject_id).where(span.has(Unseen.last_seen_at)).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def unseen_hosts(
    span: Span,
    *,
    limit: int,
    after: tuple[str, int] | None,
    fits: Iterable[ColumnElement[bool]] = (),
    of_host: ColumnElement[bool] | None = None,
) -> Select[int, str]:
    """The ids and names of the first hosts in the list, by name. `fits`: what the subject must have besides; `of_host`:
    what is asked of the list's line, as of the host that it names.
    """
    still = (
        select(func.count())
        .select_from(Subject)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(Subject.id == Unseen.subject_id, Subject.standing.not_in(OUTSIDE), span.has(Pulse.last_seen_at))
        .where(*fits)
        .correlate(Unseen)
        .scalar_subquery()
    )
    query = select(Unseen.host_id.label("id"), Unseen.name).where(span.has(Unseen.last_seen_at), still > 0)
    if of_host is not None:
        query = query.where(of_host)
    if after is not None:
        query = query.where(comes_after(Unseen.name, Unseen.host_id, after))
    return query.group_by(Unseen.name, Unseen.host_id).order_by(Unseen.name, Unseen.host_id).limit(limit)


def has_pulse(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a subject's pulse is so."""
    found = select(1).select_from(Pulse).where(PULSE_OF_SUBJECT, Pulse.received > 0, condition)
    return exists(found.correlate(Subject))


def is_listed(session: Session, span: Span) -> bool:
    """Whether the list knows all of a span, but for some minutes."""
    known: dict[str, datetime | None] = session.info.setdefault("unseen_listed_at", {})
    if "at" not in known:
        known["at"] = read_listed_at(session)
    at = known["at"]
    return at is not None and at > now() - TOO_OLD and span.end <= at - AFTER + TOO_OLD


def _first(session: Session, span: Span, limit: int) -> list[tuple[int, int]]:
    """Subjects in the list for a span, with their groups."""
    chosen = (
        select(Unseen.subject_id)
        .where(span.has(Unseen.last_seen_at))
        .limit(limit)
        .cte("seen_then")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    rows = session.execute(select(Subject.id, Subject.group_id).join(chosen, chosen.c.subject_id == Subject.id))
    return [(row[0], row[1]) for row in rows]


def _from_pulses(session: Session, span: Span, few: int) -> tuple[list[int], dict[int, int]] | None:
    """The subjects who were last seen then, or were some minutes ago, and how many in each group; None if many.

    The pulses are gone over once, without anything that is joined to them. Nobody comes to be last seen on a day that
    is over: whoever asks each pulse of those who were found again, misses nobody.
    """
    if span.is_over:
        kept = _KEPT.setdefault(session.get_bind().engine, {})
    else:
        kept = session.info.setdefault("few_seen", {})
    # Two questions of one page are some milliseconds apart.
    key = (int(span.start.timestamp()) // 60, int(span.end.timestamp()) // 60)
    at_s = monotonic()
    for old in [one for one, found in list(kept.items()) if at_s - found.at_s > KEPT_S] or list(kept)[: 1 - MOST_KEPT]:
        kept.pop(old, None)
    groups: dict[tuple[int, int], dict[int, int]] = session.info.setdefault("groups_seen", {})
    found = kept.get(key)
    if found is None:
        pulses = select(Pulse.subject_id).where(Pulse.received > 0, span.has(Pulse.last_seen_at))
        chosen = pulses.cte("seen_then").prefix_with("MATERIALIZED", dialect="postgresql")
        rows = session.execute(
            select(Subject.id, Subject.group_id)
            .join(chosen, chosen.c.subject_id == Subject.id)
            .where(Subject.standing.not_in(OUTSIDE))
            .limit(few + 1)
        ).all()
        found = kept[key] = _Found(at_s=at_s, subjects=None if len(rows) > few else [row[0] for row in rows])
        groups[key] = Counter(row[1] for row in rows)
    if found.subjects is None:
        return None
    if key not in groups:
        # Somebody may have been moved since.
        of_each = select(Subject.group_id, func.count()).group_by(Subject.group_id)
        rows = session.execute(of_each.where(is_among(session.connection(), Subject.id, found.subjects))).all()
        groups[key] = {row[0]: row[1] for row in rows}
    return found.subjects, groups[key]
