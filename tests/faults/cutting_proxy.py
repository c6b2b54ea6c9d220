"""A TCP proxy before PostgreSQL that cuts connections around COMMIT, where nobody can know whether it happened.

It can also swallow everything, as a network does that has lost its way: no end of the connection, and no answer.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class CuttingProxy:
    """Forwards everything; of the COMMITs, a share is cut off before they arrive, or after, before their answer."""

    def __init__(self, target_port: int, chance: random.Random, *, share: float) -> None:
        self._target_port = target_port
        self._chance = chance
        self._share = share
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self.is_cutting = False
        self.is_swallowing = False
        self.swallowed = 0
        self.cuts: Counter[str] = Counter()

    async def start(self, port: int = 0) -> int:
        """The port it listens on."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for line in list(self._lines):
            line.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_swallowing:
            self.swallowed += 1
            self._lines.add(writer)
            with suppress(OSError):
                await reader.read()
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._lines |= {writer, far_writer}
        swallow = asyncio.Event()
        answers = asyncio.create_task(self._answers(far_reader, writer, swallow))
        try:
            while data := await reader.read(65_536):
                if self.is_swallowing:
                    self.swallowed += 1
                    continue
                ends_in_commit = data.endswith(COMMIT)
                if self.is_cutting and ends_in_commit and self._chance.random() < self._share:
                    if self._chance.random() < 0.5:
                        self.cuts["before"] += 1
                        break
                    self.cuts["after"] += 1
                    swallow.set()
                    far_writer.write(data)
                    # The answer tells that it is done; it is not passed on.
                    await answers
                    break
                far_writer.write(data)
                await far_writer.drain()
        except OSError:
            pass
        finally:
            answers.cancel()
            for line in (writer, far_writer):
                line.transport.abort()
                self._lines.discard(line)

    async def _answers(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event) -> None:
        try:
            while data := await far.read(65_536):
                if swallow.is_set():
                    return
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            return
