"""Plans for a rule set: every trade-off between safest and fewest, and taking one of them.

Few patterns are planned in a moment; many take seconds. Those are worked out once, and kept for what they are of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.applocker.model import EVERYONE
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import InvalidError
from app.policies.baselines import TrustedFile, list_baseline_files
from app.policies.candidates import Candidate, rank_candidates
from app.policies.drafts import as_given
from app.policies.optimise import Option, Solution, at_slider, state_problem, trade_off
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.rule_sets import choose_for_item, lock_rule_set
from app.work.rows import DONE, Work, find_work
from app.work.run import Do, Keep, Progress

PLAN = "plan"
AT_ONCE_PATTERNS = 12
"""So many patterns are planned while a page waits: a quarter of a second."""
_FORM = 1
"""Of kept plans: another one when they are kept differently."""

Tell = Callable[[str, int, int], None]
"""Hears what is being done, and how much of how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleWords:
    """A rule of a plan as a page names it, what kind it is, and what it admits."""

    kind: str
    name: str
    admits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """All plans that nothing beats, their rules by id, and the patterns that none of them opens, with the reason."""

    plans: tuple[Solution, ...]
    rules: Mapping[str, RuleWords]
    impossible: tuple[tuple[str, str], ...]
    left_closed: tuple[str, ...]


def plan_rule_set(
    rule_set: RuleSet,
    baseline: Sequence[TrustedFile],
    *,
    may_move: bool,
    catalogue: Catalogue | None = None,
    tell: Tell | None = None,
) -> Plans:
    """Every trade-off for what a rule set is to open. What was left closed on purpose stays so."""
    tell = tell or _tell_nobody
    catalogue = catalogue or load_catalogue()
    ways: dict[str, tuple[Candidate, ...]] = {}
    impossible: list[tuple[str, str]] = []
    for place, item in enumerate(rule_set.items):
        if item.kind == "leave":
            continue
        tell("patterns ranked", place, len(rule_set.items))
        try:
            ways[item.pattern] = rank_candidates(
                item.pattern,
                rule_set.groups[0].sid if rule_set.groups else EVERYONE,
                baseline=baseline,
                project_roots=as_given(rule_set.project_roots),
                roots=dict(zip(rule_set.roots, as_given(rule_set.roots.values()), strict=True)),
                in_force=rule_set.base.in_force if rule_set.base else None,
                catalogue=catalogue,
            )
        except InvalidError as error:
            impossible.append((item.pattern, error.message))
    problem, rules = state_problem(ways, may_move=may_move, base=rule_set.base.policy if rule_set.base else None)
    for pattern, candidates in ways.items():
        if pattern not in problem.options:
            reasons = [one.missing for one in candidates if one.missing]
            impossible.append(
                (pattern, reasons[0] if reasons else "Only moving folders or deploying Pythons opens it.")
            )
    tell("looking for the best plans", 0, 0)
    return Plans(
        plans=trade_off(problem, tell=lambda count: tell(f"looking for plans beyond the {count} found", 0, 0)),
        rules={
            rule_id: RuleWords(kind=rule.kind, name=rule.name, admits=rule.reach.admits)
            for rule_id, rule in rules.items()
        },
        impossible=tuple(impossible),
        left_closed=tuple(item.pattern for item in rule_set.items if item.kind == "leave"),
    )


def is_planned_at_once(rule_set: RuleSet) -> bool:
    """Whether planning it is a matter of a moment."""
    return sum(item.kind != "leave" for item in rule_set.items) <= AT_ONCE_PATTERNS


def key_of_plans(
    rule_set: RuleSet, baseline: Sequence[TrustedFile], *, may_move: bool, catalogue: Catalogue | None = None
) -> str:
    """By what plans are known again: a digest of all that they depend on."""
    said = (
        _FORM,
        (catalogue or load_catalogue()).etag,
        may_move,
        [(item.pattern, item.kind == "leave") for item in rule_set.items],
        rule_set.groups[0].sid if rule_set.groups else None,
        list(rule_set.project_roots),
        sorted(rule_set.roots.items()),
        (rule_set.base.id, rule_set.base.origin, rule_set.base.sha256) if rule_set.base else None,
        list(baseline),
    )
    return f"{rule_set.id}:{hashlib.sha256(repr(said).encode()).hexdigest()}"


def plans_of(rule_set_id: int, *, may_move: bool) -> Do:
    """The work of planning a rule set."""

    def do(engine: Engine, progress: Progress) -> Keep:
        with session_scope(engine, writes=False) as session:
            rule_set, baseline = get_rule_set(session, rule_set_id), list_baseline_files(session)
        found = to_kept(plan_rule_set(rule_set, baseline, may_move=may_move, tell=progress.tell))
        key = key_of_plans(rule_set, baseline, may_move=may_move)
        return lambda _session: {"of": key, **found}

    return do


def plans_that_work_gave(work: Work | None) -> Plans | None:
    """The plans that a piece of work found; None if it has none, or planned what the rule set became meanwhile."""
    if work is None or work.state != DONE or work.result is None or work.result["of"] != work.key:
        return None
    return from_kept(work.result)


def to_kept(found: Plans) -> dict[str, Any]:
    """Plans as JSON values."""
    return asdict(found)


def from_kept(kept: Mapping[str, Any]) -> Plans:
    """The other way."""
    return Plans(
        plans=tuple(
            Solution(
                options=tuple(_option(option) for option in one["options"]),
                rules=tuple(one["rules"]),
                settings=tuple(one["settings"]),
                points=one["points"],
            )
            for one in kept["plans"]
        ),
        rules={rule_id: RuleWords(**words) for rule_id, words in kept["rules"].items()},
        impossible=tuple((pattern, reason) for pattern, reason in kept["impossible"]),
        left_closed=tuple(kept["left_closed"]),
    )


def take_plan(session: Session, rule_set_id: int, *, slider: int, may_move: bool, actor: Actor) -> Solution:
    """Set every pattern of a rule set to what the plan at this place of the slider says.

    raises: NotFoundError, ConflictError, InvalidError about `slider` when there is no plan.
    """
    row = lock_rule_set(session, rule_set_id)
    rule_set = get_rule_set(session, rule_set_id)
    baseline = list_baseline_files(session)
    kept = find_work(session, PLAN, key_of_plans(rule_set, baseline, may_move=may_move))
    found = plans_that_work_gave(kept) or plan_rule_set(rule_set, baseline, may_move=may_move)
    plan = at_slider(found.plans, slider)
    if plan is None or not plan.options:
        raise InvalidError("There is nothing to plan: put patterns into the rule set first.", field="slider")
    row.slider = max(0, min(100, slider))
    for option in plan.options:
        choose_for_item(session, rule_set_id, option.pattern, kind=option.kind, files=option.files, actor=actor)
    return plan


def _option(kept: Mapping[str, Any]) -> Option:
    files = kept["files"]
    return Option(
        pattern=kept["pattern"],
        kind=kept["kind"],
        rules=tuple(kept["rules"]),
        settings=tuple(kept["settings"]),
        files=None if files is None else tuple(files),
    )


def _tell_nobody(_doing: str, _done: int, _total: int) -> None:
    """For whoever waits without looking."""
