"""Connections on which a request doesn't arrive, or has no end, are ended; those that are merely slow are not."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from app.ingest import connections
from app.ingest.connections import ACCEPTED_AT_ONCE, MAX_HEAD_BYTES, UNACCEPTED, BoundedProtocol, share_listener

TIMEOUT_S = 0.4
ENOUGH_S = 5.0
SEEN: list[str] = []


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body to its end and says how long it was."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            SEEN.append("disconnect")
            return
        size += len(message["body"])
        more = message["more_body"]
    SEEN.append(scope["path"])
    said = str(size).encode()
    headers = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[uvicorn.Server]:
    monkeypatch.setattr(connections, "_timeout_s", lambda: TIMEOUT_S)
    monkeypatch.setattr(connections, "LOOK_AGAIN_S", 0.05)
    SEEN.clear()
    config = uvicorn.Config(
        answer, http=BoundedProtocol, ws="none", lifespan="off", log_level="critical", timeout_keep_alive=75
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    config.port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield server
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    return server.config.port


def wait_until_open(server: uvicorn.Server, count: int) -> None:
    """Until the server has seen who came and who left: a client is connected, or gone, before."""
    until_s = time.monotonic() + ENOUGH_S
    while len(server.server_state.connections) != count and time.monotonic() < until_s:
        time.sleep(0.005)
    assert len(server.server_state.connections) == count


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), ENOUGH_S)


def until_closed(line: socket.socket) -> bytes:
    """Everything until the server closes. raises: TimeoutError when it does not."""
    got = b""
    while part := line.recv(65_536):
        got += part
    return got


def trickle(line: socket.socket, parts: Iterator[bytes], *, every_s: float) -> bytes:
    """What was answered to parts sent one by one, until the server closes or they end."""
    try:
        for part in parts:
            line.sendall(part)
            time.sleep(every_s)
    except OSError:
        pass
    try:
        return until_closed(line)
    except ConnectionResetError:
        return b""


GET = b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n"


def test_a_half_head_is_answered_408(port: int) -> None:
    with connected(port) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-")
        assert until_closed(line).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert SEEN == []


def test_a_half_body_is_answered_408_and_the_application_let_go(port: int) -> None:
    for sent in (b"", b"half"):
        with connected(port) as line:
            line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n" + sent)
            assert until_closed(line).startswith(b"HTTP/1.1 408 ")
    until_s = time.monotonic() + ENOUGH_S
    while SEEN != ["disconnect", "disconnect"] and time.monotonic() < until_s:
        time.sleep(0.02)
    assert SEEN == ["disconnect", "disconnect"]


@pytest.mark.parametrize("said", [b"", b"\r\n"])
def test_who_says_nothing_is_not_waited_for(port: int, said: bytes) -> None:
    with connected(port) as line:
        line.sendall(said)
        assert until_closed(line) == b""
    with connected(port) as line:
        line.sendall(GET)
        assert line.recv(1000).endswith(b"\r\n\r\n0")
        if said:
            line.sendall(said)
            assert until_closed(line) == b""


def test_a_trickle_is_ended(port: int) -> None:
    began_s = time.monotonic()
    with connected(port) as line:
        answered = trickle(line, (b"X" for _ in range(1000)), every_s=0.02)
    assert b"200" not in answered
    assert time.monotonic() - began_s < ENOUGH_S


def test_what_is_large_may_come_slowly(port: int) -> None:
    body = bytes(40_000)
    with connected(port) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 40000\r\n\r\n")
        parts = (body[at : at + 4000] for at in range(0, 40_000, 4000))
        assert trickle(line, parts, every_s=0.15).endswith(b"\r\n\r\n40000")


def test_an_idle_connection_is_kept(port: int) -> None:
    with connected(port) as line:
        for _ in range(3):
            line.sendall(GET)
            assert line.recv(1000).endswith(b"\r\n\r\n0")
            time.sleep(TIMEOUT_S * 1.5)
    assert SEEN == ["/whole"] * 3


def test_a_large_head_is_answered_431(port: int) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 500) for number in range(80))
    for head in (lines, b"Cookie: " + b"c" * MAX_HEAD_BYTES + b"\r\n"):
        with connected(port) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
            assert until_closed(line).startswith(b"HTTP/1.1 431 ")
    assert SEEN == []


@pytest.mark.parametrize(
    "begun",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: ",
    ],
)
def test_a_head_without_end_is_not_read_on(port: int, begun: bytes) -> None:
    """However fast it comes, so that a deadline alone would let it fill memory."""
    sent = 0
    with connected(port) as line:
        line.sendall(begun)
        try:
            while sent < 50_000_000:
                sent += line.send(b"x" * 16_384)
        except OSError:
            pass
    # What the kernel's buffers hold was sent, but not read.
    assert sent < 20_000_000


def test_a_large_body_in_one_piece_is_no_large_head(port: int) -> None:
    with connected(port) as line:
        line.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)
        )
        assert until_closed(line).endswith(b"\r\n\r\n200000")


def answered(port: int, request: bytes = GET) -> bytes:
    """What somebody who comes is answered first."""
    with connected(port) as line:
        line.sendall(request)
        return line.recv(1000)


def retry_after_s(answer: bytes) -> int:
    return int(answer.split(b"retry-after: ")[1].split(b"\r\n")[0])


@pytest.fixture
def kept(server: uvicorn.Server, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """As many connections as the server keeps, eight, each of them served once."""
    monkeypatch.setattr(connections, "_timeout_s", lambda: 30.0)
    monkeypatch.setattr(connections, "_most_connections", lambda: 8)
    with ExitStack() as opened:
        lines = [opened.enter_context(connected(port)) for _ in range(8)]
        for line in lines:
            line.sendall(GET)
            assert line.recv(1000).startswith(b"HTTP/1.1 200 ")
        yield lines


def test_who_comes_beyond_the_connections_that_are_kept_is_sent_away(
    server: uvicorn.Server, port: int, kept: list[socket.socket]
) -> None:
    with connected(port) as line:
        line.sendall(GET)
        answer = until_closed(line)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert retry_after_s(answer) == 2
        head, body = answer.split(b"\r\n\r\n")
        assert json.loads(body)["error"] == "busy"
        assert f"content-length: {len(body)}".encode() in head
    with ExitStack() as opened:
        # Twice as many are answered, whatever they say; the rest are not even listened to.
        silent = [opened.enter_context(connected(port)) for _ in range(8)]
        wait_until_open(server, 16)
        assert until_closed(opened.enter_context(connected(port))) == b""
        for line in silent:
            line.sendall(GET)
            assert until_closed(line).startswith(b"HTTP/1.1 503 ")
    assert SEEN == ["/whole"] * 8
    kept.pop().close()
    wait_until_open(server, 7)
    assert answered(port).startswith(b"HTTP/1.1 200 "), "there is room again"


def test_who_is_to_be_sent_away_takes_nobodys_place(
    server: uvicorn.Server, port: int, kept: list[socket.socket]
) -> None:
    with ExitStack() as opened:
        silent = [opened.enter_context(connected(port)) for _ in range(6)]
        # Whoever the server sees only after somebody has left has their place.
        wait_until_open(server, 14)
        kept.pop().close()
        wait_until_open(server, 13)
        assert answered(port).startswith(b"HTTP/1.1 200 ")
        silent[0].sendall(GET)
        assert until_closed(silent[0]).startswith(b"HTTP/1.1 503 ")


def test_who_watches_is_answered_beyond_and_takes_a_place_while_it_stays(
    server: uvicorn.Server, port: int, kept: list[socket.socket]
) -> None:
    with connected(port) as watcher:
        for path in (b"/healthz", b"/readyz"):
            assert answered(port, GET.replace(b"/whole", path)).startswith(b"HTTP/1.1 200 ")
        wait_until_open(server, 9)
        watcher.sendall(GET.replace(b"/whole", b"/healthz"))
        assert watcher.recv(1000).startswith(b"HTTP/1.1 200 ")
        kept.pop().close()
        wait_until_open(server, 8)
        assert answered(port).startswith(b"HTTP/1.1 503 "), "the watcher has the place"
        # It may ask for anything from here on.
        watcher.sendall(GET)
        assert watcher.recv(1000).startswith(b"HTTP/1.1 200 ")
        wait_until_open(server, 8)
    wait_until_open(server, 7)
    assert answered(port).startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("kept")
def test_a_crowd_is_told_to_come_back_one_after_the_other(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TURNS_PER_S", 0.01)
    told = [retry_after_s(answered(port)) for _ in range(8)]
    assert told[0] == 102
    assert all(80 <= later - sooner <= 100 for sooner, later in pairwise(told[:5]))
    assert told[6:] == [600, 600]


def test_a_busy_loop_accepts_several_each_time_it_comes_round() -> None:
    """As many as wait in the kernel's queue would else be one a round, and whoever finds it full hears nothing."""
    crowd = 80
    rounds = []

    async def accept(listener: socket.socket) -> None:
        made: list[asyncio.Protocol] = []

        class Counted(asyncio.Protocol):
            def connection_made(self, _transport: asyncio.BaseTransport) -> None:
                made.append(self)

        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Counted, sock=one) for one in share_listener(listener)]
        with ExitStack() as opened:
            for _ in range(crowd):
                opened.enter_context(connected(listener.getsockname()[1]))
            while len(made) < crowd:
                rounds.append(len(made))
                await asyncio.sleep(0)
        for server in servers:
            server.close()

    factory = uvicorn.Config(answer).get_loop_factory()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=UNACCEPTED) as listener,
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        runner.run(accept(listener))
    assert len(rounds) <= crowd / ACCEPTED_AT_ONCE + 5
