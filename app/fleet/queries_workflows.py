"""Which uv commands work for whom: commands by groups, and what rules would change: all from tallies.

No host and no set is read: a cell of the matrix is a handful of counts, whatever the size of the fleet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent import catalogue
from app.fleet.obstacles import after_opening, verdict_of, workflows_with
from app.fleet.queries import GroupCount, get_group, list_groups
from app.fleet.standing import Standing
from app.fleet.tables import ObstacleTally, PatternTally, WorkflowTally
from app.fleet.workflows import CLOSED_OUTCOMES, Verdict

_SHOWN = (Standing.COUNTED.value, Standing.TRIAL.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A closed pattern that a command needs: by which engine ('' if not known), for how many subjects."""

    pattern: str
    engine: str
    subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCell:
    """One uv command for some subjects: for how many it works wholly, in part, not at all, or can't be told.

    `blocked_by`: needed patterns that are closed, most subjects first; one subject may meet several. `limited_by`: the
    same of patterns that only parts of the command need.
    """

    works: int
    partly: int
    blocked: int
    unknown: int
    blocked_by: tuple[Blocker, ...] = ()
    limited_by: tuple[Blocker, ...] = ()

    @property
    def base(self) -> int:
        """Those who could tell."""
        return self.works + self.partly + self.blocked

    @property
    def can_run(self) -> int:
        return self.works + self.partly

    @property
    def verdict(self) -> Verdict:
        """In one word: `works` and `blocked` are for all of them alike."""
        if not self.base:
            return "unknown"
        if not self.can_run:
            return "blocked"
        return "works" if self.works == self.base else "partly"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowLine:
    """One uv command: for all subjects that count, and by group in the matrix's order."""

    workflow: str
    total: WorkflowCell
    groups: tuple[WorkflowCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowMatrix:
    """Every uv command by every group that has subjects. `group`: the only one that was asked for."""

    group: GroupCount | None
    groups: tuple[GroupCount, ...]
    counted: int
    lines: tuple[WorkflowLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowChange:
    """One uv command before and after some patterns are opened, in subjects."""

    workflow: str
    before: WorkflowCell
    after: WorkflowCell

    @property
    def gained(self) -> int:
        """For how many the command begins to run."""
        return self.after.can_run - self.before.can_run


def read_workflow_matrix(session: Session, group_id: int | None = None) -> WorkflowMatrix:
    """The matrix of the fleet, or of one group. Where no workstation counts yet, Linux trials stand for the fleet.

    raises: NotFoundError for an unknown group.
    """
    groups = list_groups(session)
    chosen = None if group_id is None else get_group(groups, group_id)
    counted = [one for one in groups if one.counted and not one.is_trial]
    shown = [chosen] if chosen is not None else counted or [one for one in groups if one.is_trial and one.trial]
    ids = {one.id for one in shown}
    verdicts = _verdicts(session, group_id)
    closed = _closed(session, group_id)
    lines = []
    for workflow in catalogue.load().workflows:
        cells = tuple(_cell(workflow.id, (one.id,), verdicts, closed) for one in shown)
        lines.append(WorkflowLine(workflow=workflow.id, total=_cell(workflow.id, ids, verdicts, closed), groups=cells))
    return WorkflowMatrix(
        group=chosen,
        groups=tuple(shown),
        counted=sum(one.trial if one.is_trial else one.counted for one in shown),
        lines=tuple(lines),
    )


def simulate_workflows(
    session: Session, patterns: Collection[str], group_id: int | None = None
) -> tuple[WorkflowChange, ...]:
    """What uv commands would do if AppLocker allowed these patterns, by the counts of what stands in each one's way.

    What another engine refuses stays refused. Only subjects that count are judged.
    """
    counted = _verdicts(session, group_id, (Standing.COUNTED.value,))
    before: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (_group, workflow), verdicts in counted.items():
        for verdict, subjects in verdicts.items():
            before[workflow][verdict] += subjects
    for counts in before.values():
        counts["works"] = counts.pop("open", 0) - counts.get("partly", 0)
    after = {workflow: counts.copy() for workflow, counts in before.items()}
    for workflow, word, subjects in _obstacles(session, patterns, group_id):
        verdict = after_opening(workflow, word, patterns)
        after[workflow][verdict_of(word)] -= subjects
        after[workflow][verdict] += subjects
    nobody: dict[str, int] = {}
    return tuple(
        WorkflowChange(
            workflow=workflow.id,
            before=_cell_of(before.get(workflow.id, nobody)),
            after=_cell_of(after.get(workflow.id, nobody)),
        )
        for workflow in catalogue.load().workflows
    )


def _obstacles(session: Session, patterns: Collection[str], group_id: int | None) -> Iterable[tuple[str, str, int]]:
    """(workflow, word, subjects) of the commands that need one of the patterns."""
    query = (
        select(ObstacleTally.workflow, ObstacleTally.word, func.sum(ObstacleTally.subjects))
        .where(ObstacleTally.standing == Standing.COUNTED.value, ObstacleTally.workflow.in_(workflows_with(patterns)))
        .group_by(ObstacleTally.workflow, ObstacleTally.word)
    )
    if group_id is not None:
        query = query.where(ObstacleTally.group_id == group_id)
    for workflow, word, subjects in session.execute(query):
        yield workflow, word, int(subjects)


def _cell_of(counts: Mapping[str, int]) -> WorkflowCell:
    return WorkflowCell(
        works=counts.get("works", 0),
        partly=counts.get("partly", 0),
        blocked=counts.get("blocked", 0),
        unknown=counts.get("unknown", 0),
    )


_Verdicts = Mapping[tuple[int, str], Mapping[str, int]]
_Closed = Mapping[tuple[int, str], Mapping[str, int]]


def _verdicts(session: Session, group_id: int | None, standings: Collection[int] = _SHOWN) -> _Verdicts:
    """(group, workflow) -> verdict -> subjects."""
    query = select(WorkflowTally.group_id, WorkflowTally.workflow, WorkflowTally.verdict, WorkflowTally.subjects).where(
        WorkflowTally.standing.in_(standings)
    )
    if group_id is not None:
        query = query.where(WorkflowTally.group_id == group_id)
    found: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
    for group, workflow, verdict, subjects in session.execute(query):
        found[group, workflow][verdict] = subjects
    return found


def _closed(session: Session, group_id: int | None) -> _Closed:
    """(group, pattern) -> engine -> subjects who are refused there."""
    query = select(PatternTally.group_id, PatternTally.pattern, PatternTally.engine, PatternTally.subjects).where(
        PatternTally.standing.in_(_SHOWN), PatternTally.outcome.in_(CLOSED_OUTCOMES)
    )
    if group_id is not None:
        query = query.where(PatternTally.group_id == group_id)
    found: defaultdict[tuple[int, str], defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group, pattern, engine, subjects in session.execute(query):
        found[group, pattern][engine] += subjects
    return found


def _cell(workflow_id: str, groups: Collection[int], verdicts: _Verdicts, closed: _Closed) -> WorkflowCell:
    counts: defaultdict[str, int] = defaultdict(int)
    for group in groups:
        for verdict, subjects in verdicts.get((group, workflow_id), {}).items():
            counts[verdict] += subjects
    workflow = catalogue.load().workflow(workflow_id)
    return WorkflowCell(
        works=counts["open"] - counts["partly"],
        partly=counts["partly"],
        blocked=counts["blocked"],
        unknown=counts["unknown"],
        blocked_by=_blockers(workflow.needs, groups, closed),
        limited_by=_blockers(workflow.optional, groups, closed),
    )


def _blockers(patterns: Iterable[str], groups: Collection[int], closed: _Closed) -> tuple[Blocker, ...]:
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for pattern in patterns:
        for group in groups:
            for engine, subjects in closed.get((group, pattern), {}).items():
                if subjects > 0:
                    counts[pattern, engine] += subjects
    return tuple(
        Blocker(pattern=pattern, engine=engine, subjects=subjects)
        for (pattern, engine), subjects in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
