"""The hosts behind the figures of an export: where its rules are in force, where it is open, where blocked and why.

Hosts are walked in the order of their names and each user that may fit is judged as for the figures, so that list and
figure agree whatever the number of distinct policies. A page looks at so many users at most; its cursor says where to
go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, or_, select, union_all
from sqlalchemy.orm import Session

from app.db.paging import Page, comes_after, decode_cursor, encode_cursor
from app.db.slices import is_among
from app.errors import InvalidError
from app.fleet.bodies import iterate_bodies
from app.fleet.host_filter import MAX_GROUPS_WALKED
from app.fleet.standing import Standing
from app.fleet.tables import SUBJECT_OF_HOST, Host, HostGroup, Subject
from app.policies.after_judge import AfterJudge, Because, Reason, first_reason, summed
from app.policies.after_narrow import MayFit, who_may_fit
from app.policies.arrival import stage_of

PAGE_ROWS = 50
_WINDOWS = (2_000, 10_000)
"""So many hosts are walked past first, then so many more."""
_FEW_USERS = 5_000
"""So many at most are sorted by the names of their hosts."""
_USERS_AT_ONCE = 1_000
_FIRST_USERS = 2 * PAGE_ROWS
_MOST_ROUNDS = 5
Place = list[str | int]
"""The name and id of a host."""
STAGES = ("arrived", "changed", "partly", "missing", "unreadable")
STATES = ("open", "blocked", "untold")


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterFilter:
    """Which users' hosts. `stage`: how many of the rules are in force; `state`: what came of the patterns, or of one
    `pattern`; `reason`, `detail`: why it is blocked.
    """

    stage: str | None = None
    state: str | None = None
    pattern: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    group_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAfter:
    """One host that fits. `because`: why something is blocked there, if anything is."""

    id: int
    name: str
    group: str
    policy_id: int | None
    because: tuple[Because, ...]


def list_hosts_after(
    session: Session, export_id: int, wanted: AfterFilter, cursor: str | None = None, *, rows: int = PAGE_ROWS
) -> Page[HostAfter]:
    """A page of hosts, by name. It may be short of rows although a cursor goes on: few fit among many.

    raises: NotFoundError; InvalidError for a cursor, a stage, a state or a pattern that there is not.
    """
    judge = AfterJudge(session, export_id)
    _check(wanted, judge)
    place = decode_cursor(cursor, (str, int)) if cursor else None
    found: dict[int, HostAfter] = {}
    for some, reached in _batches(session, wanted, _may_fit(session, judge, wanted), place):
        place = reached
        for row, sids, deny_only in _with_tokens(session, judge, some):
            fits, why = _fits(judge, wanted, row.policy_id, row.environment_id, row.probes_id, sids, deny_only)
            if not fits:
                continue
            one = found.get(row.id)
            if one is None and len(found) == rows:
                newest = list(found.values())[-1]
                return Page(rows=tuple(found.values()), next_cursor=encode_cursor([newest.name, newest.id]))
            found[row.id] = HostAfter(
                id=row.id,
                name=row.name,
                group=row.group,
                policy_id=row.policy_id if one is None else one.policy_id,
                because=why if one is None else tuple(sorted({*one.because, *why})),
            )
    return Page(rows=tuple(found.values()), next_cursor=encode_cursor(place) if place else None)


def _batches(
    session: Session, wanted: AfterFilter, may_fit: MayFit, after: Place | None
) -> Iterator[tuple[Sequence[Any], Place | None]]:
    """Users that may fit, by name, of whole hosts each time; and the place up to which there are no others, None at
    the end. So many at most: whoever reads all of them has a place to go on from.

    Few by the tallies are found by what they have. Else hosts are walked by name, in the groups where anybody may fit.
    """
    have = {group: count for group, count in may_fit.have.items() if wanted.group_id in (None, group)}
    if not have:
        return
    holds = may_fit.holds
    if may_fit.among_all is not None and sum(may_fit.have.values()) <= _FEW_USERS:
        is_one = (Subject.standing == Standing.COUNTED.value, may_fit.among_all)
        few = list(session.scalars(select(Subject.id).where(*is_one)))
        holds = is_among(session.connection(), Subject.id, few)
        for _round in range(_MOST_ROUNDS):
            rows = session.execute(_users(wanted, after).where(holds).limit(_USERS_AT_ONCE)).all()
            rows, after = _whole_hosts(rows)
            yield rows, after
            if after is None:
                return
        return
    for hosts in _WINDOWS:
        last = session.execute(_hosts(sorted(have), after, hosts)).one_or_none()
        query = _users(wanted, after).where(Host.group_id.in_(sorted(have)))
        if last is not None:
            query = query.where(Host.name <= last.name, or_(Host.name < last.name, Host.id <= last.id))
        if holds is not None:
            query = query.where(holds)
        rows = session.execute(query.limit(_USERS_AT_ONCE)).all()
        rows, cut = _whole_hosts(rows)
        after = cut if cut is not None or last is None else [last.name, last.id]
        yield rows, after
        if after is None:
            return


def _check(wanted: AfterFilter, judge: AfterJudge) -> None:
    if wanted.stage is not None and wanted.stage not in STAGES:
        raise InvalidError(f"Choose one of {', '.join(STAGES)}.", field="stage")
    if wanted.state is not None and wanted.state not in STATES:
        raise InvalidError(f"Choose one of {', '.join(STATES)}.", field="state")
    if wanted.pattern is not None and wanted.pattern not in judge.patterns:
        raise InvalidError("This export has no rule for such a pattern.", field="pattern")


def _stage(judge: AfterJudge, policy_id: int) -> str:
    """As the tallies count it (see `arrival.read_arrival`)."""
    return stage_of(judge.wanted, judge.policies[policy_id].rules)


def _fits(
    judge: AfterJudge,
    wanted: AfterFilter,
    policy_id: int | None,
    environment_id: int | None,
    probes_id: int | None,
    sids: int,
    deny_only: int,
) -> tuple[bool, tuple[Because, ...]]:
    if wanted.stage is not None and (policy_id not in judge.policies or _stage(judge, policy_id) != wanted.stage):
        return False, ()
    states = judge.states(policy_id, environment_id, probes_id, sids, deny_only)
    if wanted.pattern is not None:
        states = {name: state for name, state in states.items() if name == wanted.pattern}
    if wanted.state is not None and summed(states) != wanted.state:
        return False, ()
    first = first_reason(states)
    if wanted.reason is not None:
        if first is None or first.reason is not wanted.reason:
            return False, ()
        if wanted.detail is not None and first.detail != wanted.detail:
            return False, ()
    return True, () if first is None else (first,)


def _may_fit(session: Session, judge: AfterJudge, wanted: AfterFilter) -> MayFit:
    stage = wanted.stage
    return who_may_fit(
        session,
        judge,
        policies=None if stage is None else [number for number in judge.policies if _stage(judge, number) == stage],
        state=wanted.state,
        reason=wanted.reason,
        detail=wanted.detail,
        patterns=judge.patterns if wanted.pattern is None else (wanted.pattern,),
    )


def _whole_hosts(rows: Sequence[Any]) -> tuple[Sequence[Any], Place | None]:
    """Of a batch that was cut off all hosts but the last, which may have users beyond it; unless it is the only one.
    And the place where it was cut off.
    """
    if len(rows) < _USERS_AT_ONCE:
        return rows, None
    whole = [row for row in rows if row.id != rows[-1].id] or rows
    return whole, [whole[-1].name, whole[-1].id]


def _hosts(groups: Sequence[int], after: Place | None, count: int) -> Select[str, int]:
    """The name and id of the so many-th host of some groups after a place; nothing if they are fewer."""
    query = select(Host.name, Host.id).order_by(Host.name, Host.id).limit(count)
    if after is not None:
        query = query.where(comes_after(Host.name, Host.id, after))
    if len(groups) > MAX_GROUPS_WALKED:
        return query.limit(1).offset(count - 1)
    # Each group is in the order of names already: the database takes from each what comes next.
    parts = [query.where(Host.group_id == group).subquery() for group in groups]
    every = union_all(*(select(part.c.name, part.c.id) for part in parts)).subquery()
    return select(every.c.name, every.c.id).order_by(every.c.name, every.c.id).limit(1).offset(count - 1)


def _users(
    wanted: AfterFilter, after: Place | None
) -> Select[int, str, str, int | None, int | None, int | None, int | None]:
    """Counted users by the names of their hosts, after a place."""
    query = (
        select(
            Host.id,
            Host.name,
            HostGroup.name.label("group"),
            Subject.policy_id,
            Subject.environment_id,
            Subject.probes_id,
            Subject.token_id,
        )
        .join(Subject, SUBJECT_OF_HOST)
        .join(HostGroup, HostGroup.id == Host.group_id)
        .where(Subject.standing == Standing.COUNTED.value)
        .order_by(Host.name, Host.id)
    )
    if wanted.group_id is not None:
        query = query.where(Subject.group_id == wanted.group_id)
    return query if after is None else query.where(comes_after(Host.name, Host.id, after))


def _with_tokens(session: Session, judge: AfterJudge, rows: Sequence[Any]) -> Iterator[tuple[Any, int, int]]:
    """Each row with the bits of its token, after the judge has learnt its probes. The first few on their own: they
    make the page where most fit, and what the others have is read for nothing then.
    """
    for part in (rows[:_FIRST_USERS], rows[_FIRST_USERS:]):
        judge.read_probes(row.probes_id for row in part)
        bits = _bits_of_tokens(session, judge, {row.token_id for row in part if row.token_id is not None})
        for row in part:
            yield row, *bits.get(row.token_id, (0, 0))


def _bits_of_tokens(session: Session, judge: AfterJudge, ids: Iterable[int]) -> dict[int | None, tuple[int, int]]:
    """Of token sets the bits over the SIDs that rules can tell apart: enabled ones, and those for Deny only."""
    found: dict[int | None, tuple[int, int]] = {}
    if not judge.named:
        return found
    for number, body in iterate_bodies(session, ids):
        value = json.loads(body)
        found[number] = (_bits(judge.named, value.get("sids")), _bits(judge.named, value.get("deny_only")))
    return found


def _bits(named: tuple[str, ...], told: object) -> int:
    sids = set(told) if isinstance(told, list) else set()
    return sum(1 << place for place, sid in enumerate(named) if sid in sids)
