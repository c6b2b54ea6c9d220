"""Every error as an answer: a designed page for people, a fragment for htmx, JSON for programs; with a reference."""

from __future__ import annotations

import logging
import secrets
import sqlite3
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from app.db.engine import DRIVER_ERRORS
from app.errors import AppError, InvalidError
from app.ingest.gate import BUSY, RETRY_AFTER_S
from app.web.guards import LoginRequired, signed_in_person
from app.web.headers import add_security_headers
from app.web.templating import render, wants_fragment

logger = logging.getLogger("wayleave.web")

# What an error page says: title, what happened and what was kept, what to do.
_PAGES: dict[int, tuple[str, str, str]] = {
    400: ("This request can't be read", "Nothing was changed.", "Go back and try again."),
    403: ("Your role doesn't include this", "Nothing was changed.", "An administrator can change your role."),
    404: (
        "There is nothing at this address",
        "What you look for may have been removed, or the address is incomplete.",
        "Start from the overview, or search the hosts.",
    ),
    405: ("This page can't be used that way", "Nothing was changed.", "Open it from the menu."),
    413: ("This file is too large", "Nothing was stored.", "Choose a smaller file."),
    422: ("This request can't be used", "Nothing was changed.", "Check the address, or start from the overview."),
    429: ("Too many requests", "Nothing was changed.", "Wait a little and try again."),
    500: (
        "Something went wrong on the server",
        "What you last saved is kept; this request was not carried out.",
        "Try again. If it stays, give the reference below to whoever runs this server: it finds the error in the log.",
    ),
    503: (
        "The server is busy or its database can't be reached",
        "Nothing was changed. Agents keep their reports and send them later.",
        "Try again in a moment.",
    ),
}


READ_ONLY = "25006"
"""PostgreSQL's code where a standby is asked to write."""
_DRIVERS_PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    sqlite3.OperationalError,
    sqlite3.InterfaceError,
)


def install_error_pages(app: FastAPI) -> None:
    """Register the handlers for every kind of error."""
    app.add_exception_handler(LoginRequired, _login_required)
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(SQLAlchemyError, _database_error)
    for kind in DRIVER_ERRORS:
        # Where rows are written in bulk, without SQLAlchemy between.
        app.add_exception_handler(kind, _database_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def is_for_programs(request: Request) -> bool:
    """Whether the answer is JSON: everything under /api/, and the health checks."""
    return request.url.path.startswith("/api/") or request.url.path in ("/healthz", "/readyz")


def _login_required(request: Request, error: Exception) -> Response:
    if is_for_programs(request):
        return JSONResponse(_body(error), status_code=401, headers={"WWW-Authenticate": "Bearer"})
    if wants_fragment(request):
        # The page that asked is left for the login; htmx can't follow a 303 to another page.
        current = urlsplit(request.headers.get("hx-current-url", "/"))
        back = current.path + (f"?{current.query}" if current.query else "")
        return Response(status_code=401, headers={"HX-Redirect": f"/login?next={quote(back, safe='/')}"})
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in ("GET", "HEAD") or wanted == "/":
        return RedirectResponse("/login", status_code=303)
    return RedirectResponse(f"/login?next={quote(wanted, safe='/')}", status_code=303)


def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)  # noqa: S101 - registered for this type
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    if is_for_programs(request):
        return JSONResponse(error.to_json(), status_code=error.status, headers=headers)
    return _page(request, error.status, message=error.message, headers=headers)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    headers = dict(error.headers or {})
    if is_for_programs(request):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return JSONResponse(
            {"error": code, "message": str(error.detail), "field": None}, status_code=error.status_code, headers=headers
        )
    return _page(request, error.status_code, headers=headers)


def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "invalid"}
    field = ".".join(str(part) for part in first["loc"][1:]) or None
    message = f"{field}: {first['msg']}" if field else str(first["msg"])
    if is_for_programs(request):
        return JSONResponse({"error": "invalid", "message": message, "field": field}, status_code=422)
    if field and first.get("type") == "string_pattern_mismatch":
        # A regular expression tells people nothing.
        message = f"{field}: “{str(first.get('input'))[:60]}” is not of the form that belongs there."
    is_bad_address = bool(first["loc"]) and first["loc"][0] == "path"
    return _page(request, 404 if is_bad_address else 422, message="" if is_bad_address else message)


