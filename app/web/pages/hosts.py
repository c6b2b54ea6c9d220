"""Hosts: the filtered list, and one host with its probes, uv, policy and history."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from agent.contract.facts import Engine
from app.accounts.roles import Permission
from app.db.session import SessionDep
from app.fleet.host_filter import OUTCOME_GROUPS, count_or_tally
from app.fleet.hosts import mark_shared
from app.fleet.queries import list_groups
from app.fleet.queries_hosts import Change, HostDetail, HostFilter, get_host, list_hosts
from app.fleet.queries_sightings import count_host_sightings, look_at_sightings
from app.fleet.reported import preferred_version, read_reported, service_words
from app.fleet.rights import look_at_rights
from app.fleet.standing import HostState, Standing
from app.fleet.tags import list_tags, tags_of
from app.fleet.workflow_filter import CHOICES
from app.fleet.workflows import judge_workflows
from app.web.glossary import STANDING_WORDS
from app.web.guards import ManageAgents, ViewFleet, ViewSightings
from app.web.templating import render
from app.web.words import engine_words

router = APIRouter(include_in_schema=False)

COUNT_LIMIT = 1000
CSV_ROW_BYTES = 122
"""Of the host list as a file, on the average of 200,000 made hosts."""
TRIED_SHOWN = 200
SEEN = {"day": "in the last 24 hours", "week": "1 to 7 days ago", "older": "longer ago"}
STATES = {HostState.QUARANTINED: "in quarantine", HostState.REVOKED: "revoked", HostState.ACTIVE: "active"}
ENGINES = {engine.value: engine_words([engine.value]) for engine in Engine}
COLUMNS = {
    "group": "Group",
    "uv": "uv",
    "patterns": "Patterns",
    "users": "Users",
    "seen": "Last seen",
    "state": "State",
    "enrolled": "Enrolled",
    "standing": "Standing",
}
USUAL_COLUMNS = ("group", "uv", "patterns", "users", "seen")
OUTCOMES = ("blocked", "denied", "allowed", "audited", "absent", "unknown", "error", *OUTCOME_GROUPS)


def read_filter(
    q: Annotated[str, Query(max_length=100)] = "",
    group: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
    pattern: Annotated[str, Query(max_length=80)] = "",
    outcome: Annotated[str, Query(max_length=20)] = "",
    version: Annotated[str | None, Query(max_length=64)] = None,
    older: Annotated[str, Query(max_length=64)] = "",
    standing: Annotated[str, Query(max_length=20)] = "",
    workflow: Annotated[str, Query(max_length=80)] = "",
    verdict: Annotated[str, Query(max_length=20)] = "",
    tag: Annotated[str, Query(max_length=60)] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    attested: Annotated[str, Query(max_length=5)] = "",
    gap: Annotated[str, Query(max_length=5)] = "",
    seen: Annotated[str, Query(max_length=10)] = "",
    engine: Annotated[str, Query(max_length=20)] = "",
    policy: Annotated[str, Query(pattern=r"^\d{0,18}$")] = "",
    install: Annotated[str | None, Query(max_length=80)] = None,
) -> HostFilter:
    """The filter of an address.

    `version` empty: hosts without a uv; `older`: with an older uv than this; `install`: the pattern of the place that
    uv runs from, empty: a place that no pattern names.
    """
    return HostFilter(
        name=q.strip(),
        group_id=int(group) if group else None,
        pattern=pattern or None,
        outcome=outcome if outcome in OUTCOMES else "blocked",
        version=version,
        older_than=older.strip() or None,
        standing=Standing[standing.upper()] if standing.upper() in Standing.__members__ else None,
        workflow=workflow if workflow in {one.id for one in load_catalogue().workflows} else None,
        verdict=verdict if verdict in CHOICES else "blocked",
        tag=tag.strip().casefold() or None,
        state=HostState[state.upper()] if state.upper() in HostState.__members__ else None,
        attested={"yes": True, "no": False}.get(attested),
        has_gap=gap == "yes",
        seen=seen if seen in SEEN else None,
        engine=engine if engine in ENGINES else None,
        policy_id=int(policy) if policy else None,
        install=install,
    )


@router.get("/hosts")
def show_hosts(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    wanted: Annotated[HostFilter, Depends(read_filter)],
    cursor: Annotated[str, Query(max_length=800)] = "",
    columns: Annotated[str, Query(max_length=200)] = "",
    column: Annotated[list[str] | None, Query(max_length=20)] = None,
) -> Response:
    catalogue = load_catalogue()
    # From an address one word with all; from the form one for each box.
    chosen = [one for one in COLUMNS if one in (column or columns.split("."))] or list(USUAL_COLUMNS)
    groups = {group.id: group.name for group in list_groups(session)}
    filters = _filters(wanted)
    count, users = count_or_tally(session, wanted, limit=COUNT_LIMIT)
    view = filters if tuple(chosen) == USUAL_COLUMNS else filters | {"columns": ".".join(chosen)}
    return render(
        request,
        "hosts/list.html",
        fragment="results",
        address=_address(view | ({"cursor": cursor} if cursor else {})),
        columns=COLUMNS,
        chosen_columns=chosen,
        tags=[one.tag for one in list_tags(session)],
        seen_spans=SEEN,
        states=STATES,
        engines=ENGINES,
        wanted=wanted,
        page=list_hosts(session, wanted, cursor or None),
        count=count,
        file_rows=users or (count if count < COUNT_LIMIT else None),
        row_bytes=CSV_ROW_BYTES,
        count_limit=COUNT_LIMIT,
        groups=groups,
        patterns=[one for one in catalogue.patterns if one.is_executed],
        outcomes=OUTCOMES,
        standings=STANDING_WORDS,
        chips=[
            (text, _address({k: v for k, v in view.items() if k not in keys})) for keys, text in _chips(wanted, groups)
        ],
        first_page=_address(view),
        file_query=f"?{urlencode(filters)}" if filters else "",
        next_page=lambda next_cursor: _address({**view, "cursor": next_cursor}),
        is_first_page=not cursor,
        is_filtered=bool(filters),
        public_url=request.app.state.settings.public_url,
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


def _filters(wanted: HostFilter) -> dict[str, str]:
    """The filter as it stands in the address."""
    filters: dict[str, str] = {}
    if wanted.name:
        filters["q"] = wanted.name
    if wanted.group_id is not None:
        filters["group"] = str(wanted.group_id)
    if wanted.pattern:
        filters["pattern"] = wanted.pattern
        filters["outcome"] = wanted.outcome
    if wanted.workflow:
        filters["workflow"] = wanted.workflow
        filters["verdict"] = wanted.verdict
    if wanted.version is not None:
        filters["version"] = wanted.version
    if wanted.older_than is not None:
        filters["older"] = wanted.older_than
    if wanted.install is not None:
        filters["install"] = wanted.install
    if wanted.standing is not None:
        filters["standing"] = wanted.standing.name.lower()
    if wanted.state is not None:
        filters["state"] = wanted.state.name.lower()
    if wanted.attested is not None:
        filters["attested"] = "yes" if wanted.attested else "no"
    if wanted.has_gap:
        filters["gap"] = "yes"
    simple = {"tag": wanted.tag, "seen": wanted.seen, "engine": wanted.engine, "policy": wanted.policy_id}
    filters |= {key: str(value) for key, value in simple.items() if value is not None}
    return filters


def _chips(wanted: HostFilter, groups: dict[int, str]) -> list[tuple[tuple[str, ...], str]]:
    """The filter in force, as removable words: the address's keys that a chip takes away, and its text."""
    chips: list[tuple[tuple[str, ...], str]] = []
    if wanted.name:
        chips.append((("q",), f"name has “{wanted.name}”"))
    if wanted.group_id is not None:
        chips.append((("group",), f"group {groups.get(wanted.group_id, 'that is gone')}"))
    if wanted.pattern:
        chips.append((("pattern", "outcome"), f"{wanted.outcome} at {wanted.pattern}"))
    if wanted.workflow:
        chips.append((("workflow", "verdict"), workflow_words(wanted.workflow, wanted.verdict)))
    if wanted.version is not None:
        chips.append((("version",), f"uv {wanted.version}" if wanted.version else "no uv found"))
    if wanted.older_than is not None:
        chips.append((("older",), f"uv older than {wanted.older_than}"))
    if wanted.install is not None:
        chips.append((("install",), f"uv from {wanted.install or 'a place that no pattern names'}"))
    if wanted.standing is not None:
        chips.append((("standing",), STANDING_WORDS[wanted.standing]))
    if wanted.tag is not None:
        chips.append((("tag",), f"tag {wanted.tag}"))
    if wanted.state is not None:
        chips.append((("state",), STATES[wanted.state]))
    if wanted.attested is not None:
        chips.append((("attested",), "attested" if wanted.attested else "unattested"))
    if wanted.has_gap:
        chips.append((("gap",), "with gaps"))
    if wanted.seen is not None:
        chips.append((("seen",), f"last seen {SEEN[wanted.seen]}"))
    if wanted.engine is not None:
        chips.append((("engine",), f"by {ENGINES[wanted.engine]}"))
    if wanted.policy_id is not None:
        chips.append((("policy",), f"under policy {wanted.policy_id}"))
    return chips


def workflow_words(workflow_id: str, verdict: str) -> str:
    """A command and whether it works, in a chip's few words."""
    command = load_catalogue().workflow(workflow_id)
    said = {"works": "works", "partly": "works in part", "blocked": "blocked", "unknown": "could not be tried"}
    said |= {"runs": "works, wholly or in part", "told": "could be tried"}
    return f"{command.command} ({command.title[0].lower()}{command.title[1:]}): {said[verdict]}"


def _address(filters: dict[str, str]) -> str:
    return f"/hosts?{urlencode(filters)}" if filters else "/hosts"
