"""The generator's connections: HTTP by hand, one request in flight, for as little of the machine as can be."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_RETRY = re.compile(rb"\r\n[Rr]etry-[Aa]fter: *(\d+)")
_CLOSE = re.compile(rb"\r\n[Cc]onnection: *close", re.IGNORECASE)
_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after_s: int


class Line(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError(str(exc)))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[: end + 2]
        length = _LENGTH.search(head)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < size or self._waiting is None:
            return
        body, self._buffer = self._buffer[end + 4 : size], self._buffer[size:]
        retry = _RETRY.search(head)
        if _CLOSE.search(head):
            self.is_open = False
        if not self._waiting.done():
            self._waiting.set_result(Answer(int(head[9:12]), body, int(retry[1]) if retry else 0))

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """The answer to a request, or to one of which this is the rest.

        raises: ConnectionResetError when the connection ends before it.
        """
        if self._transport is None or not self.is_open:
            raise ConnectionResetError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        if request:
            self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a connection leads, once a name was looked up."""

    family: socket.AddressFamily
    # As the operating system wants it: its parts differ with the family.
    parts: tuple[Any, ...]

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Address | None:
        """Of a connection. None if it has ended meanwhile, or where `connect` can't do its work."""
        plain, parts = transport.get_extra_info("socket"), transport.get_extra_info("peername")
        if parts is None or not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            return None
        return cls(family=plain.family, parts=parts)


async def connect(make_line: Callable[[], Line], address: Address, request: bytes) -> tuple[Line, bytes]:
    """A connection on which a request is sent before anything else is done, and what of it could not be sent yet.

    Half of what asyncio's own way costs; and a server sees who says at once what they came for, as agents do, however
    much this process has to do. raises: OSError when it can't even be begun; else whoever asks hears of it.
    """
    plain = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        plain.setblocking(False)
        failed = plain.connect_ex(address.parts)
        if failed not in _UNDER_WAY:
            raise OSError(failed, os.strerror(failed))
        try:
            # To this machine a connection is there at once.
            sent = plain.send(request)
        except BlockingIOError:
            sent = 0
        _transport, line = await asyncio.get_running_loop().create_connection(make_line, sock=plain)
    except BaseException:
        plain.close()
        raise
    return line, request[sent:]


@contextmanager
def spared_collections() -> Iterator[None]:
    """While a fleet sends, its stations are not looked through for garbage again and again: a third of the time."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
