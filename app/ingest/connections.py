"""HTTP connections that end: how long a request may take to arrive, how large its head may be, how long answers wait.

uvicorn bounds none of these with httptools: a head of a gigabyte would be read to its end, and a client that sends a
byte a minute would hold its connection for ever. Nor are there more connections at once than are wanted: who comes
beyond is answered 503 before anything is read of what it sends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from functools import cache
from http import HTTPStatus
from weakref import WeakKeyDictionary

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.settings import Settings

MAX_HEAD_BYTES = 32_768
SLOWEST_BYTES_S = 4096
"""A request may take a second longer for each of these: what is large may come slowly, what trickles may not."""
UNREAD_ANSWER_S = 60.0
LOOK_AGAIN_S = 1.0
FIRST_TURN_S = 2.0
LAST_TURN_S = 600.0
TURNS_PER_S = 2000.0
"""Who is sent away is told when it is their turn, so many a second: a crowd doesn't come back together, nor later than
it could be served. Agents add a share of their own."""
UNANSWERED_BEYOND = 2.0
"""Beyond so many times the wanted connections nobody is even answered: those that say nothing would fill the memory.
Below it each is told when to come back: who is cut tries again at once, and a crowd of those takes all the time."""
ACCEPTED_AT_ONCE = 8
UNACCEPTED = 4096
"""How many may wait in the kernel, which tells nobody beyond: they try again after 1, 2, 4 ... 32 seconds."""
TRANSPORT = "wayleave.transport"
"""In a request's scope: its connection, by which one sees that it has ended."""
_ASKED_BY_WATCHERS = (b"GET /healthz ", b"GET /readyz ")


@cache
def _timeout_s() -> float:
    return Settings().request_timeout_s


@cache
def _most_connections() -> int:
    return Settings().connections


def share_listener(listener: socket.socket) -> list[socket.socket]:
    """A listening socket as often as connections shall be accepted each time the loop comes round.

    uvloop accepts one. A busy loop comes round some hundred times a second: a crowd would fill the kernel's queue.
    """
    if sys.platform == "win32":  # asyncio's own loop accepts all who wait, and has no use for a second one
        return [listener]
    return [listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]


class _TurnedAway:
    """Those for whom a server has no place."""

    def __init__(self) -> None:
        # Open only until they are told to come back. They take nobody's place.
        self.open: set[asyncio.Protocol] = set()
        self._turn_at_s = 0.0

    def next_turn_s(self, now_s: float) -> int:
        """In how many seconds it is the turn of the next of them."""
        turn_at_s = max(self._turn_at_s, now_s + FIRST_TURN_S) + 1 / TURNS_PER_S
        self._turn_at_s = min(turn_at_s, now_s + LAST_TURN_S)
        return round(self._turn_at_s - now_s)


_TURNED_AWAY: WeakKeyDictionary[ServerState, _TurnedAway] = WeakKeyDictionary()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's connection with one timer of its own, which looks now and then whether somebody keeps it waiting."""

    # When the wait for a whole request began; None while there is one to answer, or none is due.
    _since_s: float | None = None
    _unread_since_s: float | None = None
    _watch: asyncio.TimerHandle | None = None
    _is_in_head = False
    _is_too_many = False
    # What came since the last whole head, piece of a body or whole request: heads, trailers, blank lines.
    _empty_bytes = 0
    _arrived_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn speaks over sockets alone
        super().connection_made(transport)
        turned_away = _TURNED_AWAY.setdefault(self.server_state, _TurnedAway()).open
        if len(self.connections) - len(turned_away) > _most_connections():
            self._is_too_many = True
            turned_away.add(self)
            if len(self.connections) > _most_connections() * UNANSWERED_BEYOND:
                transport.abort()
                return
        # Who connects has something to say.
        self._since_s = self.loop.time()
        self._watch = self.loop.call_later(_timeout_s(), self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        _TURNED_AWAY[self.server_state].open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_too_many:
            self._is_too_many = False
            if not data.startswith(_ASKED_BY_WATCHERS):
                self._turn_away()
                return
            # It stays, and may ask for more than that: it counts from here on.
            _TURNED_AWAY[self.server_state].open.discard(self)
        size = len(data)
        self._empty_bytes += size
        self._arrived_bytes += size
        super().data_received(data)
        if self._empty_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._since_s is None and (self.cycle is None or self.cycle.response_complete):
            # What came begins no request (blank lines), but has stopped the timer of idle connections.
            self._since_s = self.loop.time()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        if self._since_s is None:
            self._since_s = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self.scope[TRANSPORT] = self.transport  # type: ignore[literal-required]  # a key of our own in the scope
        # Only where much has come at once can the head be too large, and is it worth measuring.
        if self._empty_bytes > MAX_HEAD_BYTES and self._measure_head() > MAX_HEAD_BYTES:
            served, self.app = self.app, _answer_431
            super().on_headers_complete()
            self.app = served
        else:
            super().on_headers_complete()
        self._empty_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._empty_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since_s = None
        self._empty_bytes = self._arrived_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._unread_since_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._unread_since_s = None
        super().resume_writing()

    def _measure_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _look(self) -> None:
        """Ends a connection that keeps us waiting, or looks again when it may."""
        if self.transport.is_closing():
            return
        now_s = self.loop.time()
        if self._unread_since_s is not None and now_s - self._unread_since_s >= UNREAD_ANSWER_S:
            self.transport.abort()
            return
        left_s = allowed_s = _timeout_s() + self._arrived_bytes / SLOWEST_BYTES_S
        if self._since_s is not None:
            left_s = self._since_s + allowed_s - now_s
            # While we don't read, it is not the client who keeps us waiting.
            if left_s <= 0 and not self.flow.read_paused:
                self._refuse(408)
                return
        self._watch = self.loop.call_later(max(left_s, LOOK_AGAIN_S), self._look)

    def _turn_away(self) -> None:
        """Answers 503 and ends the connection."""
        self.transport.write(_TOO_MANY % _TURNED_AWAY[self.server_state].next_turn_s(self.loop.time()))
        self.transport.close()

    def _refuse(self, status: int) -> None:
        """Ends the connection, and says why where a request is unanswered."""
        begun = self._is_in_head or (self.cycle is not None and self.cycle.more_body)
        answered = not self._is_in_head and self.cycle is not None and self.cycle.response_started
        if begun and not answered and not self.pipeline:
            head, body = _refusal(status)
            lines = b"".join(b"%b: %b\r\n" % header for header in head)
            phrase = HTTPStatus(status).phrase.encode()
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase, lines, body))
        self.transport.close()


_TOO_MANY_BODY = b'{"error": "busy", "message": "Too many connections at once.", "field": null}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"retry-after: %%d\r\nconnection: close\r\n\r\n%b" % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)
)


def _refusal(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    code, message = {
        408: ("timeout", "The request did not arrive in time."),
        431: ("head_too_large", f"The request's head is larger than {MAX_HEAD_BYTES} bytes."),
    }[status]
    body = json.dumps({"error": code, "message": message, "field": None}).encode()
    length = str(len(body)).encode()
    return [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")], body


async def _answer_431(_scope: Scope, _receive: Receive, send: Send) -> None:
    head, body = _refusal(431)
    await send({"type": "http.response.start", "status": 431, "headers": head})
    await send({"type": "http.response.body", "body": body})
