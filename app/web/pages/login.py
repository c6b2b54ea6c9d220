"""Signing in and out, and the link that makes an account."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from app.accounts.create import count_accounts
from app.accounts.errors import AccountError
from app.accounts.invitations import accept_invitation, find_invitation
from app.accounts.login import check_login, note_login
from app.accounts.roles import Role
from app.accounts.second_factor import check_second_factor, has_second_factor
from app.accounts.sessions import ABSOLUTE_LIMIT, end_session, start_session
from app.accounts.tables import Account
from app.audit.record import record
from app.db.session import SessionDep
from app.web.guards import OwnAccount, client_address, cookie_name
from app.web.steps import drop_step, keep_step, read_step
from app.web.templating import render
from app.web.transport import is_https

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=1000)]


@router.get("/login")
def show_login(request: Request, session: SessionDep, next: str = "/") -> Response:
    return render(
        request,
        "account/login.html",
        email="",
        next=safe_next(next),
        problem=None,
        has_accounts=count_accounts(session) > 0,
        sign_on=request.app.state.settings.oidc_name if request.app.state.sign_on else None,
    )


@router.post("/login")
def sign_in(
    request: Request,
    session: SessionDep,
    email: Text = "",
    password: Text = "",
    next: Text = "/",
) -> Response:
    account = check_login(session, email, password, address=client_address(request))
    if account is None:
        problem = (
            "The e-mail address or the password is wrong, or the account is paused for a few minutes after"
            " repeated failures."
        )
        return render(
            request,
            "account/login.html",
            status=422,
            email=email,
            next=safe_next(next),
            problem=problem,
            has_accounts=True,
            sign_on=request.app.state.settings.oidc_name if request.app.state.sign_on else None,
        )
    if has_second_factor(session, account.id):
        response: Response = RedirectResponse("/login/code", status_code=303)
        keep_step(request, response, "password given", {"account": account.id, "next": safe_next(next)})
        return response
    return signed_in(request, session, account, to=safe_next(next), how="password")


@router.get("/login/code")
def show_code(request: Request) -> Response:
    if read_step(request, "password given") is None:
        return RedirectResponse("/login", status_code=303)
    return render(request, "account/code.html", problem=None)


@router.post("/login/code")
def give_code(request: Request, session: SessionDep, code: Text = "") -> Response:
    step = read_step(request, "password given")
    if step is None:
        return RedirectResponse("/login", status_code=303)
    sealer = request.app.state.sealer
    if not check_second_factor(session, step["account"], code, sealer, address=client_address(request)):
        problem = (
            "This code does not fit, or was used already. After repeated failures the account is paused for a few"
            " minutes."
        )
        return render(request, "account/code.html", status=422, problem=problem)
    account = session.get_one(Account, step["account"])
    response = signed_in(request, session, account, to=step["next"], how="password and code")
    drop_step(request, response)
    return response


@router.post("/logout")
def sign_out(person: OwnAccount, request: Request, session: SessionDep) -> Response:
    end_session(session, person.session_id)
    record(session, person.actor, "login.ended", person.email)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(
        cookie_name(request), path="/", secure=is_https(request.scope), httponly=True, samesite="lax"
    )
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@router.get("/invitation/{token}")
def show_invitation(request: Request, session: SessionDep, token: str) -> Response:
    invitation = find_invitation(session, token)
    if invitation is None:
        return render(request, "account/invitation_gone.html", status=404)
    return render(
        request,
        "account/invitation.html",
        email=invitation.email or "",
        is_email_fixed=invitation.email is not None,
        role=Role(invitation.role),
        is_first=invitation.email is None,
        problems={},
    )


@router.post("/invitation/{token}")
def use_invitation(
    request: Request,
    session: SessionDep,
    token: str,
    email: Text = "",
    password: Text = "",
    repeated: Text = "",
) -> Response:
    invitation = find_invitation(session, token)
    if invitation is None:
        return render(request, "account/invitation_gone.html", status=404)
    try:
        if password != repeated:
            raise AccountError("The two passwords differ.", "repeated")
        # A refused form must not use the link up.
        with session.begin_nested():
            account = accept_invitation(session, token, email, password, address=client_address(request))
    except AccountError as error:
        return render(
            request,
            "account/invitation.html",
            status=422,
            email=invitation.email or email,
            is_email_fixed=invitation.email is not None,
            role=Role(invitation.role),
            is_first=invitation.email is None,
            problems={error.field or "email": str(error)},
        )
    return signed_in(request, session, account, to="/", how="invitation")


def safe_next(wanted: str) -> str:
    """A path of this site, or the overview: a link to the login must not lead anywhere else.

    >>> safe_next("/hosts?q=a"), safe_next("//evil.example"), safe_next("https://evil.example"), safe_next("/\\\\e")
    ('/hosts?q=a', '/', '/', '/')
    """
    if not wanted.startswith("/") or wanted.startswith("//") or "\\" in wanted or not wanted.isprintable():
        return "/"
    parts = urlsplit(wanted)
    return wanted if not parts.scheme and not parts.netloc and parts.path != "/login" else "/"


def signed_in(request: Request, session: SessionDep, account: Account, *, to: str, how: str) -> Response:
    """The answer that lets somebody in: a session begins, its token goes into the cookie. `how`: for the audit log."""
    note_login(session, account, address=client_address(request), how=how)
    token = start_session(
        session, account.id, address=client_address(request), browser=request.headers.get("user-agent")
    )
    response = RedirectResponse(to, status_code=303)
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=int(ABSOLUTE_LIMIT.total_seconds()),
        path="/",
        secure=is_https(request.scope),
        httponly=True,
        samesite="lax",
    )
    return response
