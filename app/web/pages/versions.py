"""uv versions: which run where, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from agent.catalogue.changes import compare_versions
from app.db.session import SessionDep
from app.fleet.installs import read_installs
from app.fleet.queries_trend import VersionTrend, read_version_trend
from app.fleet.versions import version_key
from app.web.guards import ViewFleet
from app.web.pages.overview import read_shown_overview
from app.web.templating import render

router = APIRouter(include_in_schema=False)

TREND_DAYS = (30, 90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a version changes against the version in use before it: places that come and go, a new signature."""

    before: str
    new: tuple[Pattern, ...]
    gone: tuple[Pattern, ...]
    signs: bool


@router.get("/versions")
def show_versions(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    days: Annotated[int, Query(ge=1, le=3650)] = TREND_DAYS[1],
) -> Response:
    shown_days = days if days in TREND_DAYS else TREND_DAYS[1]
    trend = read_version_trend(session, days=shown_days, until=datetime.now(UTC))
    overview = read_shown_overview(session)
    versions = sorted(overview.versions, key=lambda one: version_key(one.version), reverse=True)
    catalogue = load_catalogue()
    signed_since = released_signed_since(catalogue)
    behind = sum(
        one.subjects
        for one in overview.versions
        if one.version and version_key(one.version) < version_key(catalogue.newest_uv)
    )
    return render(
        request,
        "versions/page.html",
        overview=overview,
        versions=versions,
        newest=catalogue.newest_uv,
        signed_since=signed_since,
        is_signed=lambda version: bool(version and signed_since and version_key(version) >= version_key(signed_since)),
        behind=behind,
        installs=read_installs(session, None if overview.group is None else overview.group.id),
        patterns={one.id: one for one in catalogue.patterns},
        added=added_by([one.version for one in versions], catalogue),
        days=shown_days,
        trend_days=TREND_DAYS,
        trend=trend,
        chart={"days": [one.isoformat() for one in trend.days], "series": series_of(trend)},
        with_uv=sum(one.subjects for one in overview.versions if one.version),
    )


def released_signed_since(catalogue: Catalogue) -> str | None:
    """Since which uv its releases are signed; None where the catalogue knows of none."""
    return min((signer.since for signer in catalogue.signers if signer.id == "openai"), default=None)


def series_of(trend: VersionTrend) -> list[dict[str, Any]]:
    """What the chart stacks: the newest version lowest, then the older ones, the others, and who has no uv."""
    known = sorted((one for one in trend.versions if one[0]), key=lambda one: version_key(one[0]), reverse=True)
    shown: list[dict[str, Any]] = [{"name": version, "values": values} for version, values in known]
    if any(trend.others):
        shown.append({"name": "others", "values": trend.others, "is_rest": True})
    without = dict(trend.versions).get("")
    return [*shown, {"name": "no uv found", "values": without, "is_rest": True}] if without else shown


def added_by(versions: list[str], catalogue: Catalogue) -> dict[str, Added]:
    """What each version in use changes against the next older one in use. `versions`: the newest first."""
    found = {}
    for version, before in pairwise(versions):
        try:
            changes = compare_versions(catalogue, before, version)
        except ValueError:  # a workstation may report any word as its version
            continue
        executed = tuple(one for one in changes.new_patterns if one.is_executed)
        found[version] = Added(before=before, new=executed, gone=changes.old_patterns, signs=bool(changes.new_signers))
    return found
