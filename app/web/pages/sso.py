"""Single sign-on: to the identity provider and back."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from app.accounts.errors import AccountError
from app.accounts.oidc import Provider, SsoError
from app.accounts.roles import Role
from app.accounts.sso import sign_in_by_sso
from app.audit.record import Actor, record
from app.db.session import SessionDep
from app.settings import Settings
from app.web.guards import client_address
from app.web.pages.login import safe_next, signed_in
from app.web.steps import drop_step, keep_step, read_step
from app.web.templating import render

router = APIRouter(include_in_schema=False)
log = logging.getLogger("wayleave.web")

CALLBACK_PATH = "/login/sso/callback"
STEP = "sent to the identity provider"


def find_provider(settings: Settings) -> Provider | None:
    """The provider of the settings, or None where people sign in with passwords alone."""
    if not settings.oidc_issuer or settings.oidc_client_secret is None:
        return None
    return Provider(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret.get_secret_value(),
        redirect_uri=settings.public_url + CALLBACK_PATH,
        groups_claim=settings.oidc_groups_claim,
    )


@router.get("/login/sso")
def depart(request: Request, next: str = "/") -> Response:
    provider: Provider | None = request.app.state.sign_on
    if provider is None:
        return RedirectResponse("/login", status_code=303)
    try:
        departure = provider.depart()
    except SsoError as error:
        log.warning("single sign-on: %s", error)
        return _refused(request, "The identity provider does not answer. Try again in a few minutes.", status=503)
    response = RedirectResponse(departure.url, status_code=303)
    keep_step(request, response, STEP, departure.kept | {"next": safe_next(next)})
    return response


@router.get(CALLBACK_PATH)
def arrive(
    request: Request,
    session: SessionDep,
    code: Annotated[str, Query(max_length=4000)] = "",
    state: Annotated[str, Query(max_length=400)] = "",
    error: Annotated[str, Query(max_length=400)] = "",
    iss: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    provider: Provider | None = request.app.state.sign_on
    kept = read_step(request, STEP)
    if provider is None or kept is None:
        return _refused(request, "This sign-in was not begun here, or took longer than ten minutes.", status=422)
    told = {"code": code, "state": state, "error": error, "iss": iss}
    try:
        identity = provider.arrive({key: value for key, value in told.items() if value}, kept)
    except SsoError as problem:
        log.warning("single sign-on: %s", problem)
        address = client_address(request)
        actor = Actor(kind="anonymous", name="single sign-on", address=address)
        record(session, actor, "login.refused", "single sign-on", why=str(problem)[:200])
        return _refused(request, "The identity provider's answer could not be used; the server's log says why.", 422)
    mapping = {group: Role(role) for group, role in request.app.state.settings.oidc_roles.items()}
    try:
        account = sign_in_by_sso(session, identity, mapping, address=client_address(request))
    except AccountError as problem:
        return _refused(request, str(problem), status=403)
    response = signed_in(request, session, account, to=kept["next"], how="single sign-on")
    drop_step(request, response)
    return response


def _refused(request: Request, problem: str, status: int) -> Response:
    response = render(request, "account/sso_refused.html", status=status, problem=problem)
    drop_step(request, response)
    return response
