"""The sets of probes under which a uv command works or not, as a condition for the database.

The same rules as `workflows.judge_workflows`, said in the numbers by which sets are found; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select, true

from agent import catalogue
from app.errors import InvalidError
from app.fleet.probes import marks_of
from app.fleet.tables import WorkflowTally
from app.fleet.workflows import CLOSED_OUTCOMES, OPEN_OUTCOMES, VERDICTS

HasMark = Callable[[list[int]], ColumnElement[bool]]
CHOICES: tuple[str, ...] = (*VERDICTS, "runs", "told")
"""What can be listed. `runs`: it works, wholly or in part; `told`: it runs or is blocked, so that a share counts it."""


def sets_with_verdict(workflow_id: str, verdict: str, has_mark: HasMark) -> ColumnElement[bool]:
    """The condition on sets of probes. `has_mark`: that a set has one of some numbers.

    raises: InvalidError for a workflow or a verdict that there is not.
    """
    try:
        workflow = catalogue.load().workflow(workflow_id)
    except KeyError as error:
        raise InvalidError("There is no such uv command.", field="workflow") from error
    if verdict not in CHOICES:
        raise InvalidError(f"Choose one of {', '.join(CHOICES)}.", field="verdict")
    blocked = has_mark(_marks(workflow.needs, CLOSED_OUTCOMES)) if workflow.needs else false()
    if verdict == "blocked":
        return blocked
    runs = and_(true(), *(has_mark(_marks((pattern,), OPEN_OUTCOMES)) for pattern in workflow.needs))
    if verdict == "unknown":
        return and_(not_(blocked), not_(runs))
    if verdict in ("runs", "told"):
        return runs if verdict == "runs" else or_(blocked, runs)
    limited = has_mark(_marks(workflow.optional, CLOSED_OUTCOMES)) if workflow.optional else false()
    return and_(runs, limited if verdict == "partly" else not_(limited))


def count_workflow(workflow_id: str, verdict: str) -> Select[Any]:
    """How many subjects have a verdict; for `works` also those for whom it works in part."""
    stored = {"works": ("open",), "runs": ("open",), "told": ("open", "blocked")}.get(verdict, (verdict,))
    return select(func.sum(WorkflowTally.subjects)).where(
        WorkflowTally.workflow == workflow_id, WorkflowTally.verdict.in_(stored)
    )


def _marks(patterns: Iterable[str], outcomes: Iterable[str]) -> list[int]:
    return [number for pattern in patterns for outcome in outcomes for number in marks_of(pattern, outcome)]
