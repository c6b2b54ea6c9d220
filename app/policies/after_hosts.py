"""The hosts behind the figures of an export: where its rules are in force, where it is open, where blocked and why.

Hosts are walked in the order of their names and each user is judged as for the figures, so that list and figure agree
whatever the number of distinct policies. A walk looks at so many users at most; its cursor says where to go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Select, any_, bindparam, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.db.paging import Page, decode_cursor, encode_cursor
from app.errors import InvalidError
from app.fleet.standing import Standing
from app.fleet.tables import SUBJECT_OF_HOST, FactSet, Host, HostGroup, Subject
from app.policies.after import AfterJudge, Because, Reason, first_reason, summed
from app.policies.arrival import stage_of
from app.policies.profiles import read_profiles

PAGE_ROWS = 50
_USERS_AT_ONCE = 1000
_MOST_ROUNDS = 20
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
    after = decode_cursor(cursor, (str, int)) if cursor else None
    among = _conditions(session, judge, wanted)
    found: dict[int, HostAfter] = {}
    for _round in range(_MOST_ROUNDS):
        some = session.execute(_next_users(wanted, among, after)).all()
        judge.read_probes(row.probes_id for row in some)
        bits = _bits_of_tokens(session, judge, {row.token_id for row in some if row.token_id is not None})
        # The last host may have users beyond this batch: it is left to the next one.
        whole = len(some) < _USERS_AT_ONCE
        last = None if whole else some[-1].id
        for row in some:
            if row.id == last and row.id != some[0].id:
                break
            fits, why = _fits(
                judge, wanted, row.policy_id, row.environment_id, row.probes_id, *bits.get(row.token_id, (0, 0))
            )
            if fits and row.id not in found:
                if len(found) == rows:
                    newest = list(found.values())[-1]
                    return Page(rows=tuple(found.values()), next_cursor=encode_cursor([newest.name, newest.id]))
                found[row.id] = HostAfter(
                    id=row.id, name=row.name, group=row.group, policy_id=row.policy_id, because=why
                )
            elif fits:
                one = found[row.id]
                found[row.id] = HostAfter(
                    id=one.id,
                    name=one.name,
                    group=one.group,
                    policy_id=one.policy_id,
                    because=tuple(sorted({*one.because, *why})),
                )
            after = [row.name, row.id]
        if whole:
            return Page(rows=tuple(found.values()), next_cursor=None)
    return Page(rows=tuple(found.values()), next_cursor=encode_cursor(after) if after else None)


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
    if wanted.stage is not None and (policy_id is None or _stage(judge, policy_id) != wanted.stage):
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


def _conditions(session: Session, judge: AfterJudge, wanted: AfterFilter) -> list[ColumnElement[bool]]:
    """What nobody can fit without: so that few are found without walking all."""
    if wanted.state is None and wanted.reason is None:
        if wanted.stage is None:
            return []
        policies = [number for number in judge.policies if _stage(judge, number) == wanted.stage]
        return [_is_one_of(session, Subject.policy_id, policies)]
    profiles = read_profiles(session, judge.named)
    judge.read_probes(one.probes_id for one in profiles)
    fitting = [
        one
        for one in profiles
        if _fits(judge, wanted, one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only)[0]
    ]
    return [
        _is_one_of(session, Subject.policy_id, {one.policy_id for one in fitting}),
        _is_one_of(session, Subject.probes_id, {one.probes_id for one in fitting}),
    ]


def _next_users(
    wanted: AfterFilter, among: list[ColumnElement[bool]], after: list[str | int] | None
) -> Select[int, str, str, int | None, int | None, int | None, int | None]:
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
        .where(Subject.standing == Standing.COUNTED.value, *among)
        .order_by(Host.name, Host.id)
        .limit(_USERS_AT_ONCE)
    )
    if wanted.group_id is not None:
        query = query.where(Subject.group_id == wanted.group_id)
    if after is not None:
        name, host_id = after
        query = query.where(or_(Host.name > name, (Host.name == name) & (Host.id > host_id)), Host.name >= name)
    return query


def _is_one_of(
    session: Session, column: InstrumentedAttribute[int | None], numbers: Iterable[int | None]
) -> ColumnElement[bool]:
    """One parameter, however many there are."""
    chosen = set(numbers)
    known = sorted(number for number in chosen if number is not None)
    if session.get_bind().dialect.name == "postgresql":
        found: ColumnElement[bool] = column == any_(bindparam(None, known, type_=ARRAY(BigInteger)))
    else:
        found = column.in_(select(func.json_each(json.dumps(known)).table_valued("value").c.value))
    return or_(found, column.is_(None)) if None in chosen else found


def _bits_of_tokens(session: Session, judge: AfterJudge, ids: Iterable[int]) -> dict[int | None, tuple[int, int]]:
    """Of token sets the bits over the SIDs that rules can tell apart: enabled ones, and those for Deny only."""
    found: dict[int | None, tuple[int, int]] = {}
    if not judge.named:
        return found
    ordered = sorted(ids)
    for begin in range(0, len(ordered), 500):
        some = ordered[begin : begin + 500]
        for number, body in session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(some))):
            value = json.loads(body)
            found[number] = (_bits(judge.named, value.get("sids")), _bits(judge.named, value.get("deny_only")))
    return found


def _bits(named: tuple[str, ...], told: object) -> int:
    sids = set(told) if isinstance(told, list) else set()
    return sum(1 << place for place, sid in enumerate(named) if sid in sids)
