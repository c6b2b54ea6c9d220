"""The upgrade check: what a uv release would break, for whom and among which rules, before anybody upgrades."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep, session_scope
from app.errors import InvalidError
from app.policies.standing import read_standing
from app.preflight.fleet import (
    Preflight,
    as_values,
    check_upgrade,
    check_versions,
    count_users_of,
    default_versions,
    versions_in_fleet,
)
from app.preflight.work import ask_for_check, check_of, find_check, read_check
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.templating import address, render
from app.work.rows import INTERRUPTED, Work

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["preflight"])

SOON = 5_000
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
    person: ViewFleet,
    request: Request,
    before: Annotated[str, Query(alias="from", max_length=40)] = "",
    after: Annotated[str, Query(alias="to", max_length=40)] = "",
    again: Annotated[bool, Query()] = False,
) -> Response:
    """Not with the page's session: the check of a large fleet is asked for and committed first."""
    engine = request.app.state.engine
    with session_scope(engine, writes=False) as session:
        older, newest = default_versions(session)
        before, after = before.strip() or older or "", after.strip() or newest
        known = versions_in_fleet(session)
        found, work, problem, is_large = _look(session, before, after)
        standing = None if found is None else read_standing(session)
    here = address("/preflight", **{"from": before, "to": after})
    if is_large and (work is None or work.state == INTERRUPTED or (again and not work.is_under_way)):
        with session_scope(engine) as session:
            asked = ask_for_check(session, before, after, page=here, actor=person.actor)
        # Nobody waits: the page is there at once, and its answer follows.
        request.app.state.workers.start_work(asked, check_of(before, after))
        found, work = None, asked.work
    return render(
        request,
        "preflight/page.html",
        fragment="results",
        status=422 if problem else 200,
        before=before,
        after=after,
        found=found,
        work=work,
        here=here,
        again=address("/preflight", **{"from": before, "to": after, "again": "true"}),
        problem=problem,
        known=known,
        newest=newest,
        patterns={one.id: one for one in load_catalogue().patterns},
        kinds=KIND_WORDS,
        standing=standing,
    )


def _look(session: Session, before: str, after: str) -> tuple[Preflight | None, Work | None, InvalidError | None, bool]:
    """The answer if it is there or can be had in a moment; else the work, the problem; whether it is work."""
    if not before:
        return None, None, None, False
    try:
        check_versions(before, after)
        if count_users_of(session, before) <= SOON:
            return check_upgrade(session, before, after), None, None, False
    except InvalidError as error:
        return None, None, error, False
    work = find_check(session, before, after)
    return None if work is None else read_check(work), work, None, True


@api_router.get("/preflight")
def get_preflight(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Annotated[str, Query(alias="from", max_length=40)],
    after: Annotated[str, Query(alias="to", max_length=40)],
) -> dict[str, Any]:
    """What an upgrade of uv would break: users by pattern and group, exports, rule sets, baseline files."""
    return as_values(check_upgrade(session, before, after))
