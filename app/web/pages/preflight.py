"""The upgrade check: what a uv release would break, for whom and among which rules, before anybody upgrades."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError
from app.preflight.fleet import as_values, check_upgrade, count_users_of, default_versions, versions_in_fleet
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["preflight"])

SOON = 20_000
"""Up to so many users of a version are judged while the page is waited for."""

KIND_WORDS = {
    "moved": "its folder gets another number, and no rule names it",
    "hash": "the hash rule names the old build",
    "new": "a command that works needs a new place, which no rule opens",
    "later": "a new place, closed like the command’s others: breaks nothing that works",
    "closed": "the rule that opened it no longer fits",
}


@router.get("/preflight")
def show_preflight(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    before: Annotated[str, Query(alias="from", max_length=40)] = "",
    after: Annotated[str, Query(alias="to", max_length=40)] = "",
) -> Response:
    older, newest = default_versions(session)
    wanted = (before.strip() or older or "", after.strip() or newest)
    found = problem = pending = None
    if not before and wanted[0] and count_users_of(session, wanted[0]) > SOON:
        # To judge so many takes a second or two: the page is there at once, and its answer follows.
        pending = address("/preflight", **{"from": wanted[0], "to": wanted[1]})
    elif wanted[0]:
        try:
            found = check_upgrade(session, *wanted)
        except InvalidError as error:
            problem = error
    return render(
        request,
        "preflight/page.html",
        fragment="results",
        pending=pending,
        status=422 if problem else 200,
        before=wanted[0],
        after=wanted[1],
        found=found,
        problem=problem,
        known=versions_in_fleet(session),
        newest=newest,
        patterns={one.id: one for one in load_catalogue().patterns},
        kinds=KIND_WORDS,
    )


@api_router.get("/preflight")
def get_preflight(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Annotated[str, Query(alias="from", max_length=40)],
    after: Annotated[str, Query(alias="to", max_length=40)],
) -> dict[str, Any]:
    """What an upgrade of uv would break: users by pattern and group, exports, rule sets, baseline files."""
    return as_values(check_upgrade(session, before, after))
