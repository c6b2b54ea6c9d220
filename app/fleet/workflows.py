"""Which uv commands work, and what stands in the way: judged from the outcomes of patterns, whoever's they are.

One judgement for all: a user's last probes, what a rule set would make of them, the counts of a fleet. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agent import catalogue
from agent.catalogue import Workflow
from agent.catalogue.changes import read_version
from app.fleet.probes import PatternFact

OPEN_OUTCOMES = frozenset({"allowed", "audited"})
CLOSED_OUTCOMES = frozenset({"blocked", "denied"})

Verdict = Literal["works", "partly", "blocked", "unknown", "missing"]
"""`partly`: the command runs, but something that it may need is closed; `missing`: this uv does not have it yet."""
VERDICTS: tuple[Verdict, ...] = ("works", "partly", "blocked", "unknown")
"""The verdicts that can be told of outcomes alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A pattern that is closed, and the engine that closed it ('' if that is not known)."""

    pattern: str
    engine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowState:
    """One uv command under some outcomes.

    `blocked_by`: needed patterns that are closed; `limited_by`: those that only parts of it need; `untried`: needed
    patterns of which nothing is known.
    """

    workflow: str
    verdict: Verdict
    blocked_by: tuple[Obstacle, ...] = ()
    limited_by: tuple[Obstacle, ...] = ()
    untried: tuple[str, ...] = ()

    @property
    def can_run(self) -> bool:
        return self.verdict in ("works", "partly")


def judge_workflows(facts: Iterable[PatternFact], version: str | None = None) -> tuple[WorkflowState, ...]:
    """Of each uv command whether it works under these outcomes, in the catalogue's order.

    `version`: the uv that is used; commands that came later are `missing`. A pattern that is closed decides, however
    many others are not known; a command that needs no pattern starts nothing from where uv writes, and works.

    >>> [one.verdict for one in judge_workflows([PatternFact("cache-binaries-tool", "blocked", "applocker")])][-3:]
    ['blocked', 'unknown', 'unknown']
    """
    known = {fact.pattern: fact for fact in facts}
    return tuple(_judge(workflow, known, version) for workflow in catalogue.load().workflows)


def _judge(workflow: Workflow, known: Mapping[str, PatternFact], version: str | None) -> WorkflowState:
    if version and workflow.since and _is_before(version, workflow.since):
        return WorkflowState(workflow=workflow.id, verdict="missing")
    blocked_by = _closed(workflow.needs, known)
    limited_by = _closed(workflow.optional, known)
    untried = tuple(
        name
        for name in workflow.needs
        if (fact := known.get(name)) is None or fact.outcome not in OPEN_OUTCOMES | CLOSED_OUTCOMES
    )
    verdict: Verdict
    if blocked_by:
        verdict = "blocked"
    elif untried:
        verdict = "unknown"
    else:
        verdict = "partly" if limited_by else "works"
    return WorkflowState(
        workflow=workflow.id, verdict=verdict, blocked_by=blocked_by, limited_by=limited_by, untried=untried
    )


def _closed(patterns: Iterable[str], known: Mapping[str, PatternFact]) -> tuple[Obstacle, ...]:
    facts = (known[name] for name in patterns if name in known)
    return tuple(
        Obstacle(pattern=fact.pattern, engine=fact.engine) for fact in facts if fact.outcome in CLOSED_OUTCOMES
    )


def gives_way(fact: PatternFact) -> bool:
    """Whether a rule of AppLocker's can change an outcome."""
    return fact.engine in ("", "applocker") and fact.outcome not in ("denied",)


def _is_before(version: str, since: str) -> bool:
    try:
        return read_version(version) < read_version(since)
    except ValueError:
        return False  # a version that a host reported in words of its own
