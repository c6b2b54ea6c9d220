"""How much of a body is taken in before it is refused: nothing that was announced too large, little of what was not."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import Any

import pytest
from starlette.types import Message

from agent.contract.messages import MAX_BODY_BYTES
from app.errors import TooLargeError
from app.ingest.decode import inflate
from app.ingest.routes import read_body

PART_BYTES = 65_536


class Sender:
    """Sends parts without end, counts them, and objects to being asked for more than the limit and one."""

    def __init__(self) -> None:
        self.parts = 0

    async def __call__(self) -> Message:
        self.parts += 1
        assert self.parts <= MAX_BODY_BYTES // PART_BYTES + 1, "read on beyond the limit"
        return {"type": "http.request", "body": bytes(PART_BYTES), "more_body": True}


def refused(sender: Sender, *headers: tuple[bytes, bytes]) -> None:
    scope: dict[str, Any] = {"type": "http", "headers": list(headers)}
    with pytest.raises(TooLargeError):
        asyncio.run(read_body(scope, sender))


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 30, "-1", "1e3"])
def test_what_is_announced_too_large_is_not_read(length: str) -> None:
    sender = Sender()
    refused(sender, (b"content-length", length.encode()))
    assert sender.parts == 0


def test_a_body_without_end_is_read_to_the_limit() -> None:
    sender = Sender()
    refused(sender)
    assert sender.parts == MAX_BODY_BYTES // PART_BYTES + 1


def test_a_bomb_is_inflated_no_further_than_the_limit() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_BODY_BYTES
