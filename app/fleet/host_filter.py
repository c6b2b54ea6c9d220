"""How the hosts that fit a filter are found: from the few subjects that have it, or by walking hosts in their order.

The tallies say which is shorter. Where many have something, a page is full after a short walk, in those groups where
somebody has it at all; where few have it, they are found by their sets. What hosts report is looked for among those
in the counts: silent and revoked ones are listed by their standing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    any_,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import BigInteger, Integer

from agent import catalogue
from agent.contract.facts import Engine
from app.errors import InvalidError
from app.fleet.absence import GAP, SILENT
from app.fleet.facts import version_mark
from app.fleet.installs import find_install_sets
from app.fleet.judged import sets_closed_by, sets_with_outcome
from app.fleet.marks import RANK
from app.fleet.probes import mark
from app.fleet.queries import JUDGED_OUTCOMES
from app.fleet.seen_filter import Span, count_unseen, has_pulse, is_listed, seen_then, span_of, unseen_hosts
from app.fleet.standing import HostState, Standing
from app.fleet.tables import (
    KIND_NUMBERS,
    NO_SET,
    SUBJECT_OF_HOST,
    Absence,
    FactSet,
    Host,
    HostTag,
    PatternTally,
    Pulse,
    Subject,
    Tally,
    Unseen,
    VersionTally,
    WorkflowTally,
)
from app.fleet.versions import versions_before
from app.fleet.workflow_filter import count_workflow, sets_with_verdict
from app.fleet.workflows import CLOSED_OUTCOMES

FEW_NAMES_FROM = 5
"""So long a beginning of a name is taken to fit few hosts."""
FEW_SUBJECTS = 4000
"""So many subjects at most are looked up one by one."""
MAX_SETS_LISTED = 5000
"""So many sets at most are named to the database."""
OUTCOME_GROUPS = {
    "tried": JUDGED_OUTCOMES,
    "untried": ("absent", "unknown", "error"),
    "closed": tuple(sorted(CLOSED_OUTCOMES)),
}
"""Outcomes that are listed together: what a share at a pattern is of, what it leaves out, what stops a command."""
MAX_GROUPS_WALKED = 40
"""So many groups at most are walked side by side; of more, all hosts are walked."""
_OUTSIDE = [one.value for one in Standing if not one.in_tallies]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFilter:
    """What to list. `name`: how the host's name begins; `outcome`: at `pattern` (there `blocked` if none is
    given), else at any; `verdict` belongs to `workflow`.

    `engine`: who blocked, at the pattern if one is named, else anywhere; `seen`: `day` (in the last 24 hours), `week`
    (before that, in the last 7 days), `older`; `seen_from` and `seen_to`: days (UTC), both included; `policy_id`: the
    set in force; `agent_version`: of the agent, '' before the first report; `older_than`: with an older uv than that;
    `install`: the pattern of the place that their uv runs from, '' for a place that none names.
    """

    name: str = ""
    group_id: int | None = None
    standing: Standing | None = None
    state: HostState | None = None
    pattern: str | None = None
    outcome: str = ""
    version: str | None = None
    older_than: str | None = None
    workflow: str | None = None
    verdict: str = "blocked"
    tag: str | None = None
    attested: bool | None = None
    has_gap: bool = False
    seen: str | None = None
    seen_from: date | None = None
    seen_to: date | None = None
    engine: str | None = None
    policy_id: int | None = None
    agent_version: str | None = None
    install: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """Whether a subject has one of certain sets, and how many of each group have."""

    holds: ColumnElement[bool]
    have: dict[int, int]


def fitting_hosts(
    session: Session, wanted: HostFilter, *, limit: int, after: tuple[str, int] | None = None, any_order: bool = False
) -> Select[int, str]:
    """The ids and names of the first hosts that fit, by name, `after` a name and id; or of any that fit.

    raises: InvalidError for an outcome or a uv command that there is not.
    """
    span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
    if span is not None and _is_only_seen(wanted) and is_listed(session, span):
        return unseen_hosts(span, limit=limit, after=after)
    plain = _plain(session, wanted)
    if after is not None:
        name, host_id = after
        plain = plain.where(or_(Host.name > name, and_(Host.name == name, Host.id > host_id)), Host.name >= name)
    conditions = _conditions(session, wanted)
    if not conditions and wanted.standing is None:
        return plain.limit(limit) if any_order else _ordered(plain, limit)
    walked = plain.where(_fits(wanted, conditions))
    if wanted.standing is Standing.SILENT and _many_are_silent(session):
        return _ordered(walked, limit)
    have = _have(session, wanted, conditions)
    is_away = span is not None and _is_in_counts(wanted) and is_listed(session, span)
    if span is not None and is_away and not _are_few_by_name(wanted) and sum(have.values()) > FEW_SUBJECTS:
        only = wanted.group_id if wanted.group_id is not None else next(iter(have)) if len(have) == 1 else None
        return _walk_unseen(session, wanted, span, conditions, only, limit=limit, after=after)
    if _are_few(session, conditions, have, limit):
        among = plain.where(_among_few(wanted, conditions))
        return among.limit(limit) if any_order else _ordered(among, limit)
    groups = sorted(group for group in have if wanted.group_id in (None, group))
    if not groups:
        return _ordered(plain.where(false()), limit)
    if _are_few_by_name(wanted) or len(groups) > MAX_GROUPS_WALKED:
        return _ordered(walked, limit)
    # Each group is in the order of names already: the database takes from each what comes next.
    parts = [_ordered(walked.where(Host.group_id == group), limit).subquery() for group in groups]
    if len(parts) == 1:
        return select(parts[0].c.id, parts[0].c.name)
    every = union_all(*(select(part.c.id, part.c.name) for part in parts)).subquery()
    return select(every.c.id, every.c.name).order_by(every.c.name, every.c.id).limit(limit)


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
    conditions = _conditions(session, wanted)
    by_tallies = not (wanted.name or wanted.state or wanted.tag or span or wanted.agent_version is not None)
    by_tallies = by_tallies and wanted.attested is None
    many = None
    if by_tallies and wanted.standing is not Standing.SILENT:
        have = _have(session, wanted, conditions)
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


def _are_few_by_name(wanted: HostFilter) -> bool:
    return len(wanted.name) >= FEW_NAMES_FROM


def _walk_unseen(
    session: Session,
    wanted: HostFilter,
    span: Span,
    conditions: list[_Condition],
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
    plain = _plain(session, wanted).with_only_columns(Host.id).where(Host.id == Unseen.host_id).correlate(Unseen)
    has_more = wanted != replace(
        wanted, name="", group_id=None, state=None, attested=None, agent_version=None, tag=None
    )
    query = unseen_hosts(span, limit=limit, after=after, fits=fits, of_host=plain.exists() if has_more else None)
    if group_id is None:
        return query
    # A group's names often follow each other. Read first: the database plans by them.
    first, last = session.execute(
        select(func.min(Host.name), func.max(Host.name)).where(Host.group_id == group_id)
    ).one()
    return query.where(Unseen.name >= first, Unseen.name <= last) if first is not None else query


def _ordered(query: Select[int, str], limit: int) -> Select[int, str]:
    return query.order_by(Host.name, Host.id).limit(limit)


def _plain(session: Session, wanted: HostFilter) -> Select[int, str]:
    """By what is written on the hosts themselves."""
    query = select(Host.id, Host.name)
    if wanted.name:
        begins = _begins_with(wanted.name)
        few = _are_few_by_name(wanted)
        query = query.where(Host.id.in_(_first(select(Host.id).where(begins), "named")) if few else begins)
        if not few and session.get_bind().dialect.name == "postgresql":
            # However the database sorts letters, no name before this begins so.
            query = query.where(Host.name >= func.least(wanted.name.lower(), wanted.name.upper()))
    if wanted.group_id is not None:
        query = query.where(Host.group_id == wanted.group_id)
    if wanted.state is not None:
        query = query.where(Host.state == wanted.state.value)
    if wanted.attested is not None:
        query = query.where(Host.attested == wanted.attested)
    if wanted.agent_version is not None:
        query = query.where(Host.agent_version == wanted.agent_version)
        if not wanted.attested:
            # Of a Linux trial nothing could be vouched for: it is not called unattested.
            query = query.where(Host.platform == "windows")
    if wanted.tag is not None:
        query = query.where(_tagged(session, wanted.tag))
    return query


def _tagged(session: Session, tag: str) -> ColumnElement[bool]:
    some = select(HostTag.host_id).where(HostTag.tag == tag)
    count = session.scalar(select(func.count()).select_from(some.limit(FEW_SUBJECTS + 1).subquery())) or 0
    if count <= FEW_SUBJECTS:
        return Host.id.in_(_first(some, "tagged"))
    return exists(
        select(1)
        .select_from(HostTag)
        .where(HostTag.tag == tag, HostTag.host_id == Host.id, HostTag.bucket == Host.bucket)
    )


def _begins_with(start: str) -> ColumnElement[bool]:
    if len(start) > 255 or "\x00" in start:
        raise InvalidError("Names are at most 255 characters.", field="name")
    pattern = start.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return func.lower(Host.name).like(pattern.lower(), escape="\\")


def _first(ids: Select[int], name: str) -> Select[int]:
    """Ids that are found before hosts are walked in order: for a page of few the planner would rather walk them all."""
    chosen = ids.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")
    return select(chosen.c[0])


def _standing(wanted: HostFilter) -> ColumnElement[bool]:
    if wanted.standing is not None:
        return Subject.standing == wanted.standing.value
    return Subject.standing.not_in(_OUTSIDE)


def _are_few(session: Session, conditions: list[_Condition], have: dict[int, int], limit: int) -> bool:
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


def _among_few(wanted: HostFilter, conditions: list[_Condition]) -> ColumnElement[bool]:
    """Whether a host is among the few."""
    ids = select(Subject.host_id).where(_standing(wanted), *(one.holds for one in conditions))
    return Host.id.in_(_first(ids, "having"))


def _fits(wanted: HostFilter, conditions: list[_Condition]) -> ColumnElement[bool]:
    """Whether a host fits, asked host by host: a number, which the planner can't turn into a join with everything."""
    fitting = select(func.count()).select_from(Subject).where(SUBJECT_OF_HOST, _standing(wanted))
    return fitting.where(*(one.holds for one in conditions)).correlate(Host).scalar_subquery() > 0


