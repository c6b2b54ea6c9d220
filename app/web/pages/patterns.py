"""Patterns: where uv writes and runs files, who is refused there, and what would open each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.fleet.attestation import count_unattested
from app.fleet.queries import PatternCount, read_pattern
from app.fleet.queries_mismatch import read_mismatches
from app.fleet.queries_sightings import summarise_sightings
from app.policies.at_pattern import read_at_pattern
from app.policies.standing import read_standing
from app.web.glossary import GROUP_TITLES
from app.web.guards import ViewFleet
from app.web.pages.overview import can_have_rule, read_shown_overview
from app.web.pages.rule_sets import STATE_WORDS
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)


@router.get("/patterns")
def show_patterns(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=100)] = "",
    place: Annotated[str, Query(max_length=40)] = "",
    state: Annotated[str, Query(pattern="^(|refused|open|untried)$")] = "",
) -> Response:
    overview = read_shown_overview(session)
    counts = {one.pattern: one for one in overview.patterns}
    wanted = q.strip().casefold()
    catalogue = load_catalogue()
    rows = [
        (pattern, counts.get(pattern.id))
        for pattern in catalogue.patterns
        if (not place or pattern.group == place)
        and (not wanted or wanted in f"{pattern.id} {pattern.title} {pattern.default_path}".casefold())
        and (not state or kind_of(counts.get(pattern.id)) == state)
    ]
    rows.sort(key=lambda row: (-(row[1].blocked if row[1] else 0), kind_of(row[1]), not row[0].is_executed))
    return render(
        request,
        "patterns/list.html",
        fragment="results",
        address=address("/patterns", q=q.strip(), place=place, state=state),
        rows=rows,
        overview=overview,
        total=len(catalogue.patterns),
        places={key: text for key, text in GROUP_TITLES.items() if key != "blocked"},
        q=q.strip(),
        place=place,
        state=state,
    )


def kind_of(count: PatternCount | None) -> str:
    """Whether somebody is refused at a pattern, nobody is, or nobody could try."""
    if count is None or not count.base:
        return "untried"
    return "refused" if count.blocked else "open"


@router.get("/patterns/{pattern_id}")
def show_pattern(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    pattern_id: Annotated[str, Path(max_length=100)],
) -> Response:
    detail = read_pattern(session, pattern_id)
    catalogue = load_catalogue()
    pattern = catalogue.pattern(pattern_id)
    return render(
        request,
        "patterns/page.html",
        pattern=pattern,
        found=detail.total,
        by_group=detail.groups,
        places=GROUP_TITLES,
        needed_by=[one for one in catalogue.workflows if pattern_id in one.needs],
        helped_by=[one for one in catalogue.workflows if pattern_id in one.optional],
        signer=catalogue.signer(pattern.signer) if pattern.signer else None,
        sightings=summarise_sightings(session, pattern_id),
        can_have_rule=can_have_rule(pattern),
        unattested=count_unattested(session),
        judged=read_at_pattern(session, pattern),
        standing=read_standing(session),
        state_words=STATE_WORDS,
        mismatches=read_mismatches(session, pattern_id) if pattern.is_executed else None,
    )
