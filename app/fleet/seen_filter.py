"""Who was last seen in a time: from the list of those who were not seen for a day, else from the pulses.

The list is some minutes old. Whoever was seen since is known by the pulse, which is always asked as well; whoever got
to be away for a day only since is missing until the list is brought up to date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.base import now
from app.db.slices import is_among
from app.errors import InvalidError
from app.fleet.tables import PULSE_OF_SUBJECT, Pulse, Subject, Unseen
from app.fleet.unseen import AFTER, OUTSIDE, read_listed_at

SPANS = ("day", "week", "older")
TOO_OLD = timedelta(minutes=20)
"""A list that was not brought up to date for so long is not believed: the pulses are gone over instead."""
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """From one time on and before another."""

    start: datetime
    end: datetime

    def has(self, column: InstrumentedAttribute[datetime]) -> ColumnElement[bool]:
        return and_(column >= self.start, column < self.end)


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
    if last is not None:
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
    if narrow:
        # Few as a rule: to look at all subjects of a group once is quicker than to ask host by host.
        return holds, {group: min(count, few // len(sizes)) for group, count in sizes.items()}
    found = _from_pulses(session, span, few)
    if found is None:
        return holds, dict(sizes)
    ids = [subject for subject, _group in found]
    return is_among(session.connection(), Subject.id, ids), Counter(group for _, group in found)


def count_unseen(session: Session, span: Span, limit: int) -> int:
    """How many are in the list for a span, counted up to `limit`; 0 where the list knows nothing of it."""
    if not is_listed(session, span):
        return 0
    some = select(Unseen.subject_id).where(span.has(Unseen.last_seen_at)).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def unseen_hosts(span: Span, *, limit: int, after: tuple[str, int] | None) -> Select[int, str]:
    """The ids and names of the first hosts in the list, by name."""
    still = (
        select(func.count())
        .select_from(Subject)
        .join(Pulse, PULSE_OF_SUBJECT)
        .where(Subject.id == Unseen.subject_id, Subject.standing.not_in(OUTSIDE), span.has(Pulse.last_seen_at))
        .correlate(Unseen)
        .scalar_subquery()
    )
    query = select(Unseen.host_id.label("id"), Unseen.name).where(span.has(Unseen.last_seen_at), still > 0)
    if after is not None:
        name, host_id = after
        query = query.where(
            Unseen.name >= name, or_(Unseen.name > name, and_(Unseen.name == name, Unseen.host_id > host_id))
        )
    return query.group_by(Unseen.name, Unseen.host_id).order_by(Unseen.name, Unseen.host_id).limit(limit)


def has_pulse(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a subject's pulse is so."""
    return exists(select(1).select_from(Pulse).where(PULSE_OF_SUBJECT, Pulse.received > 0, condition))


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


def _from_pulses(session: Session, span: Span, few: int) -> list[tuple[int, int]] | None:
    """The subjects, with their groups, who were last seen then; None if they are many. Looked for once in a session.

    The pulses are gone over once, without anything that is joined to them.
    """
    known: dict[tuple[int, int], list[tuple[int, int]] | None] = session.info.setdefault("few_seen", {})
    # Two questions of one page are some milliseconds apart.
    key = (int(span.start.timestamp()) // 60, int(span.end.timestamp()) // 60)
    if key not in known:
        pulses = select(Pulse.subject_id).where(Pulse.received > 0, span.has(Pulse.last_seen_at))
        chosen = pulses.cte("seen_then").prefix_with("MATERIALIZED", dialect="postgresql")
        rows = session.execute(
            select(Subject.id, Subject.group_id)
            .join(chosen, chosen.c.subject_id == Subject.id)
            .where(Subject.standing.not_in(OUTSIDE))
            .limit(few + 1)
        ).all()
        known[key] = None if len(rows) > few else [(row[0], row[1]) for row in rows]
    return known[key]