def _holds(session: Session, column: InstrumentedAttribute[int | None], ids: Select[int]) -> ColumnElement[bool]:
    """Whether a subject has one of the sets: by their ids, unless they are too many to name."""
    if session.get_bind().dialect.name != "postgresql":
        return column.in_(ids)
    known = list(session.scalars(ids.limit(MAX_SETS_LISTED + 1)))
    if len(known) <= MAX_SETS_LISTED:
        return _has_one_of(session, column, known)
    return ids.where(ids.selected_columns[0] == column).exists()


def _has_one_of(session: Session, column: InstrumentedAttribute[int | None], ids: list[int]) -> ColumnElement[bool]:
    """Whether a subject has one of these sets: on PostgreSQL one parameter, however many groups are walked."""
    if session.get_bind().dialect.name != "postgresql":
        return column.in_(ids)
    return column == any_(bindparam(None, ids, type_=ARRAY(BigInteger)))


def _have(session: Session, wanted: HostFilter, conditions: list[_Condition]) -> dict[int, int]:
    """How many subjects at most fit, by group; groups without any are left out."""
    counts = [one.have for one in conditions]
    if not counts:
        counts = [_by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)]
    fewest = {group: min(have.get(group, 0) for have in counts) for group in counts[0]}
    return {group: count for group, count in fewest.items() if count > 0}


def _by_group(session: Session, wanted: HostFilter, counting: Select[Any], tally: Any) -> dict[int, int]:
    query: Select[Any] = counting.with_only_columns(tally.group_id, func.sum(tally.subjects)).group_by(tally.group_id)
    if wanted.standing is not None:
        query = query.where(tally.standing == wanted.standing.value)
    return {group: int(count) for group, count in session.execute(query)}


def _conditions(session: Session, wanted: HostFilter) -> list[_Condition]:
    """Found once in a session: a page lists and counts."""
    known: dict[HostFilter, list[_Condition]] = session.info.setdefault("host_conditions", {})
    if wanted not in known:
        known[wanted] = _find_conditions(session, wanted)
    return known[wanted]


def _find_conditions(session: Session, wanted: HostFilter) -> list[_Condition]:
    def has_mark(numbers: list[int]) -> ColumnElement[bool]:
        return holds_mark(session, numbers)

    found = []
    span = span_of(wanted.seen, wanted.seen_from, wanted.seen_to)
    total: Select[Any]
    if wanted.pattern:
        engines = ("", *Engine) if wanted.engine is None else (wanted.engine,)
        outcomes = _outcomes(wanted.outcome or "blocked")
        numbers = [mark(wanted.pattern, outcome, engine) for outcome in outcomes for engine in engines]
        total = select(func.sum(PatternTally.subjects)).where(
            PatternTally.pattern == wanted.pattern,
            PatternTally.outcome.in_(outcomes),
            PatternTally.engine.in_(engines),
        )
        have = _by_group(session, wanted, total, PatternTally)
        found.append(_condition(session, "probes", has_mark(numbers), have))
    elif wanted.outcome or wanted.engine is not None:
        # The most that one pattern has: a lower bound of who has any, and near it where one policy blocks several.
        outcomes = _outcomes(wanted.outcome) if wanted.outcome else tuple(CLOSED_OUTCOMES)
        have = _most_at_a_pattern(session, wanted, outcomes)
        if wanted.engine is None:
            judged = sets_with_outcome(outcomes)
        elif not wanted.outcome:
            judged = sets_closed_by(wanted.engine)
        else:
            names = [one.id for one in catalogue.load().patterns]
            numbers = [mark(name, outcome, wanted.engine) for name in names for outcome in outcomes]
            judged = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS["probes"], has_mark(numbers))
        found.append(_Condition(holds=_holds(session, Subject.probes_id, judged), have=have))
    if wanted.workflow:
        judged = sets_with_verdict(wanted.workflow, wanted.verdict)
        have = _by_group(session, wanted, count_workflow(wanted.workflow, wanted.verdict), WorkflowTally)
        found.append(_Condition(holds=_holds(session, Subject.probes_id, judged), have=have))
    if wanted.version is not None:
        total = select(func.sum(VersionTally.subjects)).where(VersionTally.version == wanted.version)
        have = _by_group(session, wanted, total, VersionTally)
        sets = has_mark([version_mark(wanted.version)])
        found.append(_condition(session, "uv", sets, have))
    if wanted.older_than is not None:
        older = versions_before(session, wanted.older_than)
        total = select(func.sum(VersionTally.subjects)).where(VersionTally.version.in_(older))
        have = _by_group(session, wanted, total, VersionTally)
        found.append(_condition(session, "uv", has_mark([version_mark(one) for one in older]), have))
    if wanted.install is not None:
        ids = find_install_sets(session, wanted.install, wanted.group_id)
        have = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id.in_(ids)), Tally)
        found.append(_Condition(holds=_has_one_of(session, Subject.uv_id, ids), have=have))
    if wanted.policy_id is not None:
        total = select(func.sum(Tally.subjects)).where(Tally.set_id == wanted.policy_id)
        have = _by_group(session, wanted, total, Tally)
        found.append(_Condition(holds=Subject.policy_id == wanted.policy_id, have=have))
    if wanted.has_gap:
        counted = select(Absence.group_id, func.sum(Absence.subjects)).where(Absence.what == GAP)
        gaps = {group: int(count) for group, count in session.execute(counted.group_by(Absence.group_id))}
        # Counted once an hour: there may be some by now where there was none.
        every = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)
        gaps = {group: max(gaps.get(group, 0), 1) for group in every}
        # As it stands in the index of those that have any.
        found.append(_Condition(holds=has_pulse(Pulse.missed > literal(0, literal_execute=True)), have=gaps))
    if span is not None:
        sizes = _by_group(session, wanted, select(func.sum(Tally.subjects)).where(Tally.set_id == NO_SET), Tally)
        narrow = wanted.standing is not None or wanted.group_id is not None
        in_counts = wanted.standing is None or wanted.standing.in_tallies
        holds, have = seen_then(session, span, sizes, few=FEW_SUBJECTS, narrow=narrow, in_counts=in_counts)
        found.append(_Condition(holds=holds, have=have))
    return found


