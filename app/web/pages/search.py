"""One field for everything that has a name: hosts, patterns, uv commands, versions, groups and tags, sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.accounts.sessions import Person
from app.accounts.tokens import TokenBearer
from app.db.session import SessionDep
from app.fleet.queries import list_groups, read_overview
from app.fleet.queries_hosts import HostFilter, list_hosts
from app.fleet.tags import list_tags
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.navigation import menu_for
from app.web.templating import address, render, wants_main

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["fleet"])

MOST_OF_A_KIND = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Something found: what it is, its name, where it is shown, and a word more."""

    kind: str
    name: str
    path: str
    note: str = ""


@router.get("/search")
def search(
    person: ViewFleet, request: Request, session: SessionDep, q: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    wanted = " ".join(q.split())
    hits = find_hits(session, person, wanted)
    exact = [hit for hit in hits if hit.name.casefold() == wanted.casefold()]
    if len(exact) == 1:
        # What stands in the frame of another page would come without that page's own scripts.
        return _go(exact[0].path) if wants_main(request) else RedirectResponse(exact[0].path, status_code=303)
    return render(request, "search/page.html", q=wanted, hits=hits, most=MOST_OF_A_KIND)


def _go(path: str) -> Response:
    """Tells htmx to open a page, whole."""
    return Response(status_code=204, headers={"HX-Redirect": path, "Vary": "HX-Request, HX-Target"})


@api_router.get("/search")
def get_search(
    caller: ApiViewFleet, session: SessionDep, q: Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")] = ""
) -> list[Hit]:
    """Everything with a word in its name, as the page finds it: at most eight of each kind, with its page."""
    return find_hits(session, caller, " ".join(q.split()))


def find_hits(session: Session, person: Person | TokenBearer, wanted: str) -> list[Hit]:
    """What has `wanted` in its name, of all that the person may see."""
    if not wanted:
        return []
    hits = [
        Hit(kind="Section", name=section.title, path=section.path)
        for heading in menu_for(person)
        for section in heading.sections
        if wanted.casefold() in section.title.casefold()
    ]
    return hits + _named_in_the_catalogue(wanted.casefold()) + _named_in_the_fleet(session, wanted)


def _named_in_the_catalogue(wanted: str) -> list[Hit]:
    catalogue = load_catalogue()
    patterns = [
        Hit(kind="Pattern", name=pattern.title, path=f"/patterns/{pattern.id}", note=pattern.id)
        for pattern in catalogue.patterns
        if wanted in pattern.id or wanted in pattern.title.casefold()
    ]
    commands = [
        Hit(
            kind="uv command",
            name=workflow.command,
            path=address("/hosts", workflow=workflow.id, verdict="blocked"),
            note=f"{workflow.title}: hosts where it is blocked",
        )
        for workflow in catalogue.workflows
        if wanted in workflow.command.casefold() or wanted in workflow.title.casefold()
    ]
    return patterns[:MOST_OF_A_KIND] + commands[:MOST_OF_A_KIND]


def _named_in_the_fleet(session: Session, wanted: str) -> list[Hit]:
    folded = wanted.casefold()
    hosts = [
        Hit(kind="Host", name=host.name, path=f"/hosts/{host.id}", note=host.group)
        for host in list_hosts(session, HostFilter(name=wanted), rows=MOST_OF_A_KIND, with_tags=False).rows
    ]
    groups = [
        Hit(kind="Group", name=group.name, path=f"/hosts?group={group.id}")
        for group in list_groups(session)
        if folded in group.name.casefold()
    ]
    tags = [
        Hit(kind="Tag", name=one.tag, path=address("/hosts", tag=one.tag))
        for one in list_tags(session)
        if folded in one.tag
    ]
    versions = [
        Hit(kind="uv version", name=one.version, path=address("/hosts", version=one.version))
        for one in read_overview(session).versions
        if one.version and one.version.startswith(folded)
    ]
    return hosts + groups[:MOST_OF_A_KIND] + tags[:MOST_OF_A_KIND] + versions[:MOST_OF_A_KIND]
