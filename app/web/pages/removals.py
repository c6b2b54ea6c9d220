"""Rules that could go: the list with the evidence, and one click that drafts their removal."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.db.base import now
from app.db.session import SessionDep
from app.errors import InvalidError
from app.policies.offers import Offers, list_offers
from app.policies.queries_rule_sets import get_rule_set
from app.policies.removal import draft_removal, find_pending
from app.policies.rule_sets import MAX_REMOVED, keep_rule
from app.web.guards import ApiDraftRules, ApiViewFleet, DraftRules, ViewFleet
from app.web.pages.rule_sets import RuleSetId
from app.web.templating import render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])

GROUND_WORDS = {
    "unused": "unused",
    "shadowed": "another rule does it",
    "release-gone": "its uv is gone",
}


class ApiOffer(BaseModel):
    """One rule that could go, and why. `rule_set_id`: the rule set that takes it out already."""

    rule_id: str
    name: str
    collection: str
    kind: str
    patterns: tuple[str, ...]
    export_id: int
    users: int
    grounds: tuple[tuple[str, str], ...]
    rule_set_id: int | None


class ApiOffers(BaseModel):
    """All that could go. `counting`: hosts that count uses; 0: whether rules are used is not known."""

    days: int
    looked_at: int
    counting: int
    offers: tuple[ApiOffer, ...]


class ApiRemoval(BaseModel):
    """Which rules a new rule set is to take out."""

    model_config = ConfigDict(extra="forbid")

    rules: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=MAX_REMOVED)]


class ApiDrafted(BaseModel):
    """The new rule set."""

    rule_set_id: int


@router.get("/removals")
def show_removals(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
) -> Response:
    return _page(request, session)


@router.post("/removals")
def draft_a_removal(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    rule: Annotated[list[str] | None, Form(max_length=MAX_REMOVED)] = None,
) -> Response:
    days = request.app.state.settings.offer_after_days
    try:
        made = draft_removal(session, rule or (), at=now(), days=days, actor=person.actor)
    except InvalidError as error:
        session.rollback()
        return _page(request, session, problem=error.message, status=422)
    return RedirectResponse(f"/rule-sets/{made}", status_code=303)


@router.post("/rule-sets/{rule_set_id}/removes/{rule_id}/keep")
def keep(
    person: DraftRules, session: SessionDep, rule_set_id: RuleSetId, rule_id: Annotated[str, Path(max_length=40)]
) -> Response:
    keep_rule(session, rule_set_id, rule_id, actor=person.actor)
    return RedirectResponse(f"/rule-sets/{rule_set_id}", status_code=303)


@api_router.get("/removals")
def get_removals(caller: ApiViewFleet, request: Request, session: SessionDep) -> ApiOffers:  # noqa: ARG001 - the guard
    """Rules of ours in force that could go, each with its evidence."""
    found = _offers(request, session)
    pending = find_pending(session)
    return ApiOffers(
        days=found.days,
        looked_at=found.looked_at,
        counting=found.counting,
        offers=tuple(
            ApiOffer(
                rule_id=one.rule.id.lower(),
                name=one.rule.name,
                collection=one.rule.collection,
                kind=one.rule.kind,
                patterns=one.rule.patterns,
                export_id=one.export_id,
                users=one.users,
                grounds=tuple((ground.kind, ground.sentence) for ground in one.grounds),
                rule_set_id=pending.get(one.rule.id.lower()),
            )
            for one in found.offers
        ),
    )


@api_router.post("/removals", status_code=201)
def post_removal(caller: ApiDraftRules, request: Request, session: SessionDep, wanted: ApiRemoval) -> ApiDrafted:
    """A new rule set that takes rules of ours out, to be simulated, approved and exported."""
    days = request.app.state.settings.offer_after_days
    made = draft_removal(session, wanted.rules, at=now(), days=days, actor=caller.actor)
    return ApiDrafted(rule_set_id=get_rule_set(session, made).id)


def _offers(request: Request, session: Session) -> Offers:
    return list_offers(session, now(), days=request.app.state.settings.offer_after_days)


def _page(request: Request, session: Session, *, problem: str | None = None, status: int = 200) -> Response:
    found = _offers(request, session)
    pending = find_pending(session)
    return render(
        request,
        "removals/page.html",
        status=status,
        found=found,
        pending=pending,
        left=[one for one in found.offers if one.rule.id.lower() not in pending],
        words=GROUND_WORDS,
        problem=problem,
    )