def _outcomes(word: str) -> tuple[str, ...]:
    """The outcomes that a word of the filter stands for. raises: InvalidError"""
    outcomes = OUTCOME_GROUPS.get(word, (word,))
    if not RANK.keys() >= set(outcomes):
        raise InvalidError("There is no such outcome.", field="outcome")
    return tuple(outcomes)


def _most_at_a_pattern(session: Session, wanted: HostFilter, outcomes: tuple[str, ...]) -> dict[int, int]:
    """By group, how many have one of the outcomes (from the engine that is asked for) at the pattern where most do."""
    query = select(PatternTally.group_id, PatternTally.pattern, func.sum(PatternTally.subjects)).where(
        PatternTally.outcome.in_(outcomes)
    )
    if wanted.engine is not None:
        query = query.where(PatternTally.engine == wanted.engine)
    if wanted.standing is not None:
        query = query.where(PatternTally.standing == wanted.standing.value)
    most: dict[int, int] = {}
    for group, _pattern, count in session.execute(query.group_by(PatternTally.group_id, PatternTally.pattern)):
        most[group] = max(most.get(group, 0), int(count))
    return most


def _condition(session: Session, kind: str, sets: ColumnElement[bool], have: dict[int, int]) -> _Condition:
    column = Subject.probes_id if kind == "probes" else Subject.uv_id
    ids = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS[kind], sets)
    return _Condition(holds=_holds(session, column, ids), have=have)


def holds_mark(session: Session, numbers: list[int]) -> ColumnElement[bool]:
    """Whether a set has one of the numbers."""
    if session.get_bind().dialect.name == "postgresql":
        return FactSet.facts.bool_op("&&")(cast(numbers, ARRAY(Integer)))
    each = func.json_each(FactSet.facts).table_valued("value")
    return exists(select(1).select_from(each).where(each.c.value.in_(numbers)))
