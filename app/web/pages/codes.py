"""One-time codes of my account: set up with a phone, confirm with the first code, remove."""

from __future__ import annotations

from typing import Annotated

import segno
from fastapi import APIRouter, Form, Request
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from app.accounts.errors import AccountError
from app.accounts.second_factor import (
    begin_second_factor,
    confirm_second_factor,
    has_second_factor,
    remove_second_factor,
)
from app.db.session import SessionDep, session_scope
from app.web.guards import OwnAccount
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=1000)]
ISSUER = "Wayleave"


@router.get("/account/codes")
def show_set_up(person: OwnAccount, request: Request) -> Response:
    # The secret is kept when it is first shown. The session of a GET doesn't wait for SQLite's lock in order to write.
    with session_scope(request.app.state.engine) as session:
        if has_second_factor(session, person.account_id):
            return RedirectResponse("/account#codes-title", status_code=303)
        return _set_up(person, request, session)


@router.post("/account/codes")
def confirm(person: OwnAccount, request: Request, session: SessionDep, code: Text = "") -> Response:
    sealer = request.app.state.sealer
    try:
        codes = confirm_second_factor(session, person.account_id, code, sealer, actor=person.actor)
    except AccountError as error:
        return _set_up(person, request, session, problem=str(error), status=422)
    # Not redirected: the recovery codes are shown only in this answer.
    return render(request, "account/recovery.html", codes=codes)


@router.post("/account/codes/remove")
def remove(person: OwnAccount, request: Request, session: SessionDep, current: Text = "") -> Response:
    try:
        remove_second_factor(session, person.account_id, current, actor=person.actor)
    except AccountError as error:
        return render(request, "account/codes_remove.html", status=422, problem=str(error))
    return RedirectResponse("/account#codes-title", status_code=303)


@router.get("/account/codes/remove")
def show_remove(person: OwnAccount, request: Request) -> Response:  # noqa: ARG001 - the guard
    return render(request, "account/codes_remove.html", problem=None)


def _set_up(
    person: OwnAccount, request: Request, session: SessionDep, *, problem: str | None = None, status: int = 200
) -> Response:
    try:
        enrolment = begin_second_factor(session, person.account_id, request.app.state.sealer, issuer=ISSUER)
    except AccountError:
        return RedirectResponse("/account#codes-title", status_code=303)
    picture = segno.make(enrolment.uri, error="m").svg_inline(scale=5, border=2, dark="#000", light="#fff")
    return render(
        request,
        "account/codes.html",
        status=status,
        # Made here from our own address; nothing of it came from outside but the person's e-mail address, encoded.
        picture=Markup(picture),  # noqa: S704 - a picture made here, as said above
        secret=" ".join(enrolment.secret[start : start + 4] for start in range(0, len(enrolment.secret), 4)),
        problem=problem,
    )
