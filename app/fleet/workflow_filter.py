"""Which hosts' sets of probes and which counts belong to a uv command and a verdict."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from agent import catalogue
from app.errors import InvalidError
from app.fleet.judged import sets_judged
from app.fleet.tables import WorkflowTally
from app.fleet.workflows import VERDICTS

CHOICES: tuple[str, ...] = (*VERDICTS, "runs", "told")
"""What can be listed. `runs`: it works, wholly or in part; `told`: it runs or is blocked, so that a share counts it."""
_TOGETHER = {"runs": ("works", "partly"), "told": ("works", "partly", "blocked")}


def sets_with_verdict(workflow_id: str, verdict: str) -> Select[int]:
    """The ids of the sets of probes in the counts under which a command has a verdict.

    raises: InvalidError for a workflow or a verdict that there is not.
    """
    if workflow_id not in {one.id for one in catalogue.load().workflows}:
        raise InvalidError("There is no such uv command.", field="workflow")
    if verdict not in CHOICES:
        raise InvalidError(f"Choose one of {', '.join(CHOICES)}.", field="verdict")
    return sets_judged(workflow_id, _TOGETHER.get(verdict, (verdict,)))


def count_workflow(workflow_id: str, verdict: str) -> Select[Any]:
    """How many subjects have a verdict; for `works` also those for whom it works in part."""
    stored = {"works": ("open",), "runs": ("open",), "told": ("open", "blocked")}.get(verdict, (verdict,))
    return select(func.sum(WorkflowTally.subjects)).where(
        WorkflowTally.workflow == workflow_id, WorkflowTally.verdict.in_(stored)
    )
