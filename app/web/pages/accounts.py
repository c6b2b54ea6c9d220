"""Accounts: who may sign in, as what; invitations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.accounts.errors import AccountError
from app.accounts.manage import disable_account, enable_account, invite, set_role, unlock_account, withdraw_invitation
from app.accounts.queries import list_invitations, page_accounts
from app.accounts.roles import DESCRIPTIONS, Role
from app.accounts.second_factor import reset_second_factor
from app.db.session import SessionDep
from app.web.guards import ManageAccounts
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=1000)]
RowId = Annotated[int, Path(ge=1, le=2**31)]


@router.get("/accounts")
def show_accounts(
    person: ManageAccounts,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    q: Annotated[str, Query(max_length=254, pattern=r"^[^\x00]*$")] = "",
    cursor: Annotated[str, Query(max_length=800)] = "",
    changed: Annotated[str, Query(pattern=r"^\d{0,9}$")] = "",
) -> Response:
    """`changed`: the account whose role was just changed, which the page says and where the focus stays."""
    return _page(request, session, q=q.strip(), cursor=cursor, changed=int(changed) if changed else None)


@router.post("/accounts/invitations")
def create_invitation(
    person: ManageAccounts, request: Request, session: SessionDep, email: Text = "", role: Text = ""
) -> Response:
    try:
        link = invite(session, email, role, request.app.state.settings.public_url, actor=person.actor)
    except AccountError as error:
        return _page(request, session, email=email, role=role, problem=error, status=422)
    # Not redirected: the link is shown only in this answer.
    return _page(request, session, link=link, invited=email.strip().casefold())


@router.post("/accounts/invitations/{invitation_id}/withdraw")
def withdraw(person: ManageAccounts, session: SessionDep, invitation_id: RowId) -> Response:
    withdraw_invitation(session, invitation_id, actor=person.actor)
    return RedirectResponse("/accounts", status_code=303)


@router.post("/accounts/{account_id}/role")
def change_role(
    person: ManageAccounts,
    request: Request,
    session: SessionDep,
    account_id: RowId,
    role: Text = "",
    q: Text = "",
    cursor: Text = "",
) -> Response:
    """`q`, `cursor`: the page of accounts that the form stands on, to which it goes back."""
    try:
        set_role(session, account_id, role, actor=person.actor)
    except AccountError as error:
        return _page(request, session, q=q, cursor=cursor, problem=error, status=422)
    return RedirectResponse(address("/accounts", q=q, cursor=cursor, changed=str(account_id)), status_code=303)


@router.post("/accounts/{account_id}/disable")
def disable(person: ManageAccounts, request: Request, session: SessionDep, account_id: RowId) -> Response:
    try:
        disable_account(session, account_id, actor=person.actor)
    except AccountError as error:
        return _page(request, session, problem=error, status=422)
    return RedirectResponse("/accounts", status_code=303)


@router.post("/accounts/{account_id}/second-factor/reset")
def reset_codes(person: ManageAccounts, session: SessionDep, account_id: RowId) -> Response:
    reset_second_factor(session, account_id, actor=person.actor)
    return RedirectResponse("/accounts", status_code=303)


@router.post("/accounts/{account_id}/unlock")
def unlock(person: ManageAccounts, session: SessionDep, account_id: RowId) -> Response:
    unlock_account(session, account_id, actor=person.actor)
    return RedirectResponse("/accounts", status_code=303)


@router.post("/accounts/{account_id}/enable")
def enable(person: ManageAccounts, session: SessionDep, account_id: RowId) -> Response:
    enable_account(session, account_id, actor=person.actor)
    return RedirectResponse("/accounts", status_code=303)


def _page(
    request: Request,
    session: Session,
    *,
    q: str = "",
    cursor: str = "",
    changed: int | None = None,
    email: str = "",
    role: str = Role.VIEWER.value,
    link: str | None = None,
    invited: str = "",
    problem: AccountError | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "accounts/page.html",
        status=status,
        found=page_accounts(session, search=q, cursor=cursor or None),
        q=q,
        cursor=cursor,
        changed=changed,
        first_page=address("/accounts", q=q),
        next_page=lambda next_cursor: address("/accounts", q=q, cursor=next_cursor),
        invited_page=list_invitations(session),
        roles=DESCRIPTIONS,
        email=email,
        role=role,
        link=link,
        invited=invited,
        problem=problem,
    )
