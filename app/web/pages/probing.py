"""The kill switch on the Agents page, and for programs: stop probing for all hosts or a group, and let it go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from pydantic import StrictBool
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.db.session import SessionDep
from app.errors import AppError
from app.fleet.groups import read_group
from app.fleet.probing import list_stops, resume_probing, stop_probing
from app.web.guards import ApiManageAgents, ApiViewFleet, ManageAgents
from app.web.pages.agents import show_page

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["agents"])

Text = Annotated[str, Form(max_length=400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiStop:
    """One stop in force. `group_id`, `group`: null for all hosts."""

    group_id: int | None
    group: str | None
    reason: str
    stopped_at: datetime
    stopped_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiProbing:
    """Where nothing is probed. Without stops, everywhere is."""

    stops: tuple[ApiStop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWish:
    """What is wanted: `probing` false stops it, true lets it go on. `group_id`: null for all hosts."""

    probing: StrictBool
    group_id: int | None = None
    reason: str = ""


@router.post("/agents/probing/stop")
def stop(
    person: ManageAgents,
    request: Request,
    session: SessionDep,
    group: Text = "",
    group_name: Text = "",
    reason: Text = "",
) -> Response:
    try:
        stop_probing(session, read_group(session, group, group_name), reason=reason, actor=person.actor)
    except AppError as error:
        form = {"stop_group": group, "stop_reason": reason}
        session.rollback()
        return show_page(request, session, stop_form=form, stop_problem=error.message, status=error.status)
    return RedirectResponse("/agents#probing-title", status_code=303)


@router.post("/agents/probing/resume")
def resume(person: ManageAgents, session: SessionDep, group: Text = "") -> Response:
    resume_probing(session, read_group(session, group), actor=person.actor)
    return RedirectResponse("/agents#probing-title", status_code=303)


@api_router.get("/probing")
def get_probing(caller: ApiViewFleet, session: SessionDep) -> ApiProbing:  # noqa: ARG001 - the guard
    """Where an administrator has stopped probing."""
    return _told(session)


@api_router.post("/probing")
def set_probing(caller: ApiManageAgents, session: SessionDep, wish: ApiWish) -> ApiProbing:
    """Stop probing, or let it go on. Agents obey with their next report."""
    if wish.probing:
        resume_probing(session, wish.group_id, actor=caller.actor)
    else:
        stop_probing(session, wish.group_id, reason=wish.reason, actor=caller.actor)
    session.flush()  # what is told next is read from the database
    return _told(session)


def _told(session: Session) -> ApiProbing:
    return ApiProbing(
        stops=tuple(
            ApiStop(
                group_id=stop.group_id,
                group=stop.group,
                reason=stop.reason,
                stopped_at=stop.stopped_at,
                stopped_by=stop.stopped_by,
            )
            for stop in list_stops(session)
        )
    )
