"""What a rule set would do to the fleet, and its review: lint, difference, comments, approval by somebody else."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.accounts.roles import Permission
from app.db.session import SessionDep, session_scope
from app.errors import InvalidError
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.outcome import from_kept
from app.policies.queries_rule_sets import find_simulation, get_rule_set, list_approvals, list_comments
from app.policies.review import (
    add_comment,
    approve,
    authors_may_approve,
    let_authors_approve,
    review_of,
    send_back,
    submit_for_review,
)
from app.policies.simulations import ask_for_simulation, find_simulating, simulation_of
from app.policies.standing import read_standing
from app.web.guards import ApproveRules, DraftRules, ManageAccounts, ViewFleet
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, RuleSetId
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=20_000)]


@router.get("/rule-sets/{rule_set_id}/what-if")
def show_what_if(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
) -> Response:
    return _what_if(request, session, rule_set_id)


@router.post("/rule-sets/{rule_set_id}/what-if")
def simulate_rule_set(person: DraftRules, request: Request, rule_set_id: RuleSetId) -> Response:
    """Not with the page's session: the wish is committed first, then worked out, then its result is kept."""
    engine, workers = request.app.state.engine, request.app.state.workers
    try:
        with session_scope(engine) as session:
            asked = ask_for_simulation(session, rule_set_id, actor=person.actor)
    except InvalidError as error:
        with session_scope(engine, writes=False) as session:
            return _what_if(request, session, rule_set_id, problem=error, status=422)
    workers.start_work(asked, simulation_of(asked.work))
    workers.wait_for(asked.work)
    return RedirectResponse(f"/rule-sets/{rule_set_id}/what-if", status_code=303)


@router.get("/rule-sets/{rule_set_id}/review")
def show_review(person: ViewFleet, request: Request, session: SessionDep, rule_set_id: RuleSetId) -> Response:
    return _review(request, session, rule_set_id, person.actor.name)


@router.post("/rule-sets/{rule_set_id}/submit")
def submit(person: DraftRules, request: Request, session: SessionDep, rule_set_id: RuleSetId) -> Response:
    try:
        submit_for_review(session, rule_set_id, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _review(request, session, rule_set_id, person.actor.name, problem=error, status=422)
    return _to_review(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/send-back")
def send_to_draft(person: DraftRules, session: SessionDep, rule_set_id: RuleSetId) -> Response:
    send_back(session, rule_set_id, actor=person.actor)
    return _to_review(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/approve")
def approve_rule_set(
    person: ApproveRules,
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    digest: Annotated[str, Form(max_length=64)] = "",
    note: Text = "",
) -> Response:
    try:
        approve(session, rule_set_id, digest=digest, note=note, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _review(request, session, rule_set_id, person.actor.name, problem=error, status=422)
    return _to_review(rule_set_id)


@router.post("/rule-sets/{rule_set_id}/comments")
def comment(
    person: DraftRules, request: Request, session: SessionDep, rule_set_id: RuleSetId, text: Text = ""
) -> Response:
    try:
        add_comment(session, rule_set_id, text, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _review(request, session, rule_set_id, person.actor.name, problem=error, status=422)
    return RedirectResponse(f"/rule-sets/{rule_set_id}/review#comments-title", status_code=303)


@router.post("/rule-sets/{rule_set_id}/authors-may-approve")
def change_who_approves(
    person: ManageAccounts,
    session: SessionDep,
    rule_set_id: RuleSetId,
    allowed: Annotated[bool, Form()] = False,
) -> Response:
    let_authors_approve(session, allowed, actor=person.actor)
    return _to_review(rule_set_id)


def _to_review(rule_set_id: int) -> Response:
    return RedirectResponse(f"/rule-sets/{rule_set_id}/review", status_code=303)


def _what_if(
    request: Request,
    session: Session,
    rule_set_id: int,
    *,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    draft = build_draft(rule_set, list_baseline_files(session))
    simulation = find_simulation(session, rule_set_id)
    catalogue = load_catalogue()
    result = None if simulation is None else from_kept(simulation.result)
    return render(
        request,
        "rule_sets/what_if.html",
        fragment="answer",
        status=status,
        rule_set=rule_set,
        draft=draft,
        simulation=simulation,
        work=find_simulating(session, rule_set_id),
        standing=read_standing(session),
        result=result,
        is_stale=simulation is not None and simulation.draft_sha256 != draft.sha256,
        patterns={pattern.id: pattern for pattern in catalogue.patterns},
        commands={workflow.id: workflow for workflow in catalogue.workflows},
        problem=problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )


def _review(
    request: Request,
    session: Session,
    rule_set_id: int,
    reader: str,
    *,
    problem: InvalidError | None = None,
    status: int = 200,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    reviewed = review_of(session, rule_set)
    result = None if reviewed.simulation is None else from_kept(reviewed.simulation.result)
    by_authors = authors_may_approve(session)
    return render(
        request,
        "rule_sets/review.html",
        status=status,
        rule_set=rule_set,
        reviewed=reviewed,
        draft=reviewed.draft,
        standing=read_standing(session),
        result=result,
        comments=list_comments(session, rule_set_id),
        approvals=list_approvals(session, rule_set_id),
        is_author=reader in rule_set.authors,
        by_authors=by_authors,
        may_approve=Permission.APPROVE_RULES in request.state.person.permissions
        and (by_authors or reader not in rule_set.authors),
        patterns={pattern.id: pattern for pattern in load_catalogue().patterns},
        problem=problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )
