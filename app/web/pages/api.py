"""The JSON API for programs: what the pages show, for bearers of a token. Described by /api/v1/openapi.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from agent.catalogue import load as load_catalogue
from app.audit.queries import EntryPage, list_entries
from app.db.base import now
from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.fold import Waiting, count_waiting
from app.fleet.installs import Installs, read_installs
from app.fleet.queries import (
    GroupCount,
    HeatMap,
    Overview,
    PatternDetail,
    list_groups,
    read_heat_map,
    read_overview,
    read_pattern,
)
from app.fleet.queries_hosts import (
    HostDetail,
    HostFilter,
    HostLine,
    get_host,
    list_hosts,
)
from app.fleet.queries_sightings import Seen, SeenFile, look_at_sightings, read_seen
from app.fleet.queries_trend import TrendDay, VersionTrend, read_trend, read_version_trend
from app.fleet.rights import UserRights, look_at_rights
from app.fleet.rule_uses import KEPT_DAYS
from app.fleet.sharing import Sharing, find_sharing
from app.fleet.standing import Standing
from app.fleet.tags import TagCount, list_tags
from app.jobs.queries import JobLine, list_jobs
from app.policies.in_force import PolicyLine, page_policies
from app.policies.record_export import RecordedExport, list_exports
from app.policies.rule_counts import COUNTS_KEPT_DAYS
from app.policies.used_rules import UsedRule, list_used_rules
from app.web.guards import ApiManageSettings, ApiViewAudit, ApiViewFleet, ApiViewSightings
from app.web.pages.hosts import read_filter
from app.web.pages.sightings import days_asked_for

router = APIRouter(prefix="/api/v1", tags=["fleet"])

MAX_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CataloguePattern:
    """A pattern of the catalogue, as far as a reader needs it."""

    id: str
    group: str
    title: str
    path: str
    collections: tuple[str, ...]
    is_executed: bool
    rule_kinds: tuple[str, ...]
    applocker_paths: tuple[str, ...]
    since: str | None
    until: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPage:
    """Some hosts, and the cursor to ask the next with (null: these are the last)."""

    hosts: tuple[HostLine, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether the server can stay small and keeps up. `waiting`: changes that no count has yet."""

    sharing: Sharing | None
    waiting: Waiting


