"""Requests for access: anybody sends one from the page "Blocked?"; whoever may answers all of a group at once."""

from __future__ import annotations

import hmac
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from agent.catalogue import load as load_catalogue
from app.accounts.roles import Permission
from app.audit.record import Actor
from app.db.session import SessionDep, session_scope
from app.errors import AppError, InvalidError, TooLargeError
from app.ingest.keys import load_keys
from app.requests.queries import SHOWN_GROUPS, Group, count_groups, find_groups, list_groups
from app.requests.record import (
    DECLINED,
    MAX_CONTACT_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_NOTE_CHARS,
    OPEN,
    answer_group,
    record_request,
)
from app.web.cut import Cut
from app.web.guards import AnswerRequests, client_address
from app.web.pages.blocked import ENGINE_WORDS, AskForm, page, require_page
from app.web.pages.overview import can_have_rule
from app.web.pasted import parse_fields, read_body, visible
from app.web.rate import RateLimit, client_of
from app.web.templating import render

router = APIRouter(include_in_schema=False)

MAX_BODY_BYTES = 20_000
STATE_WORDS = {OPEN: "open", "answered": "answered", DECLINED: "declined"}


@router.post("/blocked/ask")
async def ask_for_access(request: Request) -> Response:
    """Asynchronous, like the page it stands on: who asks too often is told so before anything is read."""
    require_page(request)
    limit: RateLimit = request.app.state.ask_limit
    if wait_s := limit.take(client_address(request)):
        problem = "You sent several requests today; they are with the administrators. This one was not kept."
        return await to_thread.run_sync(lambda: _refused(request, problem, 429, retry_after_s=wait_s))
    try:
        body = await read_body(request, limit_bytes=MAX_BODY_BYTES)
    except TooLargeError:
        problem = f"This is too long: a message may have {MAX_MESSAGE_CHARS} characters. Nothing was kept."
        return await to_thread.run_sync(lambda: _refused(request, problem, 413))
    return await to_thread.run_sync(lambda: _ask(request, parse_fields(body)))


def _ask(request: Request, fields: dict[str, list[str]]) -> Response:
    form = AskForm(
        engine=fields.get("engine", [""])[0][:40],
        patterns=tuple(dict.fromkeys(one[:100] for one in fields.get("pattern", []))),
        workflow=fields.get("workflow", [""])[0][:60],
        contact=visible(fields.get("contact", [""])[0], length=MAX_CONTACT_CHARS + 1),
        message=visible(fields.get("message", [""])[0], length=MAX_MESSAGE_CHARS + 1),
    )
    came_from = client_address(request)
    try:
        with session_scope(request.app.state.engine) as session:
            record_request(
                session,
                engine=form.engine,
                patterns=form.patterns,
                workflow=form.workflow,
                contact=form.contact,
                message=form.message,
                asker=_asker(request, client_of(came_from), form.contact),
                actor=Actor(kind="anonymous", name="somebody", address=came_from),
            )
            groups = find_groups(session, form.engine, form.patterns)
    except InvalidError as error:
        return page(request, status=422, ask=form, ask_problem=error.message, fragment="ask")
    except AppError as error:
        return _refused(request, error.message, error.status, retry_after_s=error.retry_after_s)
    return page(request, sent=max(group.requests for group in groups.values()), fragment="ask")


def _refused(request: Request, problem: str, status: int, *, retry_after_s: int | None = None) -> Response:
    response = page(request, status=status, ask_problem=problem, fragment="ask")
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    if status == 413:
        response.headers["Connection"] = "close"
    return response


def _asker(request: Request, client: str, contact: str) -> bytes:
    """A keyed hash: who asks twice counts once, and nobody reads from the database where a request came from."""
    key = load_keys(request.app.state.settings).secret
    return hmac.digest(key, f"asker\n{client}\n{contact.casefold()}".encode(), "sha256")[:16]


@router.get("/requests")
def show_requests(
    person: AnswerRequests,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    first: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    return _page(request, session, first=first)


@router.post("/requests/{group_id}")
def answer_requests(
    person: AnswerRequests,
    request: Request,
    session: SessionDep,
    group_id: Annotated[int, Path(ge=1, le=2**31 - 1)],
    state: Annotated[str, Form(max_length=20)] = "",
    note: Annotated[str, Form(max_length=4 * MAX_NOTE_CHARS)] = "",
) -> Response:
    try:
        answer_group(session, group_id, state=state, note=visible(note, length=4 * MAX_NOTE_CHARS), actor=person.actor)
    except InvalidError as error:
        return _page(request, session, problem=error.message, status=422)
    return RedirectResponse("/requests", status_code=303)


def _page(
    request: Request, session: Session, *, first: int = 1, problem: str | None = None, status: int = 200
) -> Response:
    catalogue = load_catalogue()
    groups, counts = list_groups(session, skip=first - 1), count_groups(session)
    titles = {one.id: one.title for one in catalogue.patterns}
    drafts = Permission.DRAFT_RULES in request.state.person.permissions
    with_rule = {one.id for one in catalogue.patterns if can_have_rule(one)} if drafts else set()
    opened = [group for group in groups if group.state == OPEN]
    return render(
        request,
        "requests/page.html",
        status=status,
        opened=opened,
        closed=[group for group in groups if group.state != OPEN],
        counts=counts,
        cut=Cut(first=first, shown=SHOWN_GROUPS, of=counts.groups),
        titles=titles,
        workflows={one.id: one.command for one in catalogue.workflows},
        engine_names=ENGINE_WORDS,
        state_words=STATE_WORDS,
        draft_all=_patterns_for_rules(opened, with_rule),
        draft={group.id: _patterns_for_rules([group], with_rule) for group in groups},
        max_note=MAX_NOTE_CHARS,
        problem=problem,
    )


def _patterns_for_rules(groups: list[Group], with_rule: set[str]) -> tuple[str, ...]:
    """The patterns of these requests that a rule of AppLocker's can open; a click makes a rule set of them."""
    return tuple(sorted({one.pattern for one in groups if one.pattern in with_rule and "applocker" in one.engine}))
