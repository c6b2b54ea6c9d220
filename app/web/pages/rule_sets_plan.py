"""Planning a rule set: every trade-off between safest and fewest as a curve, a slider, and taking one of the plans."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError
from app.policies.baselines import list_baseline_files
from app.policies.optimise import POINTS, Solution, at_slider
from app.policies.plans import Plans, plan_rule_set, take_plan
from app.policies.queries_rule_sets import get_rule_set
from app.web.guards import DraftRules, ViewFleet
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, RuleSetId
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Slider = Annotated[int | None, Query(ge=0, le=100)]

POINT_WORDS = {
    "hash": "one file, by hash",
    "protected": "a folder that only administrators write",
    "product": "a publisher’s product or file",
    "publisher": "all of a publisher",
    "path": "a narrow path that users can write",
    "broad": "a whole folder that users can write",
}


@router.get("/rule-sets/{rule_set_id}/plan")
def show_plan(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    slider: Slider = None,
    may_move: Annotated[bool, Query()] = False,
) -> Response:
    return _page(request, session, rule_set_id, slider=slider, may_move=may_move)


@router.post("/rule-sets/{rule_set_id}/plan")
def take(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    slider: Annotated[int, Form(ge=0, le=100)] = 0,
    may_move: Annotated[bool, Form()] = False,
) -> Response:
    try:
        take_plan(session, rule_set_id, slider=slider, may_move=may_move, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _page(request, session, rule_set_id, slider=slider, may_move=may_move, problem=error, status=422)
    return RedirectResponse(f"/rule-sets/{rule_set_id}", status_code=303)


def _page(
    request: Request,
    session: Session,
    rule_set_id: int,
    *,
    slider: int | None,
    may_move: bool,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    found = plan_rule_set(rule_set, list_baseline_files(session), may_move=may_move)
    place = rule_set.slider if slider is None else slider
    plan = at_slider(found.plans, place)
    return render(
        request,
        "rule_sets/plan.html",
        fragment="answer",
        status=status,
        rule_set=rule_set,
        found=found,
        plan=plan,
        slider=place,
        sliders=_sliders(found),
        may_move=may_move,
        chart=_chart(found, plan),
        points=[(POINT_WORDS[name], count) for name, count in POINTS.items()],
        patterns={pattern.id: pattern for pattern in load_catalogue().patterns},
        problem=problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )


def _sliders(found: Plans) -> list[tuple[int, Solution]]:
    """For each plan the place of the slider that shows it."""
    last = max(1, len(found.plans) - 1)
    return [(round(100 * place / last), one) for place, one in enumerate(found.plans)]


def _chart(found: Plans, plan: Solution | None) -> dict[str, object]:
    """The curve, as the page's script draws it: changes across, privilege points up."""
    return {
        "x": [one.changes for one in found.plans],
        "y": [one.points for one in found.plans],
        "chosen": found.plans.index(plan) if plan in found.plans else None,
        "sliders": [place for place, _ in _sliders(found)],
    }
