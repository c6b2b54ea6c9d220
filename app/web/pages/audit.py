"""The audit log: who did what, newest first; what fits a search as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Engine
from starlette.responses import Response

from app.audit.queries import list_entries
from app.audit.record import record
from app.db.session import SessionDep, session_scope
from app.web.guards import ViewAudit
from app.web.streamed import csv_file, json_file
from app.web.templating import address, render, wants_fragment, wants_main

router = APIRouter(include_in_schema=False)

ROWS_AT_ONCE = 500
COLUMNS = ("id", "at", "actor", "actor_kind", "address", "action", "target", "detail")
Search = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")]


@router.get("/audit")
def show_audit(
    person: ViewAudit,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Search = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    found = list_entries(session, search=q.strip(), before=before)
    return render(
        request,
        "audit/page.html",
        fragment="entries",
        address=address("/audit", q=q.strip()),
        found=found,
        q=q.strip(),
        before=before,
        is_part=wants_fragment(request) and not wants_main(request),
    )


@router.get("/audit.csv")
def audit_as_csv(person: ViewAudit, request: Request, session: SessionDep, q: Search = "") -> Response:
    record(session, person.actor, "audit.exported", "csv", search=q.strip() or None)
    return csv_file("wayleave-audit.csv", COLUMNS, _pages(request.app.state.engine, q.strip()))


@router.get("/audit.json")
def audit_as_json(person: ViewAudit, request: Request, session: SessionDep, q: Search = "") -> Response:
    record(session, person.actor, "audit.exported", "json", search=q.strip() or None)
    return json_file("wayleave-audit.json", _pages(request.app.state.engine, q.strip()))


def _pages(engine: Engine, search: str) -> Iterator[list[dict[str, Any]]]:
    """All entries that fit, the newest first; each page has a short transaction of its own."""
    before: int | None = None
    while True:
        with session_scope(engine, writes=False) as session:
            page = list_entries(session, search=search, before=before, limit=ROWS_AT_ONCE)
        yield [asdict(entry) | {"at": entry.at.isoformat()} for entry in page.entries]
        before = page.next_before
        if before is None:
            return
