"""Notices: what got worse in the fleet, who looks after it, and how many of them one has not read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError
from app.notices.queries import STATES, Notice, NoticePage, count_unread, get_notice, page_notices
from app.notices.record import KINDS, MAX_NOTE_LETTERS, acknowledge_notice, mark_read
from app.notices.words import change_words
from app.web.guards import ApiDraftRules, ApiViewFleet, DraftRules, ViewFleet
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)
api_router = APIRouter(prefix="/api/v1", tags=["notices"])

NoticeId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
KIND_WORDS = {
    "regression": "closed what was open",
    "rules-gone": "rules that vanished",
    "rules-changed": "rules that were changed",
    "sharing": "facts that are not shared",
    "more": "more than is told",
}
STATE_WORDS = {"open": "waits", "acknowledged": "looked after", "over": "over"}


@router.get("/notices")
def show_notices(
    person: ViewFleet,
    request: Request,
    session: SessionDep,
    state: Annotated[str, Query(max_length=20)] = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    before: Before = None,
) -> Response:
    state, kind = state if state in STATES else "", kind if kind in KINDS else ""
    settings = request.app.state.settings
    return render(
        request,
        "notices/list.html",
        fragment="results",
        address=address("/notices", state=state, kind=kind),
        page=page_notices(session, state=state, kind=kind, before=before),
        unread=count_unread(session, person.account_id),
        chosen=state,
        kind=kind,
        before=before,
        kinds=KIND_WORDS,
        states=STATE_WORDS,
        older=lambda following: address("/notices", state=state, kind=kind, before=str(following)),
        newest=address("/notices", state=state, kind=kind),
        settings=settings,
    )


@router.get("/notices/count")
def show_count(person: ViewFleet, request: Request, session: SessionDep) -> Response:
    """The number beside the menu's entry, asked for by every page once it is there."""
    return render(request, "notices/count.html", unread=count_unread(session, person.account_id))


@router.post("/notices/read")
def read_notices(person: ViewFleet, session: SessionDep) -> Response:
    mark_read(session, person.account_id)
    return RedirectResponse("/notices", status_code=303)


@router.get("/notices/{notice_id}")
def show_notice(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    notice_id: NoticeId,
) -> Response:
    return _page(request, session, notice_id)


@router.post("/notices/{notice_id}/acknowledge")
def acknowledge(
    person: DraftRules,
    request: Request,
    session: SessionDep,
    notice_id: NoticeId,
    note: Annotated[str, Form(max_length=4 * MAX_NOTE_LETTERS)] = "",
) -> Response:
    try:
        acknowledge_notice(session, notice_id, note=note, actor=person.actor)
    except InvalidError as error:
        return _page(request, session, notice_id, note=note, problem=error.message, status=422)
    return RedirectResponse(f"/notices/{notice_id}", status_code=303)


@api_router.get("/notices")
def get_notices(
    caller: ApiViewFleet,  # noqa: ARG001 - the guard
    session: SessionDep,
    state: Annotated[str, Query(max_length=20)] = "",
    kind: Annotated[str, Query(max_length=20)] = "",
    before: Before = None,
) -> NoticePage:
    """What got worse in the fleet, the newest first. `state`: open, acknowledged or over."""
    return page_notices(session, state=state, kind=kind, before=before)


@api_router.get("/notices/{notice_id}")
def get_one_notice(caller: ApiViewFleet, session: SessionDep, notice_id: NoticeId) -> Notice:  # noqa: ARG001 - guard
    """One notice, and how its messages by webhook and e-mail fared."""
    return get_notice(session, notice_id)


@api_router.post("/notices/{notice_id}/acknowledge")
def post_acknowledge(
    caller: ApiDraftRules,
    session: SessionDep,
    notice_id: NoticeId,
    note: Annotated[str, Query(max_length=MAX_NOTE_LETTERS)] = "",
) -> Notice:
    """Say that somebody looks after it. 409 if somebody does already."""
    acknowledge_notice(session, notice_id, note=note, actor=caller.actor)
    session.flush()
    return get_notice(session, notice_id)


def _page(
    request: Request, session: Session, notice_id: int, *, note: str = "", problem: str | None = None, status: int = 200
) -> Response:
    catalogue = load_catalogue()
    return render(
        request,
        "notices/page.html",
        status=status,
        notice=get_notice(session, notice_id),
        kinds=KIND_WORDS,
        states=STATE_WORDS,
        workflows={one.id: one for one in catalogue.workflows},
        change_words=change_words,
        note=note,
        problem=problem,
        max_note=MAX_NOTE_LETTERS,
    )
