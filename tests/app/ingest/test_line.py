"""The generator's connections bring every byte, and say so when nobody answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from app.ingest.line import Address, Answer, Line, connect

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(request: bytes, serve: Serve) -> Answer:
    """What a server answers to a request that is sent before the connection is known to be there."""

    async def run() -> Answer:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = Address(family=socket.AF_INET, parts=server.sockets[0].getsockname())
            line, rest = await connect(Line, address, request)
            answer = await asyncio.wait_for(line.ask(rest), 30)
            line.close()
            return answer

    return asyncio.run(run())


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_request_arrives_whole_however_much_of_it_goes_at_once(size: int) -> None:
    request = bytes(range(250)) * (size // 250 + 1)
    same = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        same.append(await reader.readexactly(len(request)) == request)
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy")
        writer.close()

    assert asked(request, serve) == Answer(503, b"busy", 7)
    assert same == [True]


def test_who_is_not_answered_hears_of_it() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    with pytest.raises(ConnectionResetError):
        asked(b"GET / HTTP/1.1\r\n\r\n", leave)


def test_where_nobody_listens_there_is_no_answer() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))

        async def run() -> None:
            address = Address(family=socket.AF_INET, parts=unheard.getsockname())
            line, rest = await connect(Line, address, b"GET / HTTP/1.1\r\n\r\n")
            await asyncio.wait_for(line.ask(rest), 30)

        with pytest.raises(OSError, match=r"refused|reset|closed"):
            asyncio.run(run())
