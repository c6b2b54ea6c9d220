"""uv versions: which run where, and what is known of each."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.web.guards import ViewFleet
from app.web.pages.overview import read_shown_overview
from app.web.templating import render

router = APIRouter(include_in_schema=False)


@router.get("/versions")
def show_versions(person: ViewFleet, request: Request, session: SessionDep) -> Response:  # noqa: ARG001 - the guard
    overview = read_shown_overview(session)
    versions = sorted(overview.versions, key=lambda one: version_key(one.version), reverse=True)
    catalogue = load_catalogue()
    signed_since = min((signer.since for signer in catalogue.signers if signer.id == "openai"), default=None)
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
        with_uv=sum(one.subjects for one in overview.versions if one.version),
    )


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """How versions sort: numbers as numbers; none at all before all others.

    >>> sorted(["0.10.0", "0.9.2", ""], key=version_key)
    ['', '0.9.2', '0.10.0']
    """
    if not version:
        return ()
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in version.replace("-", ".").split("."))
