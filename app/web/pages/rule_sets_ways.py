"""The ways to open one pattern of a rule set, least privilege first, each with its reach, evidence and upkeep."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.applocker.model import EVERYONE
from app.db.session import SessionDep
from app.errors import InvalidError, NotFoundError
from app.fleet.queries import read_pattern
from app.policies.baselines import list_baseline_files
from app.policies.candidates import Candidate, rank_candidates
from app.policies.drafts import roots_of
from app.policies.evidence import evidence_for, read_reported_files, untrusted
from app.policies.queries_rule_sets import get_rule_set
from app.policies.standing import read_standing
from app.web.guards import ViewFleet
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, PatternId, RuleSetId, as_typed
from app.web.templating import render

router = APIRouter(include_in_schema=False)


@router.get("/rule-sets/{rule_set_id}/patterns/{pattern}")
def show_ways(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    pattern: PatternId,
) -> Response:
    rule_set = get_rule_set(session, rule_set_id)
    item = next((one for one in rule_set.items if one.pattern == pattern), None)
    if item is None:
        raise NotFoundError("This rule set does not hold that pattern.")
    catalogue = load_catalogue()
    baseline = list_baseline_files(session)
    reported = read_reported_files(session, pattern)
    candidates: tuple[Candidate, ...] = ()
    problem: InvalidError | None = None
    try:
        candidates = rank_candidates(
            pattern,
            rule_set.groups[0].sid if rule_set.groups else EVERYONE,
            baseline=baseline,
            project_roots=[as_typed(one) for one in rule_set.project_roots],
            roots={name: as_typed(one) for name, one in roots_of((), rule_set.roots, catalogue).items()},
            in_force=rule_set.base.in_force if rule_set.base else None,
            catalogue=catalogue,
        )
    except InvalidError as error:
        problem = error
    return render(
        request,
        "rule_sets/ways.html",
        rule_set=rule_set,
        item=item,
        pattern=catalogue.pattern(pattern),
        found=read_pattern(session, pattern).total,
        standing=read_standing(session),
        candidates=candidates,
        evidence=[evidence_for(one.rules, baseline, reported) for one in candidates],
        untrusted=untrusted(reported, baseline),
        problem=problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )
