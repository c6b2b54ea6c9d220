"""API tokens: made for programs, shown once, revoked at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from app.accounts.errors import AccountError
from app.accounts.roles import DESCRIPTIONS, Role
from app.accounts.tokens import create_token, page_tokens, revoke_token
from app.db.session import SessionDep
from app.errors import NotFoundError
from app.web.guards import ManageAccounts
from app.web.templating import render

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=400)]
LIFETIMES = {"7": "7 days", "90": "90 days", "365": "1 year", "": "no end"}


@router.get("/tokens")
def show_tokens(
    person: ManageAccounts,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    return _page(request, session, before=before)


@router.post("/tokens")
def make_token(
    person: ManageAccounts,
    request: Request,
    session: SessionDep,
    label: Text = "",
    role: Text = "",
    days: Text = "",
) -> Response:
    form = {"label": label.strip(), "role": role, "days": days}
    expires_at = datetime.now(UTC) + timedelta(days=int(days)) if days in LIFETIMES and days else None
    try:
        token = create_token(session, role, label, expires_at, actor=person.actor)
    except AccountError as error:
        return _page(request, session, form=form, problem=error, status=422)
    # Not redirected: the token is shown only in this answer.
    return _page(request, session, token=token)


@router.post("/tokens/{token_id}/revoke")
def revoke(person: ManageAccounts, session: SessionDep, token_id: Annotated[int, Path(ge=1, le=2**31)]) -> Response:
    if not revoke_token(session, token_id, actor=person.actor):
        raise NotFoundError("There is no such token, or it was revoked already.")
    return RedirectResponse("/tokens", status_code=303)


def _page(
    request: Request,
    session: Session,
    *,
    before: int | None = None,
    form: dict[str, str] | None = None,
    token: str | None = None,
    problem: AccountError | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "tokens/page.html",
        status=status,
        found=page_tokens(session, before=before),
        before=before,
        roles=DESCRIPTIONS,
        lifetimes=LIFETIMES,
        form=form or {"label": "", "role": Role.VIEWER.value, "days": "90"},
        token=token,
        problem=problem,
        public_url=request.app.state.settings.public_url,
    )
