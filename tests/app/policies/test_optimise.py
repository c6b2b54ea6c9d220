"""Plans: equal to brute force on small problems, the whole trade-off, and drafts that come to what was planned."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from app.audit.record import Actor
from app.db.session import session_scope
from app.policies.base_policies import add_base_policy
from app.policies.baselines import TrustedFile
from app.policies.drafts import build_draft
from app.policies.optimise import Option, Problem, at_slider, solve, trade_off
from app.policies.plans import plan_rule_set, take_plan
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import Group, add_to_rule_set, set_terms

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
Trust = Callable[..., TrustedFile]


def by_brute_force(problem: Problem, at_most: int | None = None) -> tuple[int, int] | None:
    """The fewest points and then changes over all ways to take one option for each pattern."""
    best = None
    for taken in itertools.product(*problem.options.values()):
        together = {rule for one in taken for rule in one.rules}
        rules = {rule for rule in together if not together & set(problem.wider.get(rule, ()))}
        changes = len(rules) + len({name for one in taken for name in one.settings})
        if at_most is None or changes <= at_most:
            cost = sum(problem.points[rule] for rule in rules), changes
            best = cost if best is None else min(best, cost)
    return best


def a_problem(chance: random.Random) -> Problem:
    rules = [f"r{number}" for number in range(chance.randrange(2, 8))]
    settings = ["A=1", "B=2"]
    options = {}
    for pattern in range(chance.randrange(1, 5)):
        options[f"p{pattern}"] = tuple(
            Option(
                pattern=f"p{pattern}",
                kind=f"kind{number}",
                rules=tuple(sorted(chance.sample(rules, chance.randrange(1, min(3, len(rules)) + 1)))),
                settings=tuple(sorted(chance.sample(settings, chance.randrange(2)))),
            )
            for number in range(chance.randrange(1, 4))
        )
    wider: dict[str, tuple[str, ...]] = {}
    for number in reversed(range(len(rules))):  # what covers a rule that covers another covers that one, too
        if number + 1 < len(rules) and chance.random() < 0.4:
            above = chance.choice(rules[number + 1 :])
            wider[rules[number]] = (above, *wider.get(above, ()))
    return Problem(
        options=options,
        points={rule: chance.choice([1, 4, 25]) + 100 * (number > 4) for number, rule in enumerate(rules)},
        wider=wider,
    )


@pytest.mark.parametrize("seed", range(60))
def test_it_finds_what_brute_force_finds(seed: int) -> None:
    problem = a_problem(random.Random(seed))
    found = solve(problem)
    assert found is not None
    assert (found.points, found.changes) == by_brute_force(problem)
    for at_most in range(found.changes):
        fewer = solve(problem, at_most=at_most)
        expected = by_brute_force(problem, at_most)
        assert (None if fewer is None else (fewer.points, fewer.changes)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_plan_of_the_trade_off_beats_another(seed: int) -> None:
    plans = trade_off(a_problem(random.Random(1000 + seed)))
    for one, other in itertools.pairwise(plans):
        assert one.points < other.points
        assert one.changes > other.changes
    assert at_slider(plans, 0) is plans[0]
    assert at_slider(plans, 100) is plans[-1]


def test_nothing_to_open_needs_nothing() -> None:
    assert trade_off(Problem(options={}, points={}, wider={}))[0].changes == 0


@pytest.fixture
def rule_set_id(database: Engine, base_policy: str) -> int:
    with session_scope(database) as session:
        added = add_to_rule_set(
            session,
            actor=ADA,
            workflows=["sync-build", "uvx", "run-script"],
            patterns=["managed-python-exe", "tool-env-python"],
        )
        base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
        set_terms(
            session,
            added.rule_set_id,
            base_id=base.id,
            groups=[Group(sid=SID, name="Devs")],
            project_roots=["C:\\src"],
            actor=ADA,
        )
        return added.rule_set_id


@pytest.mark.parametrize("may_move", [False, True])
def test_a_draft_comes_to_what_was_planned(database: Engine, rule_set_id: int, trust: Trust, may_move: bool) -> None:
    with session_scope(database) as session:
        rule_set = get_rule_set(session, rule_set_id)
        plans = plan_rule_set(rule_set, [], may_move=may_move).plans
        assert len(plans) > (0 if may_move else 1)
        for place, plan in enumerate(plans):
            slider = round(100 * place / max(1, len(plans) - 1))
            taken = take_plan(session, rule_set_id, slider=slider, may_move=may_move, actor=ADA)
            assert taken == plan
            draft = build_draft(get_rule_set(session, rule_set_id), [])
            assert {rule.id for rule in draft.added} == set(plan.rules)
            assert {f"{one.name}={one.value}" for one in draft.settings} == set(plan.settings)
            assert set(draft.patterns) == {item.pattern for item in rule_set.items}


def test_the_safest_names_files_where_it_can(database: Engine, rule_set_id: int, trust: Trust) -> None:
    baseline = [trust(1, "python.exe", version="3.13.2.0"), trust(2, "venvlauncher.exe", version="3.13.2.0")]
    with session_scope(database, writes=False) as session:
        found = plan_rule_set(get_rule_set(session, rule_set_id), baseline, may_move=False)
    kinds = {found.rules[rule].kind for rule in found.plans[0].rules}
    assert "hash" in kinds
    ways = {one.pattern: one.kind for one in found.plans[0].options}
    assert ways["cache-builds-venv-python"] == ways["cache-script-env-python"] == ways["managed-python-exe"] == "hash"
    # The path that uvx's entry points need opens their python.exe too, so naming that one would admit nothing less.
    assert ways["cache-archive-env-entrypoint-exe"] == ways["cache-archive-env-python"] == "path"
