"""uv commands: which work for whom, what blocks the others, and what would work after some patterns are opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.queries import GroupCount, list_groups
from app.fleet.queries_workflows import (
    Blocker,
    WorkflowCell,
    WorkflowLine,
    WorkflowMatrix,
    read_workflow_matrix,
    simulate_workflows,
)
from app.fleet.workflows import Verdict
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.pages.overview import TELLING, can_have_rule
from app.web.templating import render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["fleet"])

MAX_COLUMNS = 8
WORKS = {
    "told": "could be tried",
    "for-all": "work for everybody",
    "for-some": "work for some",
    "for-nobody": "work for nobody",
}
VERDICT_WORDS: dict[str, str] = {
    "works": "works",
    "partly": "in part",
    "blocked": "blocked",
    "unknown": "unknown",
    "missing": "not in this uv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCell:
    """One uv command for some users, in numbers of users. `group`: null for all that count."""

    group: int | None
    verdict: Verdict
    works: int
    partly: int
    blocked: int
    unknown: int
    blocked_by: tuple[Blocker, ...]
    limited_by: tuple[Blocker, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWorkflow:
    """One uv command: which patterns it needs, and for whom it works."""

    id: str
    command: str
    title: str
    also: tuple[str, ...]
    since: str | None
    needs: tuple[str, ...]
    optional: tuple[str, ...]
    total: ApiCell
    groups: tuple[ApiCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWorkflows:
    """Every uv command by every group. `starts_nothing`: commands that start none of uv's programs, and always work."""

    counted: int
    groups: tuple[GroupCount, ...]
    workflows: tuple[ApiWorkflow, ...]
    starts_nothing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiChange:
    """One uv command before and after some patterns are opened, in numbers of users."""

    id: str
    command: str
    title: str
    runs_before: int
    runs_after: int
    blocked_after: int
    unknown_after: int


@router.get("/workflows")
def show_workflows(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    group: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
    pattern: Annotated[list[str], Query(max_length=80)] = [],  # noqa: B006 - FastAPI copies it
    works: Annotated[str, Query(pattern="^(|told|for-all|for-some|for-nobody)$")] = "",
) -> Response:
    matrix = read_workflow_matrix(session, int(group) if group else None)
    catalogue = load_catalogue()
    columns = sorted(range(len(matrix.groups)), key=lambda index: -_size(matrix.groups[index]))[:MAX_COLUMNS]
    known = {one.id: one for one in catalogue.patterns}
    chosen = tuple(dict.fromkeys(one for one in pattern if one in known))
    return render(
        request,
        "workflows/page.html",
        matrix=matrix,
        works=works,
        works_words=WORKS,
        lines=[line for line in matrix.lines if not works or _fits(line.total, works)],
        worst=worst_of(matrix),
        all_groups=[one for one in list_groups(session) if _size(one)],
        columns=columns,
        shown_as=matrix.group or next((one for one in matrix.groups if one.is_trial), None),
        shown_groups=[matrix.groups[index] for index in columns],
        workflows={one.id: one for one in catalogue.workflows},
        patterns=known,
        starts_nothing=catalogue.starts_nothing,
        words=VERDICT_WORDS,
        openable=_openable(matrix),
        chosen=chosen,
        changes=simulate_workflows(session, chosen, matrix.group.id if matrix.group else None) if chosen else (),
        hosts_of=lambda workflow, cell, group_id=None: hosts_address(matrix, workflow, cell, group_id),
    )


@api_router.get("/workflows")
def get_workflows(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> ApiWorkflows:
    """Which uv commands work for whom, and what blocks the others: the fleet, or one group."""
    matrix = read_workflow_matrix(session, group)
    catalogue = load_catalogue()
    return ApiWorkflows(
        counted=matrix.counted,
        groups=matrix.groups,
        workflows=tuple(
            ApiWorkflow(
                id=workflow.id,
                command=workflow.command,
                title=workflow.title,
                also=workflow.also,
                since=workflow.since,
                needs=workflow.needs,
                optional=workflow.optional,
                total=_api_cell(None, line.total),
                groups=tuple(_api_cell(one.id, cell) for one, cell in zip(matrix.groups, line.groups, strict=True)),
            )
            for workflow, line in zip(catalogue.workflows, matrix.lines, strict=True)
        ),
        starts_nothing=catalogue.starts_nothing,
    )


@api_router.get("/workflows/after")
def get_workflows_after(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    pattern: Annotated[list[str], Query(max_length=80)],
    group: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> list[ApiChange]:
    """Which uv commands would work if AppLocker allowed these patterns. What other engines refuse stays refused."""
    catalogue = load_catalogue()
    unknown = set(pattern) - {one.id for one in catalogue.patterns}
    if unknown:
        raise InvalidError(f"There is no pattern {min(unknown)[:80]!a}.", field="pattern")
    return [
        ApiChange(
            id=change.workflow,
            command=catalogue.workflow(change.workflow).command,
            title=catalogue.workflow(change.workflow).title,
            runs_before=change.before.can_run,
            runs_after=change.after.can_run,
            blocked_after=change.after.blocked,
            unknown_after=change.after.unknown,
        )
        for change in simulate_workflows(session, set(pattern), group)
    ]


def _fits(cell: WorkflowCell, works: str) -> bool:
    """Whether a command is among those that `works` asks for: of those that somebody could try."""
    if not cell.base:
        return False
    kind = "for-nobody" if not cell.can_run else "for-some" if cell.blocked else "for-all"
    return works in ("told", kind)


def worst_of(matrix: WorkflowMatrix) -> WorkflowLine | None:
    """The command to speak of first: one that tells most of those that are blocked for many, else the most blocked."""
    blocked = {line.workflow: line for line in matrix.lines if line.total.blocked}
    often = {name for name, line in blocked.items() if line.total.blocked * 2 >= line.total.base}
    return next(
        (blocked[name] for name in TELLING if name in often),
        max(blocked.values(), key=lambda line: line.total.blocked, default=None),
    )


def hosts_address(matrix: WorkflowMatrix, workflow: str, cell: WorkflowCell, group_id: int | None = None) -> str:
    """The list of the hosts that a cell is about: those that are blocked, if any are."""
    verdict = "blocked" if cell.blocked else "partly" if cell.partly else "works" if cell.works else "unknown"
    filters = {"workflow": workflow, "verdict": verdict}
    if group_id is not None or matrix.group is not None:
        filters["group"] = str(group_id or (matrix.group.id if matrix.group else ""))
    is_trial = any(one.is_trial for one in matrix.groups)
    return f"/hosts?{urlencode(filters | {'standing': 'trial' if is_trial else 'counted'})}"


def _size(group: GroupCount) -> int:
    return group.trial if group.is_trial else group.counted


def _api_cell(group_id: int | None, cell: WorkflowCell) -> ApiCell:
    return ApiCell(
        group=group_id,
        verdict=cell.verdict,
        works=cell.works,
        partly=cell.partly,
        blocked=cell.blocked,
        unknown=cell.unknown,
        blocked_by=cell.blocked_by,
        limited_by=cell.limited_by,
    )


def _openable(matrix: WorkflowMatrix) -> tuple[str, ...]:
    """The closed patterns that commands need and a rule of AppLocker's can open."""
    known = {pattern.id: pattern for pattern in load_catalogue().patterns}
    closed = {
        blocker.pattern: None
        for line in matrix.lines
        for blocker in line.total.blocked_by
        if blocker.engine in ("", "applocker") and can_have_rule(known[blocker.pattern])
    }
    return tuple(closed)
