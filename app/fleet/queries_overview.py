"""What the overview, the patterns and the versions pages read: sums of tallies, whatever the number of hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from app.db.tables import FLEET_ORIGIN, find_setting
from app.fleet.derive import CLOSED_OUTCOMES
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET, Host, HostGroup, PatternTally, Tally, VersionTally, WorkflowTally


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """A group and its subjects that are in the shares."""

    id: int
    name: str
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternState:
    """How a pattern stands: subjects by outcome, those refused by engine and by group, since when it is refused."""

    pattern: str
    outcomes: Mapping[str, int]
    engines: Mapping[str, int]
    closed_by_group: Mapping[int, int]
    since_at: datetime | None

    @property
    def closed(self) -> int:
        """Subjects for whom uv does not get through here."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in CLOSED_OUTCOMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowState:
    """For how many subjects a uv command works, is refused, or is not known."""

    workflow: str
    open: int
    blocked: int
    unknown: int
    blocked_by_group: Mapping[int, int]

    @property
    def base(self) -> int:
        return self.open + self.blocked + self.unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCount:
    """Subjects whose uv has this version ('' = no uv found)."""

    version: str
    subjects: int
    by_group: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The fleet at a glance. Shares are over `counted`; `apart`: subjects outside the shares, by standing.

    `standing` is COUNTED, or TRIAL where there is nothing else to show yet. `patterns` has only patterns that somebody
    reported, the most refused first.
    """

    standing: Standing
    counted: int
    apart: Mapping[Standing, int]
    hosts: int
    groups: tuple[GroupCount, ...]
    patterns: tuple[PatternState, ...]
    workflows: tuple[WorkflowState, ...]
    versions: tuple[VersionCount, ...]

    @property
    def closed_patterns(self) -> tuple[PatternState, ...]:
        return tuple(state for state in self.patterns if state.closed)


def is_made_fleet(session: Session) -> bool:
    """Whether the fleet in the database was invented to try Wayleave with."""
    return find_setting(session, FLEET_ORIGIN) is not None


def read_overview(session: Session) -> Overview:
    """The fleet at a glance, in six statements."""
    subjects: defaultdict[Standing, dict[int, int]] = defaultdict(dict)
    for group_id, standing, count in session.execute(
        select(Tally.group_id, Tally.standing, Tally.subjects).where(Tally.set_id == NO_SET, Tally.subjects > 0)
    ):
        subjects[Standing(standing)][group_id] = count
    totals = {standing: sum(by_group.values()) for standing, by_group in subjects.items()}
    shown = Standing.COUNTED
    if not totals.get(shown) and totals.get(Standing.TRIAL):
        shown = Standing.TRIAL
    names = dict(session.execute(select(HostGroup.id, HostGroup.name)).tuples().all())
    groups = sorted(
        (GroupCount(id=key, name=names.get(key, f"group {key}"), subjects=n) for key, n in subjects[shown].items()),
        key=lambda group: (-group.subjects, group.name),
    )
    return Overview(
        standing=shown,
        counted=totals.get(shown, 0),
        apart={standing: count for standing, count in sorted(totals.items()) if standing != shown},
        hosts=session.scalar(select(func.count()).select_from(Host)) or 0,
        groups=tuple(groups),
        patterns=_read_patterns(session, shown),
        workflows=_read_workflows(session, shown),
        versions=_read_versions(session, shown),
    )


def _read_patterns(session: Session, standing: Standing) -> tuple[PatternState, ...]:
    outcomes: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    engines: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    by_group: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    since: dict[str, datetime] = {}
    for row in session.execute(
        select(
            PatternTally.group_id,
            PatternTally.pattern,
            PatternTally.outcome,
            PatternTally.engine,
            PatternTally.subjects,
            PatternTally.since_at,
        ).where(PatternTally.standing == standing.value, PatternTally.subjects > 0)
    ):
        outcomes[row.pattern][row.outcome] += row.subjects
        if row.outcome in CLOSED_OUTCOMES:
            engines[row.pattern][row.engine or "unknown"] += row.subjects
            by_group[row.pattern][row.group_id] += row.subjects
            since[row.pattern] = min(row.since_at, since.get(row.pattern, row.since_at))
    states = [
        PatternState(
            pattern=pattern,
            outcomes=dict(counts),
            engines=dict(sorted(engines[pattern].items(), key=lambda item: -item[1])),
            closed_by_group=dict(by_group[pattern]),
            since_at=since.get(pattern),
        )
        for pattern, counts in outcomes.items()
    ]
    return tuple(sorted(states, key=lambda state: (-state.closed, state.pattern)))


def _read_workflows(session: Session, standing: Standing) -> tuple[WorkflowState, ...]:
    verdicts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    by_group: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in session.execute(
        select(WorkflowTally.group_id, WorkflowTally.workflow, WorkflowTally.verdict, WorkflowTally.subjects).where(
            WorkflowTally.standing == standing.value, WorkflowTally.subjects > 0
        )
    ):
        verdicts[row.workflow][row.verdict] += row.subjects
        if row.verdict == "blocked":
            by_group[row.workflow][row.group_id] += row.subjects
    return tuple(
        WorkflowState(
            workflow=workflow.id,
            open=verdicts[workflow.id]["open"],
            blocked=verdicts[workflow.id]["blocked"],
            unknown=verdicts[workflow.id]["unknown"],
            blocked_by_group=dict(by_group[workflow.id]),
        )
        for workflow in load_catalogue().workflows
        if workflow.id in verdicts
    )


def _read_versions(session: Session, standing: Standing) -> tuple[VersionCount, ...]:
    by_group: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for row in session.execute(
        select(VersionTally.group_id, VersionTally.version, VersionTally.subjects).where(
            VersionTally.standing == standing.value, VersionTally.subjects > 0
        )
    ):
        by_group[row.version][row.group_id] = row.subjects
    counts = [
        VersionCount(version=version, subjects=sum(groups.values()), by_group=groups)
        for version, groups in by_group.items()
    ]
    return tuple(sorted(counts, key=lambda count: version_key(count.version), reverse=True))


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """How versions sort: numbers as numbers; none at all before all others.

    >>> sorted(["0.10.0", "0.9.2", ""], key=version_key)
    ['', '0.9.2', '0.10.0']
    """
    if not version:
        return ()
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in version.replace("-", ".").split("."))
