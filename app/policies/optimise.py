"""The rules that open everything asked for at least cost: exact, by integer programming with HiGHS.

Each pattern has options; an option needs rules (a wider rule will do) and settings. Of all choices with at most so
many changes, the one with the fewest privilege points is taken: the whole trade-off, not a heuristic's guess. HiGHS
because it is maintained, exact, free of other dependencies, and solves a fleet's rule set in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highspy

from app.applocker.coverage import covers
from app.applocker.model import Action, HashCondition, Machine, Policy, PublisherCondition
from app.policies.candidates import Candidate
from app.policies.plan import PlannedRule
from app.policies.reach import is_writable_by_users

POINTS = {"hash": 1, "protected": 2, "product": 4, "publisher": 10, "path": 25, "broad": 100}
"""What a rule admits, as points: an order of least privilege, no measurement. A broad path weighs four narrow ones."""

_SETTING_POINTS = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to open a pattern: the ids of the rules and settings that it needs."""

    pattern: str
    kind: str
    rules: tuple[str, ...]
    settings: tuple[str, ...] = ()
    files: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Patterns with their options; the points of each rule; for each rule those that cover it."""

    options: Mapping[str, tuple[Option, ...]]
    points: Mapping[str, int]
    wider: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """One plan: the option taken for each pattern, the rules and settings that it comes to, and their points."""

    options: tuple[Option, ...]
    rules: tuple[str, ...]
    settings: tuple[str, ...]
    points: int

    @property
    def changes(self) -> int:
        return len(self.rules) + len(self.settings)


def state_problem(
    candidates: Mapping[str, Sequence[Candidate]], *, may_move: bool, base: Policy | None = None
) -> tuple[Problem, dict[str, PlannedRule]]:
    """The problem of opening patterns by their candidates. `may_move`: folders may be moved and Pythons deployed.

    A rule that the base has, or covers, costs nothing.
    """
    rules: dict[str, PlannedRule] = {}
    broad: set[str] = set()
    there: set[str] = set()
    machine = Machine()
    options: dict[str, tuple[Option, ...]] = {}
    for pattern, ways in candidates.items():
        found = []
        for way in ways:
            if not way.is_ready or way.kind == "leave" or (way.settings and not may_move):
                continue
            for rule in way.rules:
                if rule.id in there or _is_in(base, rule, machine):
                    there.add(rule.id)
                    continue
                rules.setdefault(rule.id, rule)
                if way.kind == "broad":
                    broad.add(rule.id)
            found.append(
                Option(
                    pattern=pattern,
                    kind=way.kind,
                    rules=tuple(rule.id for rule in way.rules if rule.id not in there),
                    settings=tuple(f"{name}={value}" for name, value in way.settings),
                    files=way.files,
                )
            )
        if found:
            options[pattern] = tuple(found)
    wider = {
        rule_id: tuple(
            other_id
            for other_id, other in rules.items()
            if other_id != rule_id and other.collection == rule.collection and covers(other.rule, rule.rule, machine)
        )
        for rule_id, rule in rules.items()
    }
    points = {rule_id: points_of(rule, rule_id in broad) for rule_id, rule in rules.items()}
    return Problem(options=options, points=points, wider=wider), rules


def points_of(rule: PlannedRule, is_broad: bool = False) -> int:
    """The points of a rule. See `POINTS`."""
    condition = rule.rule.condition
    if isinstance(condition, HashCondition):
        return POINTS["hash"]
    if isinstance(condition, PublisherCondition):
        return POINTS["product"] if condition.product != "*" or condition.binary != "*" else POINTS["publisher"]
    if not is_writable_by_users(condition.path):
        return POINTS["protected"]
    return POINTS["broad"] if is_broad else POINTS["path"]


def solve(problem: Problem, *, at_most: int | None = None) -> Solution | None:
    """The plan with the fewest points, and of those with the fewest changes. None if so few changes open too little."""
    if not problem.options:
        return Solution(options=(), rules=(), settings=(), points=0)
    highs = highspy.Highs()  # type: ignore[no-untyped-call]  # highspy comes without types
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("mip_abs_gap", 0.5)
    settings = sorted({name for some in problem.options.values() for one in some for name in one.settings})
    # Points first: all changes together weigh less than one point.
    weight = len(problem.points) + len(settings) + 1
    rule_used = {rule: highs.addBinary(obj=points * weight + 1) for rule, points in sorted(problem.points.items())}
    setting_used = {name: highs.addBinary(obj=_SETTING_POINTS * weight + 1) for name in settings}
    taken: list[tuple[Option, Any]] = []
    gives: dict[str, list[Any]] = {rule: [] for rule in rule_used}
    for some in problem.options.values():
        chosen = [highs.addBinary() for _ in some]
        highs.addConstr(_total(chosen) == 1)
        for one, variable in zip(some, chosen, strict=True):
            taken.append((one, variable))
            for rule in one.rules:
                gives[rule].append(variable)
                does = [rule_used[rule], *(rule_used[other] for other in problem.wider.get(rule, ()))]
                highs.addConstr(_total(does) - variable >= 0)
            for name in one.settings:
                highs.addConstr(setting_used[name] - variable >= 0)
    for rule, variables in gives.items():
        # A rule comes from the option that a pattern takes.
        highs.addConstr((_total(variables) if variables else 0) - rule_used[rule] >= 0)
    if at_most is not None:
        used = [*rule_used.values(), *setting_used.values()]
        highs.addConstr(_total(used) <= at_most)
    highs.minimize()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    value = highs.getSolution().col_value
    rules = tuple(rule for rule, variable in rule_used.items() if value[variable.index] > 0.5)
    return Solution(
        options=tuple(one for one, variable in taken if value[variable.index] > 0.5),
        rules=rules,
        settings=tuple(name for name, variable in setting_used.items() if value[variable.index] > 0.5),
        points=sum(problem.points[rule] for rule in rules),
    )


def trade_off(problem: Problem, *, tell: Callable[[int], None] | None = None) -> tuple[Solution, ...]:
    """All plans that nothing beats, from the safest to that with the fewest changes. `tell` hears how many it has."""
    safest = solve(problem)
    found: list[Solution] = [] if safest is None else [safest]
    while found and found[-1].changes > 0:
        if tell is not None:
            tell(len(found))
        fewer = solve(problem, at_most=found[-1].changes - 1)
        if fewer is None:
            break
        found.append(fewer)
    return tuple(found)


def at_slider(plans: Sequence[Solution], per_cent: int) -> Solution | None:
    """The plan at a place between safest (0) and fewest changes (100)."""
    if not plans:
        return None
    return plans[round((len(plans) - 1) * max(0, min(100, per_cent)) / 100)]


def _total(variables: Sequence[Any]) -> Any:
    """The sum of variables, as an expression even if there is but one."""
    return sum(variables[1:], variables[0] + 0)


def _is_in(base: Policy | None, rule: PlannedRule, machine: Machine) -> bool:
    found = base.collection(rule.collection) if base else None
    allows = (one for one in found.rules if one.action is Action.ALLOW) if found else ()
    return any(covers(one, rule.rule, machine) for one in allows)
