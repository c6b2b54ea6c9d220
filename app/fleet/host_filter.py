"""How the hosts that fit a filter are found: from the few subjects that have it, or by walking hosts in their order.

The tallies say which is shorter. Where many have something, a page is full after a short walk, in those groups where
somebody has it at all; where few have it, they are found by their sets. What hosts report is looked for among those
in the counts: silent and revoked ones are listed by their standing.
"""

from __future__ import annotations

from array import array
from dataclasses import replace

from sqlalchemy import ColumnElement, Select, false, func, select, union_all
from sqlalchemy.orm import Session

from app.db.paging import comes_after
from app.fleet.absence import SILENT
from app.fleet.host_conditions import Condition, find_conditions, most_that_fit
from app.fleet.host_wanted import OUTCOME_GROUPS as OUTCOME_GROUPS
from app.fleet.host_wanted import HostFilter as HostFilter
from app.fleet.host_written import are_few, begins_so, count_named, find_first, written_so
from app.fleet.seen_filter import Span, count_unseen, is_listed, span_of, unseen_hosts
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET, SUBJECT_OF_HOST, Absence, Host, Subject, Tally, Unseen

FEW_SUBJECTS = 4000
"""So many subjects at most are looked up one by one."""
MAX_GROUPS_WALKED = 40
"""So many groups at most are walked side by side; of more, all hosts are walked."""
_OUTSIDE = [one.value for one in Standing if not one.in_tallies]


def fitting_hosts(
    session: Session, wanted: HostFilter, *, limit: int, after: tuple[str, int] | None = None, any_order: bool = False
) -> Select[int, str]:
    """The ids and names of the first hosts that fit, by name, `after` a name and id; or of any that fit.

    raises: InvalidError for an outcome or a uv command that there is not.
    """
    span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
    if span is not None and _is_only_seen(wanted) and is_listed(session, span):
        return unseen_hosts(span, limit=limit, after=after)
    plain = written_so(session, wanted, few=FEW_SUBJECTS)
    if after is not None:
        plain = plain.where(comes_after(Host.name, Host.id, after))
    conditions = find_conditions(session, wanted, few=FEW_SUBJECTS)
    if not conditions and wanted.standing is None:
        return plain.limit(limit) if any_order else _ordered(plain, limit)
    walked = plain.where(_fits(wanted, conditions))
    if wanted.standing is Standing.SILENT and _many_are_silent(session):
        return _ordered(walked, limit)
    have = most_that_fit(session, wanted, conditions)
    is_away = span is not None and _is_in_counts(wanted) and is_listed(session, span)
    are_looked_up = are_few(session, wanted, few=FEW_SUBJECTS)
    if span is not None and is_away and not are_looked_up and sum(have.values()) > FEW_SUBJECTS:
        only = wanted.group_id if wanted.group_id is not None else next(iter(have)) if len(have) == 1 else None
        return _walk_unseen(session, wanted, span, conditions, only, limit=limit, after=after)
    if _are_few(session, conditions, have, limit):
        among = plain.where(_among_few(wanted, conditions))
        return among.limit(limit) if any_order else _ordered(among, limit)
    groups = sorted(group for group in have if wanted.group_id in (None, group))
    if not groups:
        return _ordered(plain.where(false()), limit)
    if are_looked_up and any_order:
        return walked.limit(limit)
    if are_looked_up or len(groups) > MAX_GROUPS_WALKED:
        return _ordered(walked, limit)
    # Each group is in the order of names already: the database takes from each what comes next.
    parts = [_ordered(walked.where(Host.group_id == group), limit).subquery() for group in groups]
    if len(parts) == 1:
        return select(parts[0].c.id, parts[0].c.name)
    every = union_all(*(select(part.c.id, part.c.name) for part in parts)).subquery()
    return select(every.c.id, every.c.name).order_by(every.c.name, every.c.id).limit(limit)


def find_all_fitting(session: Session, wanted: HostFilter) -> array[int]:
    """The ids of all hosts that fit, by name: for a file. Everything is gone over once, in whatever order is quickest.

    Page by page each would look up, or walk past, the same again. Eight bytes a host.
    """
    query = written_so(session, wanted, few=0)
    conditions = find_conditions(session, wanted, few=FEW_SUBJECTS)
    if conditions or wanted.standing is not None:
        fits = [_standing(wanted), *(one.holds for one in conditions)]
        span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
        if span is not None and _is_in_counts(wanted) and is_listed(session, span):
            # As the pages list them: who is away by now, and is not in the list yet, comes with the next one.
            fits.append(Subject.id.in_(select(Unseen.subject_id).where(span.has(Unseen.last_seen_at))))
        query = query.where(Host.id.in_(select(Subject.host_id).where(*fits)))
    return array("q", session.scalars(query.with_only_columns(Host.id).order_by(Host.name, Host.id)))


def count_fitting(session: Session, wanted: HostFilter, limit: int = 1000) -> int:
    """How many hosts fit, counted up to `limit`: beyond it a page says "more than".

    Where the tallies alone say that there are many more, nothing is counted.
    """
    return count_or_tally(session, wanted, limit)[0]


