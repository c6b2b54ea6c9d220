"""Where machines talk: reports, enrolment, the catalogue. Plain Starlette; refusals are JSON that names the field."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from agent.contract.messages import CATALOGUE_PATH, ENROL_PATH, MAX_BODY_BYTES, REPORTS_PATH
from app.db.engine import DRIVER_ERRORS
from app.db.session import session_scope
from app.errors import AppError, BusyError, MalformedError, TooLargeError
from app.fleet.incoming import Outcome
from app.ingest.catalogue import SIGNATURE_HEADER, SignedCatalogue
from app.ingest.checked import CheckedBodies
from app.ingest.connections import TRANSPORT
from app.ingest.decode import decode_report, inflate, parse_token
from app.ingest.enrolment import decode_enrolment, enrol
from app.ingest.keys import ServerKeys
from app.ingest.writer import Writer
from app.settings import Settings

RECEIVE_TIMEOUT_S = 20.0
"""How long a body may take to arrive once its head is here."""

_JSON = (b"content-type", b"application/json")


@dataclass(slots=True, kw_only=True)
class Ingest:
    """What the routes need, made once by `main`."""

    settings: Settings
    engine: Engine
    keys: ServerKeys
    catalogue: SignedCatalogue
    writer: Writer | None = None
    checked: CheckedBodies = field(default_factory=CheckedBodies)
    in_flight: int = field(default=0)

    def routes(self) -> list[BaseRoute]:
        """The routes for machines."""
        return [
            Route(REPORTS_PATH, ReportEndpoint(self), methods=["POST"]),
            Route(ENROL_PATH, self._enrol, methods=["POST"]),
            Route(CATALOGUE_PATH, self._catalogue, methods=["GET", "HEAD"]),
        ]

    def retry_after_s(self) -> int:
        """Spread over some time, so that those sent away don't come back together."""
        return random.randint(2, 30)  # noqa: S311 - not a secret

    async def _enrol(self, request: Request) -> Response:
        body = await read_body(request.scope, request.receive)
        wanted = decode_enrolment(body)
        address = request.client.host if request.client else None

        def exchange() -> tuple[int, str]:
            with session_scope(self.engine) as session:
                return enrol(session, wanted, address=address, quarantine=self.settings.quarantine_new_hosts)

        try:
            host_id, token = await run_in_threadpool(exchange)
        except (*DRIVER_ERRORS, SQLAlchemyError) as error:
            raise BusyError("The database does not answer.", retry_after_s=self.retry_after_s()) from error
        return JSONResponse(
            {
                "host_id": str(host_id),
                "token": token,
                "catalogue_key": self.keys.public_text(),
                "next_report_s": self.settings.next_report_s,
            },
            status_code=201,
            headers={"Cache-Control": "no-store"},
        )

    async def _catalogue(self, request: Request) -> Response:
        headers = {
            "ETag": f'"{self.catalogue.etag}"',
            SIGNATURE_HEADER: self.catalogue.signature,
            "Cache-Control": "no-cache",
        }
        asked = {part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")}
        if headers["ETag"] in asked or "*" in asked:
            return Response(status_code=304, headers=headers)
        return Response(self.catalogue.body, media_type="application/toml", headers=headers)


class ReportEndpoint:
    """`POST /api/v1/reports` as a bare ASGI application: this path is asked for by every workstation all day."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        settings = ingest.settings
        accepted = f'","next_report_s":{settings.next_report_s},"catalogue":"{ingest.catalogue.etag}"'
        self._accepted = f"{accepted}}}".encode()
        self._stopped = f'{accepted},"probing":false}}'.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ingest = self._ingest
        try:
            if ingest.in_flight >= ingest.settings.reports_in_flight:
                raise BusyError("Too many reports at once.", retry_after_s=ingest.retry_after_s())
            ingest.in_flight += 1
            try:
                report_id, outcome = await self._take(scope, receive)
            finally:
                ingest.in_flight -= 1
        except AppError as error:
            await _send(send, error.status, json.dumps(error.to_json()).encode(), error.retry_after_s)
            return
        if outcome.status == 200:
            rest = self._accepted if outcome.probing else self._stopped
            await _send(send, 200, b'{"report_id":"' + report_id + rest, None)
        else:
            retry = ingest.retry_after_s() if outcome.status == 503 else outcome.retry_after_s
            await _send(send, outcome.status, _refusal(outcome), retry)

    async def _take(self, scope: Scope, receive: Receive) -> tuple[bytes, Outcome]:
        ingest = self._ingest
        authorization = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
        host_id, secret_hash = parse_token(authorization)
        body = await read_body(scope, receive)
        report = decode_report(
            body,
            host_id=host_id,
            secret_hash=secret_hash,
            keys=ingest.keys,
            now_ms=time.time_ns() // 1_000_000,
            checked=ingest.checked,
        )
        if ingest.writer is None:
            raise BusyError("The server is starting.", retry_after_s=ingest.retry_after_s())
        outcome = await ingest.writer.submit(report, scope.get(TRANSPORT))
        if report.offered and outcome.status == 200:
            ingest.checked.remember(report.offered.values())
        return report.report_id.encode(), outcome


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The body of a request, inflated, no larger than a report may be.

    raises: TooLargeError, MalformedError.
    """
    encoding = b""
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 12 or int(value) > MAX_BODY_BYTES:
                raise TooLargeError(f"A report has at most {MAX_BODY_BYTES} bytes.", field="body")
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(RECEIVE_TIMEOUT_S):
                body = await _read_rest(body, receive)
        except TimeoutError as error:
            raise AppError("The body did not arrive in time.", status=408, code="timeout", field="body") from error
    elif message["type"] == "http.disconnect":
        raise MalformedError("The connection ended before the body.", field="body")
    if len(body) > MAX_BODY_BYTES:
        raise TooLargeError(f"A report has at most {MAX_BODY_BYTES} bytes.", field="body")
    if encoding in (b"", b"identity"):
        return body
    if encoding in (b"gzip", b"x-gzip"):
        return inflate(body)
    raise AppError("Send the body plain or as gzip.", status=415, code="unsupported_encoding", field="Content-Encoding")


async def _read_rest(body: bytes, receive: Receive) -> bytes:
    parts = [body]
    size = len(body)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedError("The connection ended within the body.", field="body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise TooLargeError(f"A report has at most {MAX_BODY_BYTES} bytes.", field="body")
        more = message.get("more_body", False)
    return b"".join(parts)


def _refusal(outcome: Outcome) -> bytes:
    answer: dict[str, Any] = {"error": outcome.error, "message": outcome.message, "field": outcome.field}
    if outcome.missing:
        answer["missing"] = list(outcome.missing)
    return json.dumps(answer).encode()


async def _send(send: Send, status: int, body: bytes, retry_after_s: int | None) -> None:
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
