"""The admission gate: no more requests at once than threads and database connections can serve, the rest wait or go.

Without it, synchronous pages lock up when more requests are in flight than there are connections: each holds one and
waits for a thread, and every thread waits for a connection. Reports have their own bound and pass.
"""

from __future__ import annotations

import asyncio
import json

from starlette.types import ASGIApp, Receive, Scope, Send

from agent.contract.messages import REPORTS_PATH
from app.errors import BusyError

WAITING_PER_PLACE = 20
WAIT_S = 10.0
_PASS = frozenset({REPORTS_PATH, "/healthz"})


class AdmissionGate:
    """Pure ASGI middleware: `places` requests at once; twenty times as many wait up to ten seconds; then 503."""

    def __init__(self, app: ASGIApp, *, places: int) -> None:
        self.app = app
        self._places = asyncio.Semaphore(places)
        self._waiting = 0
        self._may_wait = places * WAITING_PER_PLACE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PASS or scope["path"].startswith("/static/"):
            await self.app(scope, receive, send)
            return
        if self._places.locked() and self._waiting >= self._may_wait:
            await _refuse(send)
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            await _refuse(send)
            return
        finally:
            self._waiting -= 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._places.release()


async def _refuse(send: Send) -> None:
    error = BusyError("The server is busy. Try again in a moment.")
    body = json.dumps(error.to_json()).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"5"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
