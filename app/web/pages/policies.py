"""Policies in force: who has which, what lint says of each, and how two differ."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from app.applocker.compare import Change
from app.db.base import now
from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.groups import read_group_names
from app.fleet.rule_uses import KEPT_DAYS, read_rule_uses
from app.policies.in_force import compare_policies, find_policy, get_policy, list_policies, page_policies
from app.policies.rule_counts import COUNTS_KEPT_DAYS
from app.policies.standing import COLLECTION_QUESTIONS, QUESTIONS, read_standing
from app.policies.verified import list_verified
from app.web.cut import Cut
from app.web.guards import ViewFleet
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)

PolicyId = Annotated[int, Path(ge=1, le=2**62)]

First = Annotated[int, Query(ge=1, le=1_000_000)]
RULES_SHOWN = 300
FINDINGS_SHOWN = 60
USUAL_DAYS = (7, KEPT_DAYS, 90, 365)


@router.get("/policies")
def show_policies(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    after: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    group_ids = {name: group_id for group_id, name in read_group_names(session).items()}
    return render(
        request,
        "policies/list.html",
        found=page_policies(session, after=after),
        after=after,
        users_at=lambda policy_id, name="": users_at(policy_id, group_ids.get(name)),
    )


def users_at(policy_id: int, group_id: int | None = None) -> str:
    """The hosts of the users that a policy is in force for: those in quarantine are not counted here.

    >>> users_at(7, 2)
    '/hosts?policy=7&group=2&state=active'
    """
    return address("/hosts", policy=str(policy_id), group=str(group_id or ""), state="active")


@router.get("/policies/{policy_id}")
def show_policy(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    policy_id: PolicyId,
    against: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    named: Annotated[str, Query(max_length=64)] = "",
    finding: First = 1,
    rule: First = 1,
    days: Annotated[int, Query(ge=1, le=COUNTS_KEPT_DAYS)] = KEPT_DAYS,
    unused: bool = False,
) -> Response:
    detail = get_policy(session, policy_id)
    used = read_rule_uses(session, [rule.id for rule in detail.rules], at=now(), days=days)
    not_used = tuple(rule for rule in detail.rules if rule.id.lower() in used.unused)
    only_unused = unused and bool(used.reporting)
    rules = not_used if only_unused else detail.rules
    here = f"/policies/{policy_id}"
    kept = {"days": "" if days == KEPT_DAYS else str(days), "unused": "1" if only_unused else ""}
    known, chosen, problem = page_policies(session), against, None
    changes: tuple[Change, ...] | None = None
    try:
        if named.strip():
            chosen = find_policy(session, named)
        if chosen is not None:
            changes = compare_policies(session, chosen, policy_id)
    except InvalidError as error:
        if error.field != "named":
            raise
        problem = error.message
    others = [one for one in known.policies if one.id != policy_id]
    with_whom = next((one for one in others if one.id == chosen), None)
    if with_whom is None and changes is not None and chosen is not None:
        with_whom = next(iter(list_policies(session, only=chosen)), None)
        others += [with_whom] if with_whom is not None and with_whom.id != policy_id else []
    return render(
        request,
        "policies/page.html",
        status=422 if problem else 200,
        detail=detail,
        users_at=users_at,
        standing=read_standing(session),
        rules=rules[rule - 1 : rule - 1 + RULES_SHOWN],
        rules_cut=Cut(first=rule, shown=RULES_SHOWN, of=len(rules)),
        rules_at=lambda first: address(here, rule=str(first), **kept) + "#rules-title",
        findings=detail.findings[finding - 1 : finding - 1 + FINDINGS_SHOWN],
        findings_cut=Cut(first=finding, shown=FINDINGS_SHOWN, of=len(detail.findings)),
        findings_at=lambda first: address(here, finding=str(first)) + "#lint-title",
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
        not_listed=known.total - len(known.policies),
        named=named.strip(),
        named_problem=problem,
        against=with_whom,
        changes=changes,
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
