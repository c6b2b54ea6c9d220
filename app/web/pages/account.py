"""My account: who I am, my password, my sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request
from starlette.responses import RedirectResponse, Response

from app.accounts.create import change_password
from app.accounts.errors import AccountError
from app.accounts.queries import is_by_sso, list_sessions
from app.accounts.roles import DESCRIPTIONS
from app.accounts.second_factor import count_recovery_codes
from app.accounts.sessions import end_session_of
from app.db.session import SessionDep
from app.web.guards import OwnAccount
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Password = Annotated[str, Form(max_length=1000)]


@router.get("/account")
def show_account(person: OwnAccount, request: Request, session: SessionDep, changed: bool = False) -> Response:
    return _page(person, request, session, was_changed=changed)


@router.post("/account/password")
def set_password(
    person: OwnAccount,
    request: Request,
    session: SessionDep,
    current: Password = "",
    password: Password = "",
    repeated: Password = "",
) -> Response:
    try:
        if password != repeated:
            raise AccountError("The two new passwords differ.", "repeated")
        change_password(
            session, person.account_id, current, password, actor=person.actor, keep_session_id=person.session_id
        )
    except AccountError as error:
        return _page(person, request, session, problems={error.field or "password": str(error)}, status=422)
    return RedirectResponse("/account?changed=true", status_code=303)


@router.post("/account/sessions/{session_id}/end")
def end_own_session(
    person: OwnAccount, session: SessionDep, session_id: Annotated[int, Path(ge=1, le=2**62)]
) -> Response:
    """Only one's own; whoever ends the one they use is led to the login."""
    end_session_of(session, person.account_id, session_id, actor=person.actor)
    return RedirectResponse("/account", status_code=303)


def _page(
    person: OwnAccount,
    request: Request,
    session: SessionDep,
    *,
    problems: dict[str, str] | None = None,
    was_changed: bool = False,
    status: int = 200,
) -> Response:
    return render(
        request,
        "account/page.html",
        status=status,
        role_description=DESCRIPTIONS[person.role],
        sessions=list_sessions(session, person.account_id),
        problems=problems or {},
        was_changed=was_changed,
        by_sso=is_by_sso(session, person.account_id),
        recovery_codes=count_recovery_codes(session, person.account_id),
    )