def count_or_tally(session: Session, wanted: HostFilter, limit: int = 1000) -> tuple[int, int | None]:
    """As `count_fitting`; and where there are `limit` or more, how many users at most fit by the tallies, if they know.

    Nobody has counted the hosts then. The users are a good guess of how many lines a list of them has.
    """
    span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
    if span is not None and _is_only_seen(wanted) and count_unseen(session, span, limit) >= limit:
        return limit, None
    if wanted.name and wanted == HostFilter(name=wanted.name):
        named = count_named(session, wanted.name, few=FEW_SUBJECTS)
        if named <= FEW_SUBJECTS or limit <= FEW_SUBJECTS:
            return min(named, limit), None
    conditions = find_conditions(session, wanted, few=FEW_SUBJECTS)
    by_tallies = not (wanted.name or wanted.state or wanted.tag or span or wanted.agent_version is not None)
    by_tallies = by_tallies and wanted.attested is None
    many = None
    if by_tallies and wanted.standing is not Standing.SILENT:
        have = most_that_fit(session, wanted, conditions)
        many = sum(count for group, count in have.items() if wanted.group_id in (None, group))
        is_filtered = bool(conditions) or wanted.standing is not None
        if is_filtered and len(conditions) < 2 and many > max(FEW_SUBJECTS, limit):
            return limit, many
    some = fitting_hosts(session, wanted, limit=limit, any_order=True).subquery()
    count = session.scalar(select(func.count()).select_from(some)) or 0
    return count, many if count >= limit and many is not None and many >= limit else None


def _is_only_seen(wanted: HostFilter) -> bool:
    return wanted == HostFilter(seen=wanted.seen, seen_from=wanted.seen_from, seen_to=wanted.seen_to)


def _is_in_counts(wanted: HostFilter) -> bool:
    return wanted.standing is None or wanted.standing.in_tallies


def _walk_unseen(
    session: Session,
    wanted: HostFilter,
    span: Span,
    conditions: list[Condition],
    group_id: int | None,
    *,
    limit: int,
    after: tuple[str, int] | None,
) -> Select[int, str]:
    """Hosts of the list of who is away, by name: a part of all, in which as many fit. `group_id`: where all that fit
    are; None: in several.
    """
    # The last condition is the span's, which the list asks itself.
    fits = (_standing(wanted), *(one.holds for one in conditions[:-1]))
    plain = (
        written_so(session, wanted, few=FEW_SUBJECTS)
        .with_only_columns(Host.id)
        .where(Host.id == Unseen.host_id)
        .correlate(Unseen)
    )
    has_more = wanted != replace(
        wanted, name="", group_id=None, state=None, attested=None, agent_version=None, tag=None
    )
    query = unseen_hosts(span, limit=limit, after=after, fits=fits, of_host=plain.exists() if has_more else None)
    if wanted.name:
        query = query.where(begins_so(session, Unseen.name, wanted.name))
    if group_id is None:
        return query
    # A group's names often follow each other. Read first: the database plans by them.
    first, last = session.execute(
        select(func.min(Host.name), func.max(Host.name)).where(Host.group_id == group_id)
    ).one()
    return query.where(Unseen.name >= first, Unseen.name <= last) if first is not None else query


def _ordered(query: Select[int, str], limit: int) -> Select[int, str]:
    return query.order_by(Host.name, Host.id).limit(limit)


def _standing(wanted: HostFilter) -> ColumnElement[bool]:
    if wanted.standing is not None:
        return Subject.standing == wanted.standing.value
    return Subject.standing.not_in(_OUTSIDE)


def _are_few(session: Session, conditions: list[Condition], have: dict[int, int], limit: int) -> bool:
    """Whether looking up the subjects with the rarest sets takes less than walking hosts until a page is full."""
    rarest = min((sum(one.have.values()) for one in conditions), default=sum(have.values()))
    if rarest <= FEW_SUBJECTS or not conditions:
        return rarest <= FEW_SUBJECTS
    sizes: dict[int, int] = {}
    sized = select(Tally.group_id, func.sum(Tally.subjects)).where(Tally.set_id == NO_SET).group_by(Tally.group_id)
    for group, count in session.execute(sized):
        sizes[group] = int(count)
    walk = sum(min(sizes.get(group, 0), limit * sizes.get(group, 0) // count) for group, count in have.items())
    return rarest * 2 <= walk


def _many_are_silent(session: Session) -> bool:
    """By the hourly count: the silent are in no tally."""
    silent = session.scalar(select(func.sum(Absence.subjects)).where(Absence.what == SILENT)) or 0
    return silent > FEW_SUBJECTS


def _among_few(wanted: HostFilter, conditions: list[Condition]) -> ColumnElement[bool]:
    """Whether a host is among the few."""
    ids = select(Subject.host_id).where(_standing(wanted), *(one.holds for one in conditions))
    return Host.id.in_(find_first(ids, "having"))


def _fits(wanted: HostFilter, conditions: list[Condition]) -> ColumnElement[bool]:
    """Whether a host fits, asked host by host: a number, which the planner can't turn into a join with everything."""
    fitting = select(func.count()).select_from(Subject).where(SUBJECT_OF_HOST, _standing(wanted))
    return fitting.where(*(one.holds for one in conditions)).correlate(Host).scalar_subquery() > 0
