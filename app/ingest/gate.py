"""The admission gate: no more requests at once than threads and database connections can serve, the rest wait or go.

Without it, synchronous pages lock up when more requests are in flight than there are connections: each holds one and
waits for a thread, and every thread waits for a connection. Reports have their own bound and pass.

A request takes its place when it is whole: who sends half a form holds up nobody. What is too large to be kept in
memory is received within a place, but never in more than a quarter of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.contract.messages import REPORTS_PATH
from app.errors import BusyError

WAITING_PER_PLACE = 20
WAIT_S = 10.0
RETRY_AFTER_S = 5
HELD_BYTES = 65_536
"""So much of a body is taken in before its request has a place."""
BUSY = BusyError("The server is busy. Try again in a moment.", retry_after_s=RETRY_AFTER_S)
_PASS = frozenset({REPORTS_PATH, "/healthz"})


class AdmissionGate:
    """Pure ASGI middleware: `places` requests at once; twenty times as many wait up to ten seconds; then 503.

    `refuse_people`: answers those whom a page of JSON would tell nothing.
    """

    def __init__(self, app: ASGIApp, *, places: int, refuse_people: ASGIApp | None = None) -> None:
        self.app = app
        self._refuse_people = refuse_people
        self._places = asyncio.Semaphore(places)
        self._large = asyncio.Semaphore(max(1, places // 4))
        self._waiting = 0
        self._may_wait = places * WAITING_PER_PLACE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PASS or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        held: list[Message] = []
        is_whole = True
        if _has_body(scope):
            is_whole = await _hold(receive, held)
            if held[-1]["type"] == "http.disconnect":
                return
        try:
            async with self._place(self._places) if is_whole else self._two_places():
                await self.app(scope, _held_first(held, receive), send)
        except _NoPlaceError:
            await self._refuse(scope, receive, send)

    @asynccontextmanager
    async def _place(self, places: asyncio.Semaphore) -> AsyncIterator[None]:
        if places.locked() and self._waiting >= self._may_wait:
            raise _NoPlaceError
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await places.acquire()
        except TimeoutError:
            raise _NoPlaceError from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            places.release()

    @asynccontextmanager
    async def _two_places(self) -> AsyncIterator[None]:
        async with self._place(self._large), self._place(self._places):
            yield

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._refuse_people is not None and not scope["path"].startswith("/api/") and scope["path"] != "/readyz":
            await self._refuse_people(scope, receive, send)
            return
        body = json.dumps(BUSY.to_json()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(RETRY_AFTER_S).encode()),
        ]
        await send({"type": "http.response.start", "status": BUSY.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _NoPlaceError(Exception):
    """Too many wait already, or this one waited too long."""


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() not in (b"", b"0"))
        for name, value in scope["headers"]
    )


async def _hold(receive: Receive, held: list[Message]) -> bool:
    """Takes in a body until it is whole (True), its sender is gone (True), or it is too large to hold (False)."""
    size = 0
    while size <= HELD_BYTES:
        message = await receive()
        held.append(message)
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return True
    return False


def _held_first(held: list[Message], receive: Receive) -> Receive:
    """What was held, and then what comes."""
    if not held:
        return receive
    waiting = iter(held)

    async def next_message() -> Message:
        message = next(waiting, None)
        return message if message is not None else await receive()

    return next_message
