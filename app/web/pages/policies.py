"""Policies in force: who has which, what lint says of each, and how two differ."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from app.db.base import now
from app.db.session import SessionDep
from app.fleet.rule_uses import KEPT_DAYS, read_rule_uses
from app.policies.in_force import compare_policies, get_policy, list_policies
from app.policies.rule_counts import COUNTS_KEPT_DAYS
from app.policies.standing import COLLECTION_QUESTIONS, QUESTIONS, read_standing
from app.policies.verified import list_verified
from app.web.guards import ViewFleet
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)

PolicyId = Annotated[int, Path(ge=1, le=2**62)]

USUAL_DAYS = (7, KEPT_DAYS, 90, 365)


@router.get("/policies")
def show_policies(person: ViewFleet, request: Request, session: SessionDep) -> Response:  # noqa: ARG001 - the guard
    return render(request, "policies/list.html", policies=list_policies(session))


@router.get("/policies/{policy_id}")
def show_policy(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    policy_id: PolicyId,
    against: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    days: Annotated[int, Query(ge=1, le=COUNTS_KEPT_DAYS)] = KEPT_DAYS,
    unused: bool = False,
) -> Response:
    detail = get_policy(session, policy_id)
    used = read_rule_uses(session, [rule.id for rule in detail.rules], at=now(), days=days)
    not_used = tuple(rule for rule in detail.rules if rule.id.lower() in used.unused)
    only_unused = unused and bool(used.reporting)
    here = f"/policies/{policy_id}"
    others = [one for one in list_policies(session) if one.id != policy_id]
    return render(
        request,
        "policies/page.html",
        detail=detail,
        standing=read_standing(session),
        rules=not_used if only_unused else detail.rules,
        used=used,
        unused=len(not_used),
        only_unused=only_unused,
        all_rules=address(here, days=str(days)),
        unused_rules=address(here, days=str(days), unused="1"),
        spans=[
            (f"{one} days", address(here, days=str(one), unused="1" if only_unused else ""), one == days)
            for one in USUAL_DAYS
        ],
        others=others,
        against=next((one for one in others if one.id == against), None),
        changes=compare_policies(session, against, policy_id) if against is not None else None,
    )


@router.get("/verified")
def show_verified(person: ViewFleet, request: Request, session: SessionDep) -> Response:  # noqa: ARG001 - the guard
    """What real PCs did with the conformance kit's cases, and what nobody has asked one yet."""
    standing = read_standing(session)
    return render(
        request,
        "policies/verified.html",
        standing=standing,
        judging=standing.of_judgement(),
        kinds=[
            (f"{kind} rules for {collection}", standing.of_rule(kind, collection))
            for collection in COLLECTION_QUESTIONS
            for kind in QUESTIONS
        ],
        answers=list_verified(session),
    )
