"""Plans for a rule set: every trade-off between safest and fewest, and taking one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.applocker.model import EVERYONE
from app.audit.record import Actor
from app.errors import InvalidError
from app.policies.baselines import TrustedFile, list_baseline_files
from app.policies.candidates import Candidate, rank_candidates
from app.policies.drafts import as_given
from app.policies.optimise import Solution, at_slider, state_problem, trade_off
from app.policies.plan import PlannedRule
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.rule_sets import choose_for_item, lock_rule_set


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """All plans that nothing beats, their rules by id, and the patterns that none of them opens, with the reason."""

    plans: tuple[Solution, ...]
    rules: dict[str, PlannedRule]
    impossible: tuple[tuple[str, str], ...]
    left_closed: tuple[str, ...]


def plan_rule_set(
    rule_set: RuleSet,
    baseline: Sequence[TrustedFile],
    *,
    may_move: bool,
    catalogue: Catalogue | None = None,
) -> Plans:
    """Every trade-off for what a rule set is to open. What was left closed on purpose stays so."""
    catalogue = catalogue or load_catalogue()
    ways: dict[str, tuple[Candidate, ...]] = {}
    impossible: list[tuple[str, str]] = []
    for item in rule_set.items:
        if item.kind == "leave":
            continue
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
    return Plans(
        plans=trade_off(problem),
        rules=rules,
        impossible=tuple(impossible),
        left_closed=tuple(item.pattern for item in rule_set.items if item.kind == "leave"),
    )


def take_plan(session: Session, rule_set_id: int, *, slider: int, may_move: bool, actor: Actor) -> Solution:
    """Set every pattern of a rule set to what the plan at this place of the slider says.

    raises: NotFoundError, ConflictError, InvalidError about `slider` when there is no plan.
    """
    row = lock_rule_set(session, rule_set_id)
    rule_set = get_rule_set(session, rule_set_id)
    found = plan_rule_set(rule_set, list_baseline_files(session), may_move=may_move)
    plan = at_slider(found.plans, slider)
    if plan is None or not plan.options:
        raise InvalidError("There is nothing to plan: put patterns into the rule set first.", field="slider")
    row.slider = max(0, min(100, slider))
    for option in plan.options:
        choose_for_item(session, rule_set_id, option.pattern, kind=option.kind, files=option.files, actor=actor)
    return plan
