"""Between two steps of signing in: what the first one learnt travels sealed in a cookie, for minutes."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.web.transport import is_https

COOKIE = "wayleave_step"
VALID_FOR_S = 600


def keep_step(request: Request, response: Response, purpose: str, facts: dict[str, Any]) -> None:
    """Sets the cookie. `purpose` says which step is done: what is kept for one opens for no other."""
    response.set_cookie(
        _name(request),
        request.app.state.sealer.seal(purpose, facts),
        max_age=VALID_FOR_S,
        path="/",
        secure=is_https(request.scope),
        httponly=True,
        samesite="lax",
    )


def read_step(request: Request, purpose: str) -> dict[str, Any] | None:
    """What was kept, or None if nothing was, or too long ago."""
    sealed = request.cookies.get(_name(request))
    if not sealed:
        return None
    facts: dict[str, Any] | None = request.app.state.sealer.open(purpose, sealed, valid_for_s=VALID_FOR_S)
    return facts


def drop_step(request: Request, response: Response) -> None:
    """Takes the cookie back: its step is done."""
    response.delete_cookie(_name(request), path="/", secure=is_https(request.scope), httponly=True, samesite="lax")


def _name(request: Request) -> str:
    return f"__Host-{COOKIE}" if is_https(request.scope) else COOKIE
