"""Hosts: the filtered list, and one host with its probes, uv, policy and history."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.accounts.roles import Permission
from app.db.session import SessionDep
from app.fleet.choices import read_choices
from app.fleet.host_filter import count_or_tally
from app.fleet.hosts import mark_shared
from app.fleet.queries import GroupCount, list_groups
from app.fleet.queries_hosts import Change, HostDetail, get_host, list_hosts
from app.fleet.queries_sightings import count_host_sightings, look_at_sightings
from app.fleet.reported import preferred_version, read_reported, service_words
from app.fleet.rights import look_at_rights
from app.fleet.tags import list_tag_names, tags_of
from app.fleet.unseen import read_listed_at
from app.fleet.workflows import judge_workflows
from app.web.glossary import STANDING_WORDS
from app.web.guards import ManageAgents, ViewFleet, ViewSightings
from app.web.pages.host_filters import (
    ENGINES,
    NO_AGENT,
    NO_UV,
    OUTCOMES,
    SEEN,
    STATES,
    VERDICT_WORDS,
    Wanted,
    chips_of,
    filters_of,
    read_wanted,
)
from app.web.pages.host_filters import read_filter as read_filter
from app.web.templating import render

router = APIRouter(include_in_schema=False)

COUNT_LIMIT = 1000
CSV_ROW_BYTES = 164
"""Of the host list as a file with all columns, on the average of 100,000 made hosts."""
TRIED_SHOWN = 200
COLUMNS = {
    "group": "Group",
    "uv": "uv",
    "patterns": "Patterns",
    "users": "Users",
    "seen": "Last seen",
    "state": "State",
    "enrolled": "Enrolled",
    "standing": "Standing",
    "attested": "Attested",
    "tags": "Tags",
}
USUAL_COLUMNS = ("group", "uv", "patterns", "users", "seen")


@router.get("/hosts")
def show_hosts(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    asked: Annotated[Wanted, Depends(read_wanted)],
    cursor: Annotated[str, Query(max_length=800)] = "",
    columns: Annotated[str, Query(max_length=200)] = "",
    column: Annotated[list[str] | None, Query(max_length=20)] = None,
    group_name: Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")] = "",
) -> Response:
    """`group_name`: from a form, where there are too many groups for a list of them."""
    catalogue = load_catalogue()
    all_groups = list_groups(session)
    asked = _with_group(asked, all_groups, group_name.strip())
    wanted = asked.filter
    # From an address one word with all; from the form one for each box.
    chosen = [one for one in COLUMNS if one in (column or columns.split("."))] or list(USUAL_COLUMNS)
    groups = {group.id: group.name for group in all_groups}
    filters = filters_of(wanted)
    count, users = count_or_tally(session, wanted, limit=COUNT_LIMIT + 1)
    view = filters if tuple(chosen) == USUAL_COLUMNS else filters | {"columns": ".".join(chosen)}
    return render(
        request,
        "hosts/list.html",
        fragment="results",
        address=_address(view | ({"cursor": cursor} if cursor else {})),
        columns=COLUMNS,
        chosen_columns=chosen,
        tags=list_tag_names(session),
        choices=read_choices(session),
        no_uv=NO_UV,
        no_agent=NO_AGENT,
        workflows=catalogue.workflows,
        verdicts=VERDICT_WORDS,
        problems=asked.problems,
        listed_at=read_listed_at(session) if wanted.seen or wanted.seen_from or wanted.seen_to else None,
        seen_spans=SEEN,
        states=STATES,
        engines=ENGINES,
        wanted=wanted,
        page=list_hosts(session, wanted, cursor or None, with_tags="tags" in chosen),
        count=count,
        file_rows=users or (count if count <= COUNT_LIMIT else None),
        row_bytes=CSV_ROW_BYTES,
        count_limit=COUNT_LIMIT,
        groups=all_groups,
        patterns=[one for one in catalogue.patterns if one.is_executed],
        outcomes=OUTCOMES,
        standings=STANDING_WORDS,
        chips=[
            (text, _address({k: v for k, v in view.items() if k not in keys}))
            for keys, text in chips_of(wanted, groups)
        ],
        first_page=_address(view),
        file_query=f"?{urlencode(view)}" if view else "",
        next_page=lambda next_cursor: _address({**view, "cursor": next_cursor}),
        is_first_page=not cursor,
        is_filtered=bool(filters),
        public_url=request.app.state.settings.public_url,
        status=422 if asked.problems else 200,
    )


@router.get("/hosts/{host_id}")
def show_host(
    person: ViewFleet,
    request: Request,
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> Response:
    host = get_host(session, host_id)
    return render(
        request,
        "hosts/page.html",
        host=host,
        changes=changes_of(host),
        service_words=service_words,
        reported={one.id: read_reported(one.sets) for one in host.subjects},
        sightings=count_host_sightings(session, host_id),
        may_manage=Permission.MANAGE_AGENTS in person.permissions,
        tags=tags_of(session, host_id),
        groups=list_groups(session),
        may_see_sightings=Permission.VIEW_SIGHTINGS in person.permissions,
        standing_words=STANDING_WORDS,
        patterns={pattern.id: pattern for pattern in load_catalogue().patterns},
        workflows={workflow.id: workflow for workflow in load_catalogue().workflows},
        workflow_states={
            one.id: judge_workflows(one.patterns, preferred_version(one.sets)) for one in host.subjects if one.patterns
        },
    )


def changes_of(host: HostDetail) -> list[tuple[int, Change]]:
    """The changes of all users of a host, the newest first, each with the user's number."""
    every = [(one.number, change) for one in host.subjects for change in one.timeline]
    return sorted(every, key=lambda item: item[1].at, reverse=True)


@router.post("/hosts/{host_id}/shared")
def share_host(
    person: ManageAgents,
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
    shared: Annotated[str, Form(pattern="^(yes|no)$")],
) -> Response:
    mark_shared(session, host_id, shared=shared == "yes", actor=person.actor)
    return RedirectResponse(f"/hosts/{host_id}", status_code=303)


@router.get("/hosts/{host_id}/tried")
def show_tried(
    person: ViewSightings,
    request: Request,
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> Response:
    """Who really tried to run what on a host. Every look is audited."""
    host = get_host(session, host_id)
    return render(
        request,
        "hosts/tried.html",
        host=host,
        numbers={one.id: one.number for one in host.subjects},
        sightings=look_at_sightings(session, host_id, host.name, actor=person.actor, limit=TRIED_SHOWN),
        rights=look_at_rights(session, host_id, actor=person.actor),
        limit=TRIED_SHOWN,
        patterns={pattern.id: pattern for pattern in load_catalogue().patterns},
    )


def _with_group(asked: Wanted, groups: tuple[GroupCount, ...], name: str) -> Wanted:
    """The filter with the group of a name; how that is written does not matter unless two differ by it alone."""
    if not name or asked.filter.group_id is not None:
        return asked
    alike = [one for one in groups if one.name.casefold() == name.casefold()]
    found = next((one for one in alike if one.name == name), alike[0] if alike else None)
    if found is None:
        return replace(asked, problems={**asked.problems, "group": f"There is no group of the name “{name}”."})
    return replace(asked, filter=replace(asked.filter, group_id=found.id))


def _address(filters: dict[str, str]) -> str:
    return f"/hosts?{urlencode(filters)}" if filters else "/hosts"
