"""The filtered host list as a file: CSV or JSON, all of it, streamed page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.audit.record import Actor, record
from app.db.session import SessionDep, session_scope
from app.errors import InvalidError
from app.fleet.host_filter import HostFilter, find_all_fitting
from app.fleet.host_lines import HostLine, Known, read_lines
from app.web.guards import ViewFleet
from app.web.pages.host_filters import filters_of, read_filter
from app.web.streamed import csv_file, json_file

router = APIRouter(include_in_schema=False)

ROWS_AT_ONCE = 2000
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
    "enrolled",
    "attested",
    "tags",
)
OF_PAGE = {
    "group": "group",
    "uv": "uv",
    "patterns": "blocked_patterns",
    "users": "users",
    "seen": "last_seen",
    "state": "state",
    "enrolled": "enrolled",
    "standing": "standings",
    "attested": "attested",
    "tags": "tags",
}
"""The page's columns, by which a file's are chosen, too."""


def read_columns(columns: Annotated[str, Query(max_length=200)] = "") -> tuple[str, ...]:
    """The columns of a file: all, or the id and name and those chosen. raises: InvalidError for one that there is not.

    `columns`: as in the page's address, joined by dots.
    """
    if not columns:
        return COLUMNS
    chosen = columns.split(".")
    for one in chosen:
        if one not in OF_PAGE:
            raise InvalidError(f"There is no column {one!a}: choose of {', '.join(OF_PAGE)}.", field="columns")
    names = {"id", "name", *(OF_PAGE[one] for one in chosen)}
    return tuple(one for one in COLUMNS if one in names)


@router.get("/hosts.csv")
def hosts_as_csv(
    person: ViewFleet,
    request: Request,
    session: SessionDep,
    wanted: Annotated[HostFilter, Depends(read_filter)],
    columns: Annotated[tuple[str, ...], Depends(read_columns)],
) -> Response:
    _note(session, person.actor, "csv", wanted, columns)
    return csv_file("wayleave-hosts.csv", columns, _pages(request.app.state.engine, wanted, columns))


@router.get("/hosts.json")
def hosts_as_json(
    person: ViewFleet,
    request: Request,
    session: SessionDep,
    wanted: Annotated[HostFilter, Depends(read_filter)],
    columns: Annotated[tuple[str, ...], Depends(read_columns)],
) -> Response:
    _note(session, person.actor, "json", wanted, columns)
    return json_file("wayleave-hosts.json", _pages(request.app.state.engine, wanted, columns))


def _note(session: Session, actor: Actor, kind: str, wanted: HostFilter, columns: tuple[str, ...]) -> None:
    """That a list of hosts left goes into the audit log, with what it was asked for."""
    record(session, actor, "hosts.exported", kind, filter=urlencode(filters_of(wanted)), columns=".".join(columns))


def _pages(engine: Engine, wanted: HostFilter, columns: tuple[str, ...]) -> Iterator[list[dict[str, str | int]]]:
    """All hosts that fit: which these are is found at once. What they are has a short transaction for each page: a slow
    reader holds nothing up.
    """
    known: Known = {}
    with session_scope(engine, writes=False) as session:
        ids = find_all_fitting(session, wanted)
    for begin in range(0, len(ids), ROWS_AT_ONCE):
        with session_scope(engine, writes=False) as session:
            lines = read_lines(session, ids[begin : begin + ROWS_AT_ONCE], known, with_tags="tags" in columns)
        yield [{name: cell for name, cell in _cells(line).items() if name in columns} for line in lines]


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
        "enrolled": row.enrolled_at.isoformat(),
        "attested": "yes" if row.attested else "no",
        "tags": ", ".join(row.tags),
    }
