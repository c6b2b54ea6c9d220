"""The filtered host list as a file: CSV or JSON, all of it, streamed page by page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine
from starlette.responses import Response, StreamingResponse

from app.db.session import session_scope
from app.fleet.queries_hosts import HostFilter, HostLine, list_hosts
from app.web.guards import ViewFleet
from app.web.pages.hosts import read_filter

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
# A spreadsheet takes a cell that begins so for a formula; host names come from workstations.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@router.get("/hosts.csv")
def hosts_as_csv(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    wanted: Annotated[HostFilter, Depends(read_filter)],
) -> Response:
    return _streamed(_csv_lines(request.app.state.engine, wanted), "text/csv; charset=utf-8", "wayleave-hosts.csv")


@router.get("/hosts.json")
def hosts_as_json(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    wanted: Annotated[HostFilter, Depends(read_filter)],
) -> Response:
    return _streamed(_json_lines(request.app.state.engine, wanted), "application/json", "wayleave-hosts.json")


def plain_cell(value: str) -> str:
    """A cell that no spreadsheet takes for a formula.

    >>> plain_cell("=1+1"), plain_cell("PC-1")
    ("'=1+1", 'PC-1')
    """
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value


def _streamed(lines: Iterator[str], media_type: str, name: str) -> Response:
    return StreamingResponse(
        lines, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _csv_lines(engine: Engine, wanted: HostFilter) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for rows in _pages(engine, wanted):
        writer.writerows([plain_cell(str(value)) for value in _cells(row).values()] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json_lines(engine: Engine, wanted: HostFilter) -> Iterator[str]:
    yield "["
    separator = "\n"
    for rows in _pages(engine, wanted):
        for row in rows:
            yield separator + json.dumps(_cells(row), ensure_ascii=False)
            separator = ",\n"
    yield "\n]\n"


def _pages(engine: Engine, wanted: HostFilter) -> Iterator[tuple[HostLine, ...]]:
    """All hosts that fit. Each page has a short transaction of its own: a slow reader holds nothing up."""
    cursor = None
    while True:
        with session_scope(engine, writes=False) as session:
            page = list_hosts(session, wanted, cursor, ROWS_AT_ONCE)
        if page.rows:
            yield page.rows
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
