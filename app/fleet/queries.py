"""What the pages about patterns show, from tallies alone: as fast with a million hosts as with ten."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, literal, select, text
from sqlalchemy.orm import Session

from agent import catalogue
from app.errors import NotFoundError
from app.fleet.standing import HostState, Standing
from app.fleet.tables import NO_SET, Host, HostGroup, PatternTally, Tally, VersionTally, WorkflowTally
from app.fleet.workflows import CLOSED_OUTCOMES

COUNTED_TO = 100_000
"""So many hosts are counted one by one at most."""

JUDGED_OUTCOMES = ("allowed", "blocked", "audited", "denied")
"""Outcomes that say something about a pattern; the others say that nothing was tried or learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a base. `ratio` is None when the base is empty."""

    part: int
    base: int

    @property
    def ratio(self) -> float | None:
        return self.part / self.base if self.base else None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """A group and its subjects by standing. `is_trial`: Linux hosts, outside fleet shares."""

    id: int
    name: str
    source: str
    counted: int
    administrators: int
    not_enforcing: int
    trial: int
    quarantined: int

    @property
    def is_trial(self) -> bool:
        return self.source == "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternCount:
    """What came of one pattern among the subjects that count. `base`: those with a judged outcome."""

    pattern: str
    allowed: int
    blocked: int
    audited: int
    denied: int
    unjudged: int
    engines: tuple[tuple[str, int], ...]
    """Who blocked, and for how many, most first."""
    blocked_since_at: datetime | None

    @property
    def base(self) -> int:
        return self.allowed + self.blocked + self.audited + self.denied

    @property
    def blocked_share(self) -> Share:
        return Share(part=self.blocked, base=self.base)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCount:
    """For how many subjects a uv command is open, blocked, or can't be told."""

    workflow: str
    open: int
    blocked: int
    unknown: int

    @property
    def base(self) -> int:
        return self.open + self.blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCount:
    """Subjects whose uv has a version ('' where none was found)."""

    version: str
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The fleet at a glance. Shares are over `counted` subjects: enforcing, not administrators, recently seen."""

    group: GroupCount | None
    groups: tuple[GroupCount, ...]
    counted: int
    patterns: tuple[PatternCount, ...]
    """Every pattern that was tried, the most blocked first."""
    workflows: tuple[WorkflowCount, ...]
    versions: tuple[VersionCount, ...]

    @property
    def blocked_patterns(self) -> tuple[PatternCount, ...]:
        return tuple(one for one in self.patterns if one.blocked)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternInGroup:
    """One pattern's counts in one group."""

    group: GroupCount
    count: PatternCount


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternDetail:
    """One pattern: fleet-wide (without trials) and by group (with them)."""

    pattern: str
    total: PatternCount
    groups: tuple[PatternInGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Blocked shares by pattern and group."""

    groups: tuple[GroupCount, ...]
    rows: tuple[tuple[str, tuple[Share, ...]], ...]
    """Pattern and one share per group, in the order of `groups`."""


def list_groups(session: Session) -> tuple[GroupCount, ...]:
    """All groups with their subjects, by name; trials last."""
    counts: defaultdict[int, dict[int, int]] = defaultdict(dict)
    tallied = select(Tally.group_id, Tally.standing, Tally.subjects).where(Tally.set_id == NO_SET)
    for group_id, standing, subjects in session.execute(tallied):
        counts[group_id][standing] = subjects
    groups = [
        GroupCount(
            id=group.id,
            name=group.name,
            source=group.source,
            counted=counts[group.id].get(Standing.COUNTED, 0),
            administrators=counts[group.id].get(Standing.ADMINISTRATOR, 0),
            not_enforcing=counts[group.id].get(Standing.NOT_ENFORCING, 0),
            trial=counts[group.id].get(Standing.TRIAL, 0),
            quarantined=counts[group.id].get(Standing.QUARANTINED, 0),
        )
        for group in session.execute(select(HostGroup.id, HostGroup.name, HostGroup.source))
    ]
    return tuple(sorted(groups, key=lambda group: (group.is_trial, group.name.casefold())))


def get_group(groups: tuple[GroupCount, ...], group_id: int) -> GroupCount:
    """The group of an id.

    raises: NotFoundError.
    """
    for group in groups:
        if group.id == group_id:
            return group
    raise NotFoundError("There is no such group.", field="group")


def read_overview(session: Session, group_id: int | None = None) -> Overview:
    """The fleet, or one group of it.

    raises: NotFoundError for an unknown group.
    """
    groups = list_groups(session)
    group = None if group_id is None else get_group(groups, group_id)
    standing = _standing_of(group)
    counted = (
        group.trial if group is not None and group.is_trial else sum(one.counted for one in _chosen(groups, group))
    )
    return Overview(
        group=group,
        groups=groups,
        counted=counted,
        patterns=_rank(_pattern_counts(session, standing, group_id)),
        workflows=_workflow_counts(session, standing, group_id),
        versions=_version_counts(session, standing, group_id),
    )


def read_pattern(session: Session, pattern: str) -> PatternDetail:
    """One pattern of the catalogue, whether or not anybody tried it.

    raises: NotFoundError for an id that the catalogue doesn't have.
    """
    try:
        catalogue.load().pattern(pattern)
    except KeyError as error:
        raise NotFoundError("There is no such pattern.", field="pattern") from error
    rows = session.execute(
        select(
            PatternTally.group_id,
            PatternTally.standing,
            PatternTally.outcome,
            PatternTally.engine,
            PatternTally.subjects,
            PatternTally.since_at,
        ).where(
            PatternTally.pattern == pattern, PatternTally.standing.in_((Standing.COUNTED.value, Standing.TRIAL.value))
        )
    ).all()
    by_group: defaultdict[int, list[_Counted]] = defaultdict(list)
    total: list[_Counted] = []
    for group_id, standing, outcome, engine, subjects, since_at in rows:
        by_group[group_id].append((outcome, engine, subjects, since_at))
        if standing == Standing.COUNTED:
            total.append((outcome, engine, subjects, since_at))
    groups = [
        PatternInGroup(group=group, count=_pattern_count(pattern, by_group[group.id]))
        for group in list_groups(session)
        if group.id in by_group
    ]
    return PatternDetail(pattern=pattern, total=_pattern_count(pattern, total), groups=tuple(groups))


def read_heat_map(session: Session) -> HeatMap:
    """Which patterns are blocked where: patterns that are blocked anywhere, by groups that have subjects."""
    groups = tuple(group for group in list_groups(session) if group.counted and not group.is_trial)
    parts: defaultdict[tuple[str, int], int] = defaultdict(int)
    bases: defaultdict[tuple[str, int], int] = defaultdict(int)
    rows = session.execute(
        select(PatternTally.pattern, PatternTally.group_id, PatternTally.outcome, func.sum(PatternTally.subjects))
        .where(PatternTally.standing == Standing.COUNTED.value, PatternTally.outcome.in_(JUDGED_OUTCOMES))
        .group_by(PatternTally.pattern, PatternTally.group_id, PatternTally.outcome)
    )
    for pattern, group_id, outcome, subjects in rows:
        bases[pattern, group_id] += int(subjects)
        if outcome == "blocked":
            parts[pattern, group_id] += int(subjects)
    blocked = {pattern for pattern, _group in parts}
    order = [pattern.id for pattern in catalogue.load().patterns if pattern.id in blocked]
    return HeatMap(
        groups=groups,
        rows=tuple(
            (
                pattern,
                tuple(Share(part=parts[pattern, group.id], base=bases[pattern, group.id]) for group in groups),
            )
            for pattern in order
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounts:
    """How many hosts there are, by what the server thinks of them. `is_estimate`: of the active ones, in thousands."""

    active: int
    quarantined: int
    revoked: int
    is_estimate: bool = False


def count_hosts(session: Session) -> HostCounts:
    """How many hosts are enrolled. Those in use are counted one by one, or from 100,000 on taken from statistics."""
    active = HostState.ACTIVE.value
    rows = session.execute(
        select(Host.state, func.count()).where(Host.state != literal(active, literal_execute=True)).group_by(Host.state)
    )
    counts = {state: count for state, count in rows}  # noqa: C416 - a Row is no pair to the type checker
    others = sum(counts.values())
    estimate = _estimate_hosts(session)
    if estimate is None:
        all_hosts = session.scalar(select(func.count()).select_from(Host)) or 0
    else:
        all_hosts = estimate
    return HostCounts(
        active=all_hosts - others if estimate is None else round(all_hosts - others, -3),
        quarantined=counts.get(HostState.QUARANTINED, 0),
        revoked=counts.get(HostState.REVOKED, 0),
        is_estimate=estimate is not None,
    )


def _estimate_hosts(session: Session) -> int | None:
    """How many rows PostgreSQL thinks there are, if they are too many to count for a page."""
    if session.get_bind().dialect.name != "postgresql":
        return None
    rows = session.scalar(text("SELECT CAST(reltuples AS bigint) FROM pg_class WHERE oid = CAST('host' AS regclass)"))
    return rows if rows is not None and rows >= COUNTED_TO else None


_Counted = tuple[str, str, int, datetime]


def _standing_of(group: GroupCount | None) -> int:
    return (Standing.TRIAL if group is not None and group.is_trial else Standing.COUNTED).value


def _chosen(groups: tuple[GroupCount, ...], group: GroupCount | None) -> tuple[GroupCount, ...]:
    return groups if group is None else (group,)


def _pattern_counts(session: Session, standing: int, group_id: int | None) -> list[PatternCount]:
    query = (
        select(
            PatternTally.pattern,
            PatternTally.outcome,
            PatternTally.engine,
            func.sum(PatternTally.subjects),
            func.min(PatternTally.since_at),
        )
        .where(PatternTally.standing == standing)
        .group_by(PatternTally.pattern, PatternTally.outcome, PatternTally.engine)
    )
    if group_id is not None:
        query = query.where(PatternTally.group_id == group_id)
    rows: defaultdict[str, list[_Counted]] = defaultdict(list)
    for pattern, outcome, engine, subjects, since_at in session.execute(query):
        rows[pattern].append((outcome, engine, int(subjects), since_at))
    return [_pattern_count(pattern, counted) for pattern, counted in rows.items()]


def _pattern_count(pattern: str, rows: list[_Counted]) -> PatternCount:
    outcomes: defaultdict[str, int] = defaultdict(int)
    engines: defaultdict[str, int] = defaultdict(int)
    since: list[datetime] = []
    for outcome, engine, subjects, since_at in rows:
        outcomes[outcome] += subjects
        if outcome in CLOSED_OUTCOMES and engine:
            engines[engine] += subjects
        if outcome == "blocked":
            since.append(since_at)
    return PatternCount(
        pattern=pattern,
        allowed=outcomes["allowed"],
        blocked=outcomes["blocked"],
        audited=outcomes["audited"],
        denied=outcomes["denied"],
        unjudged=sum(count for outcome, count in outcomes.items() if outcome not in JUDGED_OUTCOMES),
        engines=tuple(sorted(engines.items(), key=lambda item: (-item[1], item[0]))),
        blocked_since_at=min(since, default=None),
    )


def _rank(counts: list[PatternCount]) -> tuple[PatternCount, ...]:
    return tuple(sorted(counts, key=lambda one: (-one.blocked, -(one.blocked_share.ratio or 0.0), one.pattern)))


def _workflow_counts(session: Session, standing: int, group_id: int | None) -> tuple[WorkflowCount, ...]:
    query = (
        select(WorkflowTally.workflow, WorkflowTally.verdict, func.sum(WorkflowTally.subjects))
        .where(WorkflowTally.standing == standing)
        .group_by(WorkflowTally.workflow, WorkflowTally.verdict)
    )
    if group_id is not None:
        query = query.where(WorkflowTally.group_id == group_id)
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for workflow, verdict, subjects in session.execute(query):
        found[workflow][verdict] = int(subjects)
    return tuple(
        WorkflowCount(
            workflow=workflow.id,
            open=found[workflow.id].get("open", 0),
            blocked=found[workflow.id].get("blocked", 0),
            unknown=found[workflow.id].get("unknown", 0),
        )
        for workflow in catalogue.load().workflows
        if workflow.id in found
    )


def _version_counts(session: Session, standing: int, group_id: int | None) -> tuple[VersionCount, ...]:
    query = (
        select(VersionTally.version, func.sum(VersionTally.subjects).label("subjects"))
        .where(VersionTally.standing == standing)
        .group_by(VersionTally.version)
    )
    if group_id is not None:
        query = query.where(VersionTally.group_id == group_id)
    rows = [VersionCount(version=version, subjects=int(subjects)) for version, subjects in session.execute(query)]
    return tuple(sorted(rows, key=lambda one: (-one.subjects, one.version)))
