"""Work in progress: what people asked for that takes a while, how far it is, cancelling it; as a page and as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.accounts.roles import Permission
from app.accounts.sessions import Person
from app.accounts.tokens import TokenBearer
from app.db.session import SessionDep
from app.errors import ForbiddenError
from app.imports.jobs import list_imports
from app.web.guards import ApiViewFleet, ViewFleet
from app.web.templating import render
from app.work.rows import Work, cancel_work, get_work, list_work

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["work"])

WorkId = Annotated[int, Path(ge=1, le=2**62)]
IMPORTS_SHOWN = 20


@router.get("/work")
def show_work(person: ViewFleet, request: Request, session: SessionDep) -> Response:
    may_import = Permission.MANAGE_AGENTS in person.permissions
    return render(
        request,
        "work/page.html",
        fragment="results",
        work=list_work(session),
        imports=[one for one in list_imports(session, limit=IMPORTS_SHOWN) if not one.is_over] if may_import else [],
    )


@router.post("/work/{work_id}/cancel")
def cancel(person: ViewFleet, session: SessionDep, work_id: WorkId) -> Response:
    """Back to where its result would have been: there stands what is left."""
    return RedirectResponse(_cancel(session, person, work_id).page, status_code=303)


@api_router.get("/work")
def get_all_work(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    rows: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[Work]:
    """Pieces of work that people asked for, without their results: the newest first, older than `before`."""
    return list(list_work(session, before=before, limit=rows))


@api_router.get("/work/{work_id}")
def get_one_work(caller: ApiViewFleet, session: SessionDep, work_id: WorkId) -> Work:  # noqa: ARG001 - the guard
    """One piece of work: how far it is, and its result once it is done."""
    return get_work(session, work_id)


@api_router.post("/work/{work_id}/cancel")
def cancel_one_work(caller: ApiViewFleet, session: SessionDep, work_id: WorkId) -> dict[str, Any]:
    """Cancel one's own work; who manages settings, anybody's."""
    _cancel(session, caller, work_id)
    return {"id": work_id, "state": "cancelled"}


def _cancel(session: Session, person: Person | TokenBearer, work_id: int) -> Work:
    found = get_work(session, work_id)
    if found.asked_by != person.actor.name and Permission.MANAGE_SETTINGS not in person.permissions:
        raise ForbiddenError(f"{found.asked_by} asked for this: they, or an administrator, may cancel it.")
    cancel_work(session, work_id, actor=person.actor)
    return found
