"""Who can fit a list of an export's hosts, said to the database: by the policy in force and by what probes found.

A state follows from the set of probes alone. So do the first reasons with the policy: what follows from the token, too,
is narrowed here and judged by whoever reads the rows. Nobody who fits is left out, whatever the number of users. The
tallies say in which groups of hosts somebody can fit at all, and how many at most.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    String,
    and_,
    any_,
    bindparam,
    cast,
    false,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.fleet.host_conditions import holds_mark
from app.fleet.probes import mark
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, NO_SET, FactSet, PatternTally, Subject, Tally
from app.policies.after_judge import REASONS_IN_ORDER, AfterJudge, Reason

_EARLY = (Reason.UNREADABLE, Reason.CHANGED, Reason.NOT_ARRIVED, Reason.INTUNE)
"""What the policy alone tells of a pattern that AppLocker blocks."""
Ids = Collection[int]
Counts = dict[int, int]
"""Of each group, how many counted subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MayFit:
    """What every subject that fits has, and few others have, asked of one subject after the other (`holds`) or of all
    at once (`among_all`); None: anybody may. `have`: by group, how many at most fit.
    """

    holds: ColumnElement[bool] | None
    among_all: ColumnElement[bool] | None
    have: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """How sets of probes are asked for numbers. `told`: those that somebody has, the fewer the quicker; `one_by_one`:
    by a subquery that returns a number, which the planner can't turn into a join with all sets.
    """

    session: Session
    judge: AfterJudge
    patterns: Sequence[str]
    told: frozenset[int]
    one_by_one: bool


def who_may_fit(
    session: Session,
    judge: AfterJudge,
    *,
    policies: Ids | None,
    state: str | None,
    reason: Reason | None,
    detail: str | None,
    patterns: Sequence[str],
) -> MayFit:
    """Narrows a list before users are looked at. `policies`: those of a stage; None: any."""
    sizes = _count_sets(session, (NO_SET,))
    counts = [sizes]
    if policies is not None:
        counts.append(_count_sets(session, policies))
    by_mark = _count_marks(session, patterns) if state is not None or reason is not None else {}
    marks = judge.marks(patterns)
    others = tuple(number for number, engine in marks.others if detail in (None, engine))
    if state is not None:
        counts.append(_count_state(judge, state, patterns, sizes, by_mark))
    if reason is not None:
        counts.append(_summed(by_mark, others if reason is Reason.OTHER_ENGINE else marks.ours))
        if reason not in (Reason.OTHER_ENGINE, Reason.UNREADABLE):  # these have those without a policy, too
            counts.append(_count_sets(session, _policies_for(judge, reason, patterns)))
    have = {group: min(one.get(group, 0) for one in counts) for group in sizes}

    def ask(*, one_by_one: bool) -> ColumnElement[bool] | None:
        asking = _Asking(
            session=session, judge=judge, patterns=patterns, told=frozenset(by_mark), one_by_one=one_by_one
        )
        found = [] if policies is None else [_is_one_of(session, Subject.policy_id, policies)]
        if state is not None:
            found.append(_in_state(asking, state))
        if reason is not None:
            is_other = reason is Reason.OTHER_ENGINE
            found.append(_says(asking, others) if is_other else _for_reason(asking, reason))
        return and_(*found) if found else None

    return MayFit(
        holds=ask(one_by_one=True),
        among_all=ask(one_by_one=False),
        have={group: count for group, count in have.items() if count > 0},
    )


def _policies_for(judge: AfterJudge, reason: Reason, patterns: Sequence[str]) -> list[int]:
    """The policies under which a pattern may be blocked for a reason."""
    wanted = reason if reason in _EARLY else None
    return [number for number in judge.policies if any(judge.early_reason(number, one) is wanted for one in patterns)]


def _count_sets(session: Session, sets: Ids) -> Counts:
    if not sets:
        return {}
    query = select(Tally.group_id, func.sum(Tally.subjects)).where(
        Tally.standing == Standing.COUNTED.value, _is_one_of(session, Tally.set_id, sets)
    )
    return {group: int(count) for group, count in session.execute(query.group_by(Tally.group_id))}


def _count_marks(session: Session, patterns: Sequence[str]) -> dict[int, Counts]:
    """By the number that sets of probes have for an outcome at a pattern."""
    found: dict[int, Counts] = defaultdict(lambda: defaultdict(int))
    query = select(PatternTally).where(
        PatternTally.standing == Standing.COUNTED.value, PatternTally.pattern.in_(patterns)
    )
    columns = (PatternTally.pattern, PatternTally.outcome, PatternTally.engine)
    for pattern, outcome, engine, group, count in session.execute(
        query.with_only_columns(*columns, PatternTally.group_id, PatternTally.subjects)
    ):
        if count > 0:
            found[mark(pattern, outcome, engine)][group] += count
    return found


