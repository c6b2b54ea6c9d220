"""The JSON API, parts of pages: what changed and who is missing, a filter's count, a pattern's words, one host's users.

Put on the application before the rest of the API: `/hosts/count` would else be taken for a host's number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agent.catalogue import Pattern, Signer, Workflow
from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.diagnosis import Diagnosis, diagnose
from app.errors import NotFoundError
from app.fleet.agent_versions import AgentVersions, read_agent_versions
from app.fleet.attestation import Unattested, count_unattested
from app.fleet.host_filter import count_or_tally
from app.fleet.queries import read_overview
from app.fleet.queries_absence import AbsenceCount, read_absence
from app.fleet.queries_hosts import HostFilter, get_host
from app.fleet.queries_mismatch import Mismatches, read_mismatches
from app.fleet.queries_sightings import SeenKinds, SeenPath, read_seen, read_seen_kinds, summarise_sightings
from app.fleet.queries_trend import NewPolicy, NewVersion, Shifts, list_new_policies, list_new_versions
from app.fleet.reported import preferred_version
from app.fleet.tags import tags_of
from app.fleet.versions import version_key
from app.fleet.workflows import WorkflowState, judge_workflows
from app.policies.queries_exports import list_exports_since
from app.web.guards import ApiViewFleet
from app.web.pages.blocked import MAX_TEXT_CHARS, readers_of
from app.web.pages.host_filters import read_filter
from app.web.pages.overview import apart_of, read_shown_shifts
from app.web.pages.sightings import days_asked_for
from app.web.pages.versions import added_by, released_signed_since

router = APIRouter(prefix="/api/v1", tags=["fleet"])

GroupNumber = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
PatternId = Annotated[str, Path(max_length=100)]
MAX_SIGHTED_PATHS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMark:
    """An export as a mark on a trend."""

    id: int
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """What changed since the day before, and what is new in the days asked for: policies, uv versions, exports."""

    since_yesterday: Shifts
    policies: tuple[NewPolicy, ...]
    versions: tuple[NewVersion, ...]
    exports: tuple[ExportMark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Users who are in no share: by standing; silent or with gaps as of the last count; and unattested hosts."""

    standings: dict[str, int]
    missing: AbsenceCount
    unattested: Unattested


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCount:
    """How many hosts fit. `is_at_least`: there are more, nobody counted on; `users`: at most so many fit, if known."""

    hosts: int
    is_at_least: bool
    users: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUser:
    """One user of a host, by number, and which uv commands work there."""

    number: int
    standing: str
    uv: str | None
    workflows: tuple[WorkflowState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutPattern:
    """All that the catalogue says of a pattern, the uv commands that need it, and its known signer."""

    pattern: Pattern
    needed_by: tuple[Workflow, ...]
    helped_by: tuple[Workflow, ...]
    signer: Signer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """A uv version in use. `released_signed`: whether its uv.exe was released signed, by the catalogue; changes are
    against `before`, the next older one in use (null: not known)."""

    version: str
    users: int
    is_behind: bool
    released_signed: bool
    before: str | None
    new_patterns: tuple[str, ...]
    gone_patterns: tuple[str, ...]
    newly_signed: bool


class Pasted(BaseModel):
    """What uv printed."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARS)


@router.get("/overview/changes")
def get_changes(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    group: GroupNumber = None,
) -> Happened:
    """What changed since yesterday, and the policies, uv versions and exports that are new in the last days."""
    until = datetime.now(UTC)
    since = until - timedelta(days=days)
    return Happened(
        since_yesterday=read_shown_shifts(session, read_overview(session, group), until),
        policies=list_new_policies(session, since),
        versions=list_new_versions(session, days=days, until=until, group_id=group),
        exports=tuple(ExportMark(id=number, made_at=at) for number, at in list_exports_since(session, since)),
    )


@router.get("/overview/apart")
def get_apart(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: GroupNumber = None,
) -> Apart:
    """Who is in no share: administrators, under no policy, in quarantine, trials; who is silent or has gaps."""
    overview = read_overview(session, group)
    return Apart(
        standings={standing.name.lower(): count for standing, count in apart_of(overview)},
        missing=read_absence(session, group),
        unattested=count_unattested(session, group),
    )


@router.get("/hosts/count")
def get_host_count(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    wanted: Annotated[HostFilter, Depends(read_filter)],
    name: Annotated[str, Query(max_length=255)] = "",
    up_to: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> HostCount:
    """How many hosts fit a filter, by the same words as the list; counted one by one up to `up_to`."""
    hosts, users = count_or_tally(session, replace(wanted, name=name.strip() or wanted.name), limit=up_to + 1)
    return HostCount(hosts=min(hosts, up_to), is_at_least=hosts > up_to, users=users)


@router.get("/hosts/{host_id}/tags")
def get_host_tags(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> list[str]:
    """The tags of one host."""
    tags = tags_of(session, host_id)
    if not tags:
        get_host(session, host_id)
    return list(tags)


@router.get("/hosts/{host_id}/workflows")
def get_host_workflows(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> list[HostUser]:
    """For each user of a host which uv commands work, and which patterns stand in the way of the others."""
    users = []
    for one in get_host(session, host_id).subjects:
        version = preferred_version(one.sets)
        states = judge_workflows(one.patterns, version) if one.patterns else ()
        standing = one.standing.name.lower()
        users.append(HostUser(number=one.number, standing=standing, uv=version, workflows=states))
    return users


@router.get("/patterns/{pattern_id}/about")
def get_about_pattern(caller: ApiViewFleet, pattern_id: PatternId) -> AboutPattern:  # noqa: ARG001 - the guard
    """What a pattern is: its description, risk, sources, how it can be moved, which commands need it."""
    catalogue = load_catalogue()
    pattern = _known(pattern_id)
    return AboutPattern(
        pattern=pattern,
        needed_by=tuple(one for one in catalogue.workflows if pattern_id in one.needs),
        helped_by=tuple(one for one in catalogue.workflows if pattern_id in one.optional),
        signer=catalogue.signer(pattern.signer) if pattern.signer else None,
    )


@router.get("/patterns/{pattern_id}/sightings")
def get_pattern_sightings(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    pattern_id: PatternId,
    rows: Annotated[int, Query(ge=1, le=MAX_SIGHTED_PATHS)] = 10,
) -> list[SeenPath]:
    """The paths among the newest thousand sightings of a pattern, the latest first. No host and no user is named."""
    _known(pattern_id)
    return list(summarise_sightings(session, pattern_id, limit=rows))


@router.get("/patterns/{pattern_id}/mismatches")
def get_mismatches(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    pattern_id: PatternId,
) -> Mismatches:
    """Where a policy lets the canary and what uv really puts there fare differently."""
    _known(pattern_id)
    return read_mismatches(session, pattern_id)


@router.get("/sightings/kinds")
def get_sighting_kinds(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
    by: Literal["path", "identity"] = "path",
    pattern: Annotated[str | None, Query(max_length=80)] = None,
) -> SeenKinds:
    """What was refused, by path or by identity, the most seen first: at most 200, among the newest of each pattern."""
    start, end = days_asked_for(first, last)
    return read_seen_kinds(session, read_seen(session, start, end, pattern=pattern), start, end, by=by)


@router.get("/versions/in-use")
def get_versions_in_use(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: GroupNumber = None,
) -> list[VersionLine]:
    """The uv versions in use today, the newest first, with what each changes against the next older one."""
    catalogue = load_catalogue()
    found = sorted(read_overview(session, group).versions, key=lambda one: version_key(one.version), reverse=True)
    added = added_by([one.version for one in found], catalogue)
    signed_since = released_signed_since(catalogue)
    lines = []
    for one in found:
        change = added.get(one.version)
        lines.append(
            VersionLine(
                version=one.version,
                users=one.subjects,
                is_behind=bool(one.version) and version_key(one.version) < version_key(catalogue.newest_uv),
                released_signed=bool(one.version and signed_since)
                and version_key(one.version) >= version_key(signed_since or ""),
                before=change.before if change else None,
                new_patterns=tuple(new.id for new in change.new) if change else (),
                gone_patterns=tuple(gone.id for gone in change.gone) if change else (),
                newly_signed=change.signs if change else False,
            )
        )
    return lines


@router.get("/agents/versions")
def get_agent_versions(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: GroupNumber = None,
) -> AgentVersions:
    """Active hosts by version of the agent, the newest first, as of the last hourly count."""
    return read_agent_versions(session, group)


@router.post("/blocked")
async def post_blocked(caller: ApiViewFleet, request: Request, pasted: Pasted) -> Diagnosis:  # noqa: ARG001 - the guard
    """What was refused, by what, and what helps, from what uv printed. Nothing of the text is stored or logged."""
    return await to_thread.run_sync(diagnose, pasted.text, limiter=readers_of(request))


def _known(pattern_id: str) -> Pattern:
    try:
        return load_catalogue().pattern(pattern_id)
    except KeyError as error:
        raise NotFoundError("The catalogue has no such pattern.", field="pattern_id") from error
