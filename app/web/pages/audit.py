"""The audit log: who did what, newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.audit.queries import list_entries
from app.db.session import SessionDep
from app.web.guards import ViewAudit
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)


@router.get("/audit")
def show_audit(
    person: ViewAudit,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=100)] = "",
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
    )