def _database_error(request: Request, error: Exception) -> Response:
    if isinstance(error, DataError | psycopg.DataError):
        # A NUL, a number beyond every column: nobody types that, but somebody sends it.
        logger.info("a value that the database can't hold: %s %s", request.method, request.url.path)
        return _app_error(request, InvalidError("A value of this request can't be stored or searched for."))
    if not is_passing(error):
        return _unexpected(request, error)
    reference = new_reference()
    logger.error("database error [%s] %s %s", reference, request.method, request.url.path, exc_info=error)
    if is_for_programs(request):
        body = {"error": "busy", "message": "The database can't be reached.", "field": None, "reference": reference}
        return JSONResponse(body, status_code=503, headers={"Retry-After": "5"})
    return _page(request, 503, reference=reference, headers={"Retry-After": "5"}, may_read_database=False)


def is_passing(error: Exception) -> bool:
    """Whether an error is the state of the database (away, locked, full, read-only), not what was asked of it."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError):
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or getattr(error.orig, "sqlstate", None) == READ_ONLY
    return isinstance(error, _DRIVERS_PASSING) or getattr(error, "sqlstate", None) == READ_ONLY


def _gone(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
    """Somebody stopped sending a file or closed the page: nobody reads this answer, and nothing is wrong here."""
    logger.info("gone before all was sent: %s %s", request.method, request.url.path)
    return Response(status_code=400)


def _unexpected(request: Request, error: Exception) -> Response:
    reference = new_reference()
    logger.error("unexpected error [%s] %s %s", reference, request.method, request.url.path, exc_info=error)
    if is_for_programs(request):
        body = {"error": "internal", "message": "Unexpected error.", "field": None, "reference": reference}
        response: Response = JSONResponse(body, status_code=500)
    else:
        response = _page(
            request, 500, reference=reference, may_read_database=not isinstance(error, DBAPIError | PoolTimeoutError)
        )
    # This answer is made outside the middleware that adds these headers.
    add_security_headers(response.headers, request.scope)
    # The error goes on to uvicorn, which then cuts the connection: whoever asks on it again must know beforehand.
    response.headers["Connection"] = "close"
    return response


async def answer_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer of the admission gate to people, as an ASGI application: it asks no thread and no database."""
    request = Request(scope)
    request.state.person = None
    response = _page(
        request,
        BUSY.status,
        message="",
        headers={"Retry-After": str(RETRY_AFTER_S)},
        may_read_database=False,
    )
    add_security_headers(response.headers, scope)
    await response(scope, receive, send)


def new_reference() -> str:
    """A short word by which an answer is found in the log."""
    return secrets.token_hex(4)


def _page(
    request: Request,
    status: int,
    *,
    message: str = "",
    reference: str | None = None,
    headers: dict[str, str] | None = None,
    may_read_database: bool = True,
) -> Response:
    title, kept, advice = _PAGES.get(status, _PAGES[500] if status >= 500 else _PAGES[400])
    if may_read_database and getattr(request.state, "person", None) is None and status in (404, 405, 422):
        request.state.person = _person_or_none(request)
    if reference is None:
        reference = new_reference()
        logger.info("answered %s [%s] %s %s: %s", status, reference, request.method, request.url.path, message)
    response = render(
        request,
        "errors/page.html",
        fragment="problem",
        status=status,
        code=status,
        title=title,
        message=message,
        kept=kept,
        advice=advice,
        reference=reference,
    )
    response.headers.update(headers or {})
    return response


def _person_or_none(request: Request) -> object:
    try:
        return signed_in_person(request)
    except Exception:  # an error page must not fail because the database does
        logger.exception("could not look up who gets an error page")
        return None


def _body(error: Exception) -> dict[str, object]:
    return error.to_json() if isinstance(error, AppError) else {"error": "error", "message": str(error), "field": None}