@router.get("/overview")
def get_overview(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Overview:
    """The fleet, or one group: patterns by outcome, uv commands by verdict, uv versions."""
    return read_overview(session, group)


@router.get("/heat-map")
def get_heat_map(caller: ApiViewFleet, session: SessionDep) -> HeatMap:  # noqa: ARG001 - the guard
    """Shares of users who are blocked, by pattern and group."""
    return read_heat_map(session)


@router.get("/patterns")
def get_patterns(caller: ApiViewFleet) -> list[CataloguePattern]:  # noqa: ARG001 - the guard
    """The patterns of the catalogue."""
    return [
        CataloguePattern(
            id=one.id,
            group=one.group,
            title=one.title,
            path=one.default_path,
            collections=one.collections,
            is_executed=one.is_executed,
            rule_kinds=one.rule_kinds,
            applocker_paths=one.applocker_paths,
            since=one.since,
            until=one.until,
        )
        for one in load_catalogue().patterns
    ]


@router.get("/patterns/{pattern_id}")
def get_pattern(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    pattern_id: Annotated[str, Path(max_length=100)],
) -> PatternDetail:
    """One pattern, fleet-wide and by group."""
    return read_pattern(session, pattern_id)


@router.get("/hosts")
def get_hosts(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    wanted: Annotated[HostFilter, Depends(read_filter)],
    name: Annotated[str, Query(max_length=255)] = "",
    standing: Annotated[str | None, Query(max_length=20)] = None,
    cursor: Annotated[str | None, Query(max_length=800)] = None,
    rows: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
) -> HostPage:
    """Hosts by name, by the same filters as the page. `name` or `q`: how it begins; `version`: empty for hosts without
    a uv."""
    if standing is not None and standing.upper() not in Standing.__members__:
        raise InvalidError(f"Choose one of {', '.join(Standing.__members__).lower()}.", field="standing")
    page = list_hosts(session, replace(wanted, name=name.strip() or wanted.name), cursor, rows)
    return HostPage(hosts=page.rows, next_cursor=page.next_cursor)


@router.get("/hosts/{host_id}")
def get_one_host(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> HostDetail:
    """One host with its users by number, what they reported last but for their groups, and what changed."""
    return get_host(session, host_id)


@router.get("/hosts/{host_id}/sightings")
def get_host_sightings(
    caller: ApiViewSightings,
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
    rows: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
) -> list[SeenFile]:
    """Who really tried to run what on a host, the newest first. Needs the right to see it; every call is audited."""
    host = get_host(session, host_id)
    return list(look_at_sightings(session, host_id, host.name, actor=caller.actor, limit=rows))


@router.get("/hosts/{host_id}/rights")
def get_host_rights(
    caller: ApiViewSightings,
    session: SessionDep,
    host_id: Annotated[int, Path(ge=1, le=2**62)],
) -> list[UserRights]:
    """The groups of each user of a host, well-known or named by rules. As who ran what: its own right, and audited."""
    return list(look_at_rights(session, host_id, actor=caller.actor))


@router.get("/sightings")
def get_sightings(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
    pattern: Annotated[str | None, Query(max_length=80)] = None,
) -> Seen:
    """What was refused, by day (UTC) and pattern; the last fortnight, or from one day to another."""
    start, end = days_asked_for(first, last)
    return read_seen(session, start, end, pattern=pattern)


@router.get("/trend")
def get_trend(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    workflow: Annotated[str, Query(max_length=80)],
    days: Annotated[int, Query(ge=1, le=3650)] = 30,
    group: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> list[TrendDay]:
    """For how many users a uv command worked at the end of each day (UTC)."""
    return list(read_trend(session, workflow, days=days, until=datetime.now(UTC), group_id=group))


@router.get("/versions")
def get_versions(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    days: Annotated[int, Query(ge=1, le=3650)] = 90,
) -> VersionTrend:
    """Users by uv version and day (UTC)."""
    return read_version_trend(session, days=days, until=datetime.now(UTC), most=50)


@router.get("/installs")
def get_installs(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    group: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Installs:
    """Users by how uv was installed: the pattern of the place that it runs from."""
    return read_installs(session, group)


@router.get("/groups")
def get_groups(caller: ApiViewFleet, session: SessionDep) -> list[GroupCount]:  # noqa: ARG001 - the guard
    """Groups and their users by standing."""
    return list(list_groups(session))


@router.get("/tags")
def get_tags(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    after: Annotated[str, Query(max_length=60)] = "",
    rows: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[TagCount]:
    """Tags by name and how many hosts have each, those after `after`."""
    return list(list_tags(session, after=after, limit=rows))


@router.get("/policies")
def get_policies(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    after: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    rows: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
) -> list[PolicyLine]:
    """Distinct policies in force, with who is under each and their lint: those of most users first, following policy
    `after`."""
    return list(page_policies(session, after=after, rows=rows).policies)


@router.get("/policies/{policy_id}/rules")
def get_policy_rules(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    policy_id: Annotated[int, Path(ge=1, le=2**62)],
    days: Annotated[int, Query(ge=1, le=COUNTS_KEPT_DAYS)] = KEPT_DAYS,
) -> list[UsedRule]:
    """The rules of one policy in force, and how often each was used, where agents count it."""
    return list(list_used_rules(session, policy_id, at=now(), days=days))


@router.get("/jobs")
def get_jobs(caller: ApiManageSettings, session: SessionDep) -> list[JobLine]:  # noqa: ARG001 - the guard
    """What the server does by the clock, and how each last run went."""
    return list(list_jobs(session))


@router.get("/health")
def get_health(caller: ApiManageSettings, session: SessionDep) -> Health:  # noqa: ARG001 - the guard
    """How well workstations share their facts (null: not measured yet), and how many changes wait to be counted."""
    return Health(sharing=find_sharing(session), waiting=count_waiting(session))


@router.get("/audit")
def get_audit(
    caller: ApiViewAudit,  # noqa: ARG001 - the guard
    session: SessionDep,
    search: Annotated[str, Query(max_length=100)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    rows: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
) -> EntryPage:
    """The audit log, the newest first, in pages."""
    return list_entries(session, search=search, before=before, limit=rows)


@router.get("/exports")
def get_exports(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    rows: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
) -> list[RecordedExport]:
    """Exports of rules, the newest first, older than export `before`."""
    return list(list_exports(session, before=before, limit=rows))


@router.get("/openapi.json", include_in_schema=False)
def get_description(caller: ApiViewFleet, request: Request) -> dict[str, Any]:  # noqa: ARG001 - the guard
    """This API, described for programs that make clients."""
    description: dict[str, Any] = request.app.openapi()
    return description
