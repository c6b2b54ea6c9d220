"""The ways to open one pattern of a rule set, least privilege first, each with its reach, evidence and upkeep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.applocker.model import EVERYONE
from app.db.session import SessionDep
from app.errors import InvalidError, NotFoundError
from app.fleet.queries import read_pattern
from app.policies.baselines import TrustedFile, list_baseline_files
from app.policies.candidates import Candidate, rank_candidates
from app.policies.drafts import roots_of
from app.policies.evidence import ReportedFile, evidence_for, read_reported_files, untrusted
from app.policies.judged_ways import judge_ways
from app.policies.queries_rule_sets import Item, RuleSet, get_rule_set
from app.policies.simulations import is_large
from app.policies.standing import read_standing
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.pages.rule_sets import STATE_BADGES, STATE_WORDS, PatternId, RuleSetId, as_typed
from app.web.templating import render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["rules"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The ways to open a pattern of a rule set, and what is known of the files. `problem`: why there are none."""

    rule_set: RuleSet
    item: Item
    candidates: Sequence[Candidate]
    problem: InvalidError | None
    baseline: Sequence[TrustedFile]
    reported: Mapping[str, ReportedFile]


@router.get("/rule-sets/{rule_set_id}/patterns/{pattern}")
def show_ways(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    rule_set_id: RuleSetId,
    pattern: PatternId,
    judge: Annotated[bool, Query()] = False,
) -> Response:
    """`judge`: also judge for how many users each way would open it, which takes a simulation for each."""
    ways = read_ways(session, rule_set_id, pattern)
    too_large = judge and is_large(session)
    return render(
        request,
        "rule_sets/ways.html",
        rule_set=ways.rule_set,
        item=ways.item,
        pattern=load_catalogue().pattern(pattern),
        found=read_pattern(session, pattern).total,
        standing=read_standing(session),
        candidates=ways.candidates,
        opens=_opens(session, ways) if judge and not too_large else None,
        too_large=too_large,
        evidence=[evidence_for(one.rules, ways.baseline, ways.reported) for one in ways.candidates],
        untrusted=untrusted(ways.reported, ways.baseline),
        problem=ways.problem,
        state_words=STATE_WORDS,
        state_badges=STATE_BADGES,
    )


@api_router.get("/rule-sets/{rule_set_id}/patterns/{pattern}")
def get_ways(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    rule_set_id: RuleSetId,
    pattern: PatternId,
    judge: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    """The ways to open one pattern of a rule set, least privilege first, each with its reach, evidence and upkeep.

    `judge`: also for how many users each would open it. `opens_for` is null where that was not judged: it was not
    asked for, something is missing, or the fleet is so large that only the rule set's simulation judges it.
    """
    ways = read_ways(session, rule_set_id, pattern)
    opens = _opens(session, ways) if judge and not is_large(session) else [None] * len(ways.candidates)
    return {
        "item": asdict(ways.item),
        "ways": [
            {
                **{name: value for name, value in asdict(one).items() if name != "rules"},
                "is_ready": one.is_ready,
                "opens_for": users,
                "rules": [{"id": rule.id, "kind": rule.kind, "name": rule.name} for rule in one.rules],
                "evidence": [asdict(known) for known in evidence_for(one.rules, ways.baseline, ways.reported)],
            }
            for one, users in zip(ways.candidates, opens, strict=True)
        ],
        "untrusted": [asdict(one) for one in untrusted(ways.reported, ways.baseline)],
        "problem": None if ways.problem is None else ways.problem.message,
    }


def _opens(session: Session, ways: Ways) -> Sequence[int | None]:
    return judge_ways(session, ways.rule_set, ways.item, ways.candidates, ways.baseline)


def read_ways(session: Session, rule_set_id: int, pattern: str) -> Ways:
    """The ways to open a pattern that a rule set holds. raises: NotFoundError"""
    rule_set = get_rule_set(session, rule_set_id)
    item = next((one for one in rule_set.items if one.pattern == pattern), None)
    if item is None:
        raise NotFoundError("This rule set does not hold that pattern.")
    catalogue = load_catalogue()
    baseline = list_baseline_files(session)
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
    return Ways(
        rule_set=rule_set,
        item=item,
        candidates=candidates,
        problem=problem,
        baseline=baseline,
        reported=read_reported_files(session, pattern),
    )
