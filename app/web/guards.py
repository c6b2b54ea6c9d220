"""Who may open a page: the permission stands in the page function's signature, as the type of its first parameter.

    def hosts(person: ViewFleet, session: SessionDep, ...) -> Response

The guard looks the session up on a connection of its own and gives it back before the page takes one: a request
never holds two.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.exc import OperationalError

from app.accounts.roles import Permission
from app.accounts.sessions import Person, find_person, touch_session
from app.accounts.tokens import TokenBearer, find_bearer, touch_token
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, find_setting
from app.errors import AppError, ForbiddenError, UnauthenticatedError
from app.fleet.attestation import UnattestedLately
from app.web.transport import is_https

logger = logging.getLogger("wayleave.web")

COOKIE = "wayleave_session"
UNATTENDED = "x-unattended"
"""What a page left open sends with what it asks for by itself: nobody is there, so the idle limit goes on."""


class LoginRequired(AppError):
    """Nobody is signed in; pages lead to the login and back."""

    status = 401
    code = "login_required"


class Guard:
    """A dependency that gives the signed-in person, if they have the permission.

    raises: LoginRequired, ForbiddenError.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(self, request: Request) -> Person | TokenBearer:
        person = signed_in_person(request)
        if person is None:
            raise LoginRequired("Sign in to open this page.")
        request.state.person = person
        if self.permission not in person.permissions:
            raise ForbiddenError(f"Your role, {person.role}, does not include this page.")
        return person


class ApiGuard(Guard):
    """The same for programs: an API token in the Authorization header, or the session of somebody signed in.

    raises: UnauthenticatedError, ForbiddenError.
    """

    def __call__(self, request: Request) -> Person | TokenBearer:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller: Person | TokenBearer | None
        if scheme.lower() == "bearer":
            caller = token_bearer(request, token.strip())
        else:
            caller = signed_in_person(request)
        if caller is None:
            raise UnauthenticatedError("Send an API token: Authorization: Bearer wlt_...")
        if self.permission not in caller.permissions:
            raise ForbiddenError(f"The role {caller.role} does not include this.")
        return caller


ApiViewSightings = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.VIEW_SIGHTINGS))]
ApiViewFleet = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.VIEW_FLEET))]
ApiDraftRules = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.DRAFT_RULES))]
ApiManageAgents = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.MANAGE_AGENTS))]
ApiViewAudit = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.VIEW_AUDIT))]
ApiManageAccounts = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.MANAGE_ACCOUNTS))]
ApiManageSettings = Annotated[Person | TokenBearer, Depends(ApiGuard(Permission.MANAGE_SETTINGS))]
OwnAccount = Annotated[Person, Depends(Guard(Permission.OWN_ACCOUNT))]
ViewFleet = Annotated[Person, Depends(Guard(Permission.VIEW_FLEET))]
DraftRules = Annotated[Person, Depends(Guard(Permission.DRAFT_RULES))]
ApproveRules = Annotated[Person, Depends(Guard(Permission.APPROVE_RULES))]
AnswerRequests = Annotated[Person, Depends(Guard(Permission.ANSWER_REQUESTS))]
ViewSightings = Annotated[Person, Depends(Guard(Permission.VIEW_SIGHTINGS))]
ViewAudit = Annotated[Person, Depends(Guard(Permission.VIEW_AUDIT))]
ManageAgents = Annotated[Person, Depends(Guard(Permission.MANAGE_AGENTS))]
ManageSettings = Annotated[Person, Depends(Guard(Permission.MANAGE_SETTINGS))]
ManageAccounts = Annotated[Person, Depends(Guard(Permission.MANAGE_ACCOUNTS))]


def signed_in_person(request: Request) -> Person | None:
    """The person whose session cookie came with the request."""
    token = request.cookies.get(cookie_name(request))
    if not token:
        return None
    engine = request.app.state.engine
    with session_scope(engine, writes=False) as session:
        person = find_person(session, token, address=client_address(request))
        request.state.is_made_fleet = find_setting(session, FLEET_ORIGIN) is not None
        if person is not None and request.url.path.split("/")[1] in SAY_UNATTESTED:
            request.state.unattested = unattested_of(request).read(session)
    if person is not None and person.is_due_for_touch and UNATTENDED not in request.headers:
        try:
            with session_scope(engine) as session:
                touch_session(session, person.session_id)
        except OperationalError:
            logger.warning("could not note that a session is in use; the next request will", exc_info=True)
    return person


SAY_UNATTESTED = frozenset(
    (
        "notices",
        "workflows",
        "versions",
        "sightings",
        "policies",
        "rule-sets",
        "preflight",
        "relocation",
        "exports",
        "groups",
        "search",
    )
)
"""The pages with figures of the fleet that do not mark each host, or count those of one group, by themselves."""


def unattested_of(request: Request) -> UnattestedLately:
    """What this process last counted of hosts whose users run the agent."""
    state = request.app.state
    if not hasattr(state, "unattested"):
        state.unattested = UnattestedLately()
    found: UnattestedLately = state.unattested
    return found


def token_bearer(request: Request, token: str) -> TokenBearer | None:
    """The bearer of the API token that came with the request."""
    engine = request.app.state.engine
    with session_scope(engine, writes=False) as session:
        bearer = find_bearer(session, token)
    if bearer is not None and bearer.is_due_for_touch:
        try:
            with session_scope(engine) as session:
                touch_token(session, bearer.token_id)
        except OperationalError:
            logger.warning("could not note that a token is in use; the next request will", exc_info=True)
    return bearer


def cookie_name(request: Request) -> str:
    """The cookie's name. The __Host- prefix, over TLS, keeps other hosts of the domain from setting it."""
    return f"__Host-{COOKIE}" if is_https(request.scope) else COOKIE


def client_address(request: Request) -> str | None:
    """Where the request came from, as far as the server in front of us may tell."""
    return request.client.host[:64] if request.client else None
