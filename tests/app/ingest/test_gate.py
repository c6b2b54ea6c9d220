"""The gate: so many requests at once, and none that is only half here keeps others out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.ingest import gate
from app.ingest.gate import HELD_BYTES, AdmissionGate
from app.web.errors import answer_busy

END: Message = {"type": "http.request", "body": b"", "more_body": False}


def scope_of(path: str, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST" if headers else "GET",
        "path": path,
        "scheme": "http",
        "query_string": b"",
        "headers": list(headers),
    }


class Served:
    """An application behind a gate that reads its body, and ends each request when told."""

    def __init__(self, places: int) -> None:
        self.inside = 0
        self.most = 0
        self.let_go = asyncio.Event()
        self.bodies: list[bytes] = []
        self.gate = AdmissionGate(self.answer, places=places, refuse_people=answer_busy)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            body = b""
            more = scope["method"] == "POST"
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            self.bodies.append(body)
            await self.let_go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.inside -= 1

    async def ask(
        self, path: str, *headers: tuple[bytes, bytes], receive: Callable[[], Awaitable[Message]] | None = None
    ) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def nothing_more() -> Message:
            await asyncio.sleep(3600)
            return END

        await self.gate(scope_of(path, *headers), receive or nothing_more, send)
        return sent


def sender(*parts: bytes, whole: bool) -> Callable[[], Awaitable[Message]]:
    """Sends parts of a body, and then its end or nothing for ever."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if whole:
        waiting.append(dict(END))

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(3600)
        return END

    return receive


HAS_BODY = (b"content-length", b"1000000")


def test_no_more_at_once_than_places() -> None:
    async def run() -> None:
        served = Served(places=3)
        tasks = [asyncio.create_task(served.ask("/x")) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert served.inside == 3
        served.let_go.set()
        answers = await asyncio.gather(*tasks)
        assert [answer[0]["status"] for answer in answers] == [200] * 20
        assert served.most == 3

    asyncio.run(run())


def test_half_a_form_takes_no_place() -> None:
    async def run() -> None:
        served = Served(places=2)
        served.let_go.set()
        half = [asyncio.create_task(served.ask("/x", HAS_BODY, receive=sender(b"a=", whole=False))) for _ in range(50)]
        await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(served.ask("/x"), 5)
        assert answer[0]["status"] == 200
        for one in half:
            one.cancel()

    asyncio.run(run())


def test_large_bodies_take_a_quarter_of_the_places_at_most() -> None:
    async def run() -> None:
        served = Served(places=8)
        served.let_go.set()
        half = [
            asyncio.create_task(served.ask("/x", HAS_BODY, receive=sender(bytes(HELD_BYTES), b"more", whole=False)))
            for _ in range(50)
        ]
        await asyncio.sleep(0.05)
        assert served.inside == 2
        answer = await asyncio.wait_for(served.ask("/x"), 5)
        assert answer[0]["status"] == 200
        for one in half:
            one.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("parts", [(b"ab", b"cd"), (bytes(HELD_BYTES), b"x", bytes(HELD_BYTES), b"end")])
def test_a_body_arrives_as_it_was_sent(parts: tuple[bytes, ...]) -> None:
    async def run() -> None:
        served = Served(places=2)
        served.let_go.set()
        answer = await served.ask("/x", (b"transfer-encoding", b"chunked"), receive=sender(*parts, whole=True))
        assert answer[0]["status"] == 200
        assert served.bodies == [b"".join(parts)]

    asyncio.run(run())


def test_who_leaves_while_sending_is_forgotten() -> None:
    async def run() -> None:
        served = Served(places=1)

        async def gone() -> Message:
            return {"type": "http.disconnect"}

        assert await served.ask("/x", HAS_BODY, receive=gone) == []
        assert served.bodies == []

    asyncio.run(run())


def test_programs_get_json_and_people_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "WAIT_S", 0.05)

    async def run() -> None:
        served = Served(places=1)
        holding = asyncio.create_task(served.ask("/x"))
        await asyncio.sleep(0.02)
        start, body = await served.ask("/api/v1/hosts")
        headers = dict(start["headers"])
        assert (start["status"], headers[b"retry-after"]) == (503, b"5")
        assert json.loads(body["body"])["error"] == "busy"
        start, body = await served.ask("/hosts")
        headers = dict(start["headers"])
        assert (start["status"], headers[b"retry-after"]) == (503, b"5")
        assert headers[b"content-type"].startswith(b"text/html")
        assert b"default-src 'none'" in headers[b"content-security-policy"]
        assert b"The server is busy" in body["body"]
        assert b"Try again in a moment" in body["body"]
        start, body = await served.ask("/hosts", (b"hx-request", b"true"))
        assert (start["status"], b"<html" in body["body"]) == (503, False)
        served.let_go.set()
        await holding
        assert (await served.ask("/hosts"))[0]["status"] == 200

    asyncio.run(run())
