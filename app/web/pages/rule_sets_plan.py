"""Planning a rule set: every trade-off between safest and fewest as a curve, a slider, and taking one of the plans."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.audit.record import Actor
from app.db.session import SessionDep, session_scope
from app.errors import InvalidError
from app.policies.baselines import list_baseline_files
from app.policies.optimise import POINTS, Solution, at_slider
from app.policies.plans import (
    PLAN,
    Plans,
    is_planned_at_once,
    key_of_plans,
    plan_rule_set,
    plans_of,
    plans_that_work_gave,
    take_plan,
)
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.standing import read_standing
from app.web.guards import ApiViewFleet, DraftRules, ViewFleet
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, RuleSetId
from app.web.templating import address, render
from app.work.rows import CANCELLED, FAILED, Work, ask_for_work, find_work

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])

NO_PLANS = Plans(plans=(), rules={}, impossible=(), left_closed=())

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
    person: ViewFleet,
    request: Request,
    rule_set_id: RuleSetId,
    slider: Slider = None,
    may_move: Annotated[bool, Query()] = False,
    again: Annotated[bool, Query()] = False,
) -> Response:
    """Not with the page's session: plans that take long are asked for and committed first. `again`: after one that
    was cancelled or failed."""
    shown = _look_or_begin(request, rule_set_id, may_move=may_move, again=again, actor=person.actor)
    with session_scope(request.app.state.engine, writes=False) as session:
        return _page(request, session, shown, slider=slider, may_move=may_move)


@api_router.get("/rule-sets/{rule_set_id}/plan")
def get_plan(
    caller: ApiViewFleet,
    request: Request,
    rule_set_id: RuleSetId,
    may_move: Annotated[bool, Query()] = False,
    again: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    """Every plan that nothing beats, from the safest to the fewest changes: the curve of the page, with the place of
    the slider that shows each. `plans` is null while they are worked out: ask again, or follow `work`."""
    shown = _look_or_begin(request, rule_set_id, may_move=may_move, again=again, actor=caller.actor)
    found = shown.found
    return {
        "plans": None
        if found is None
        else [{"slider": place, "changes": one.changes, **asdict(one)} for place, one in _sliders(found)],
        "rules": {} if found is None else {rule_id: asdict(words) for rule_id, words in found.rules.items()},
        "impossible": [] if found is None else [{"pattern": name, "why": why} for name, why in found.impossible],
        "left_closed": [] if found is None else list(found.left_closed),
        "slider": shown.rule_set.slider,
        "work": None if shown.work is None or found is not None else asdict(shown.work),
    }


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
        shown = _look(session, rule_set_id, may_move=may_move)
        return _page(request, session, shown, slider=slider, may_move=may_move, problem=error, status=422)
    return RedirectResponse(f"/rule-sets/{rule_set_id}", status_code=303)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A rule set with its plans, as far as they are there. `work`: what works them out, where they take long."""

    rule_set: RuleSet
    key: str
    found: Plans | None
    work: Work | None


def plan_address(rule_set_id: int, *, may_move: bool, **more: str) -> str:
    """Where the plans of a rule set stand."""
    return address(f"/rule-sets/{rule_set_id}/plan", may_move="true" if may_move else "", **more)


def _look_or_begin(request: Request, rule_set_id: int, *, may_move: bool, again: bool, actor: Actor) -> Shown:
    engine, workers = request.app.state.engine, request.app.state.workers
    with session_scope(engine, writes=False) as session:
        shown = _look(session, rule_set_id, may_move=may_move)
    if shown.found is not None or (shown.work is not None and _stands_still(shown.work) and not again):
        return shown
    with session_scope(engine) as session:
        asked = ask_for_work(
            session,
            kind=PLAN,
            key=shown.key,
            title=f"Plans for “{shown.rule_set.name}”",
            page=plan_address(rule_set_id, may_move=may_move),
            actor=actor,
        )
    workers.start_work(asked, plans_of(rule_set_id, may_move=may_move))
    workers.wait_for(asked.work)
    with session_scope(engine, writes=False) as session:
        return _look(session, rule_set_id, may_move=may_move)


def _look(session: Session, rule_set_id: int, *, may_move: bool) -> Shown:
    rule_set, baseline = get_rule_set(session, rule_set_id), list_baseline_files(session)
    key = key_of_plans(rule_set, baseline, may_move=may_move)
    if is_planned_at_once(rule_set):
        found = plan_rule_set(rule_set, baseline, may_move=may_move)
        return Shown(rule_set=rule_set, key=key, found=found, work=None)
    work = find_work(session, PLAN, key)
    return Shown(rule_set=rule_set, key=key, found=plans_that_work_gave(work), work=work)


def _stands_still(work: Work) -> bool:
    """Whether it ended without a result: it is not begun anew by a mere look at the page."""
    return work.state in (FAILED, CANCELLED)


def _page(
    request: Request,
    session: Session,
    shown: Shown,
    *,
    slider: int | None,
    may_move: bool,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    rule_set, found = shown.rule_set, shown.found or NO_PLANS
    place = rule_set.slider if slider is None else slider
    plan = at_slider(found.plans, place)
    return render(
        request,
        "rule_sets/plan.html",
        fragment="answer",
        status=status,
        rule_set=rule_set,
        found=found,
        standing=read_standing(session),
        work=shown.work if shown.found is None else None,
        here=plan_address(rule_set.id, may_move=may_move),
        again=plan_address(rule_set.id, may_move=may_move, again="true"),
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
