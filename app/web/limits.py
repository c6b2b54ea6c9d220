"""Refuses request bodies that no form of ours sends, before they fill memory or disk."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_FORM_BYTES = 4 * 1024 * 1024
RECEIVED_ELSEWHERE = frozenset({"/imports", "/baseline/lists", "/baseline/archives"})
"""Pages that take files as a stream, to disk, with a limit of their own (see `uploads`)."""


class TooLargeBody(Exception):
    """More arrived than was announced or allowed."""


class LimitForms:
    """Answers 413 to forms over the limit, whether they say their length or not. Paths of programs have their own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in ("GET", "HEAD")
            or scope["path"].startswith("/api/")
            or scope["path"] in RECEIVED_ELSEWHERE
        ):
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_FORM_BYTES:
            await _refuse(scope, receive, send)
            return
        received = 0
        started = False

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_FORM_BYTES:
                raise TooLargeBody
            return message

        async def noted_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted_receive, noted_send)
        except TooLargeBody:
            if not started:
                await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    words = f"Too large: a form may have {MAX_FORM_BYTES // 1024 // 1024} MB at most. Nothing was stored.\n"
    await PlainTextResponse(words, status_code=413, headers={"Connection": "close"})(scope, receive, send)
