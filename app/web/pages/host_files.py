"""The filtered host list as a file: CSV or JSON, all of it, streamed page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine
from starlette.responses import Response

from app.db.session import session_scope
from app.fleet.queries_hosts import HostFilter, HostLine, list_hosts
from app.web.guards import ViewFleet
from app.web.pages.hosts import read_filter
from app.web.streamed import csv_file, json_file

router = APIRouter(include_in_schema=False)

ROWS_AT_ONCE = 500
COLUMNS = (
    "id",
    "name",
    "group",
    "platform",
    "os",
    "state",
    "users",
    "standings",
    "blocked_patterns",
    "uv",
    "last_seen",
)


@router.get("/hosts.csv")
def hosts_as_csv(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    wanted: Annotated[HostFilter, Depends(read_filter)],
) -> Response:
    return csv_file("wayleave-hosts.csv", COLUMNS, _pages(request.app.state.engine, wanted))


@router.get("/hosts.json")
def hosts_as_json(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    wanted: Annotated[HostFilter, Depends(read_filter)],
) -> Response:
    return json_file("wayleave-hosts.json", _pages(request.app.state.engine, wanted))


def _pages(engine: Engine, wanted: HostFilter) -> Iterator[list[dict[str, str | int]]]:
    """All hosts that fit. Each page has a short transaction of its own: a slow reader holds nothing up."""
    cursor = None
    while True:
        with session_scope(engine, writes=False) as session:
            page = list_hosts(session, wanted, cursor, ROWS_AT_ONCE)
        if page.rows:
            yield [_cells(row) for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return


def _cells(row: HostLine) -> dict[str, str | int]:
    return {
        "id": row.id,
        "name": row.name,
        "group": row.group,
        "platform": row.platform,
        "os": row.os,
        "state": row.state.name.lower(),
        "users": row.subjects,
        "standings": " ".join(standing.name.lower() for standing in row.standings),
        "blocked_patterns": row.blocked,
        "uv": row.version or "",
        "last_seen": row.last_seen_at.isoformat() if row.last_seen_at else "",
    }