def _summed(by_mark: Mapping[int, Counts], numbers: Ids) -> Counts:
    found: Counts = defaultdict(int)
    for number in numbers:
        for group, count in by_mark.get(number, {}).items():
            found[group] += count
    return found


def _count_state(
    judge: AfterJudge, state: str, patterns: Sequence[str], sizes: Counts, by_mark: Mapping[int, Counts]
) -> Counts:
    """How many at most are in a state: who is not blocked, or not told of, is less than at any one pattern."""
    marks = judge.marks(patterns)
    if state == "blocked":
        return _summed(by_mark, marks.blocked)
    each = [judge.marks((pattern,)) for pattern in patterns]
    lacking = [_summed(by_mark, one.blocked if state == "open" else (*one.open, *one.blocked)) for one in each]
    rest = {group: min(size - one.get(group, 0) for one in lacking) for group, size in sizes.items()}
    if state == "untold":
        return rest
    opened = _summed(by_mark, marks.open)
    return {group: min(count, opened.get(group, 0)) for group, count in rest.items()}


def _in_state(asking: _Asking, state: str) -> ColumnElement[bool]:
    marks = asking.judge.marks(asking.patterns)
    if state == "blocked":
        return _says(asking, marks.blocked)
    if state == "open":
        return _says(asking, marks.open, marks.blocked)
    return or_(Subject.probes_id.is_(None), not_(_says(asking, (*marks.open, *marks.blocked))))


def _for_reason(asking: _Asking, reason: Reason) -> ColumnElement[bool]:
    """For each kind of policy: AppLocker blocks a pattern that has the reason there, and nothing comes before it."""
    judge, patterns = asking.judge, asking.patterns
    others = [number for number, _engine in judge.marks(patterns).others]
    before = frozenset(REASONS_IN_ORDER[: REASONS_IN_ORDER.index(reason)])
    # Of what the token decides nobody knows here which of the later reasons it is.
    wanted = reason if reason in _EARLY else None
    kinds: dict[tuple[Reason | None, ...], list[int]] = defaultdict(list)
    for number in judge.policies:
        kinds[tuple(judge.early_reason(number, pattern) for pattern in patterns)].append(number)

    def probes_of(early: Sequence[Reason | None]) -> ColumnElement[bool]:
        chosen = [pattern for pattern, one in zip(patterns, early, strict=True) if one is wanted]
        earlier = [pattern for pattern, one in zip(patterns, early, strict=True) if one in before]
        return _says(asking, judge.marks(chosen).ours, (*others, *judge.marks(earlier).ours))

    found = [and_(_is_one_of(asking.session, Subject.policy_id, ids), probes_of(early)) for early, ids in kinds.items()]
    unknown = or_(Subject.policy_id.is_(None), not_(_is_one_of(asking.session, Subject.policy_id, judge.policies)))
    return or_(*found, and_(unknown, probes_of([judge.early_reason(None, pattern) for pattern in patterns])))


def _says(asking: _Asking, some: Ids, none: Ids = ()) -> ColumnElement[bool]:
    """Whether a subject's set of probes has one of some numbers and none of others. Not true without a set."""
    these, not_these = [one for one in some if one in asking.told], [one for one in none if one in asking.told]
    if not these:
        return false()
    fits = [FactSet.kind == KIND_NUMBERS["probes"], holds_mark(asking.session, these)]
    if not_these:
        fits.append(not_(holds_mark(asking.session, not_these)))
    if not asking.one_by_one:
        return Subject.probes_id.in_(select(FactSet.id).where(*fits))
    found = select(func.count()).select_from(FactSet).where(FactSet.id == Subject.probes_id, *fits)
    return found.correlate(Subject).scalar_subquery() > 0


def _is_one_of(session: Session, column: InstrumentedAttribute[int | None], ids: Ids) -> ColumnElement[bool]:
    """However many there are: in the statement itself, where PostgreSQL sees how many subjects have them."""
    known = sorted(ids)
    if not known:
        return false()
    if session.get_bind().dialect.name == "postgresql":
        listed = bindparam(None, f"{{{','.join(map(str, known))}}}", String, literal_execute=True)
        return column == any_(cast(listed, ARRAY(BigInteger)))
    return column.in_(select(func.json_each(json.dumps(known)).table_valued("value").c.value))
