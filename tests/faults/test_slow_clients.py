"""Clients that send half a request, trickle, or send bombs: they are ended, and everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from collections import Counter

import httpx
import pytest

from app.db.engine import open_engine
from app.ingest.generator import Fleet
from app.settings import Settings
from tests.faults.served import Served, assert_ledger_is_kept, prepared, report_while

TIMEOUT_S = 4.0
HALF_SENT = 120
BOMBS = 100
REPORT = (
    b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wl_1_"
    + b"x" * 43
    + b"\r\nContent-Length: 900\r\n"
)
FORM = (
    b"POST /login HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: same-origin\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n"
)
HALVES = {
    "half a head": REPORT,
    "a head alone": REPORT + b"\r\n",
    "half a report": REPORT + b"\r\n{",
    "half an enrolment": b"POST /api/v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{",
    "half a form": FORM + b"\r\n6\r\nemail=\r\n",
}


async def send_half(port: int, half: bytes, trickles: bool) -> bytes:
    """The status line with which the server ended it, or nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(half)
    reading = asyncio.create_task(reader.read(1000))
    try:
        while not reading.done():
            if trickles:
                writer.write(b"x")
            await asyncio.wait([reading], timeout=0.2)
        return reading.result().split(b"\r\n")[0]
    except OSError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.slow
def test_half_sent_requests_hold_up_nobody(settings: Settings) -> None:
    secret = prepared(settings)
    server = Served(settings, WAYLEAVE_REQUEST_TIMEOUT_S=str(TIMEOUT_S))
    server.start()
    fleet = Fleet(server.url, tells=0.5)
    took_s: list[float] = []

    async def run() -> Counter[bytes]:
        await fleet.enrol(secret, 20, connections=4)
        async with httpx.AsyncClient(base_url=server.url) as client:
            await client.get("/login")  # the first page of a process reads its templates
        before = server.memory_bytes()
        halves = [
            asyncio.create_task(send_half(server.port, half, number % 2 == 1))
            for half in HALVES.values()
            for number in range(HALF_SENT)
        ]
        await asyncio.sleep(0.3)

        async def look_at_pages() -> None:
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
                for _ in range(10):
                    began_s = time.monotonic()
                    assert (await client.get("/login")).status_code == 200
                    took_s.append(time.monotonic() - began_s)
                    await asyncio.sleep(0.1)

        await report_while(fleet, random.Random(1), look_at_pages)
        fleet.close()
        ended = Counter(await asyncio.wait_for(asyncio.gather(*halves), 20 * TIMEOUT_S))
        assert server.memory_bytes() - before < 60_000_000
        return ended

    try:
        ended = asyncio.run(run())
    finally:
        server.kill()
    print(f"ended: {dict(ended)}; the slowest page took {max(took_s):.2f} s; {fleet.tally.acknowledged} reports")
    assert set(ended) <= {b"HTTP/1.1 408 Request Timeout", b"HTTP/1.1 400 Bad Request", b""}
    assert ended[b"HTTP/1.1 408 Request Timeout"] > len(HALVES) * HALF_SENT / 2
    assert max(took_s) < TIMEOUT_S, "a page waited for those who did not send"
    assert (fleet.tally.lost, fleet.tally.turned_away) == (0, 0)
    engine = open_engine(settings)
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()


@pytest.mark.slow
def test_bombs_fill_no_memory_and_hold_up_nobody(settings: Settings) -> None:
    secret = prepared(settings)
    server = Served(settings)
    server.start()
    fleet = Fleet(server.url, tells=0.5)
    bomb = gzip.compress(bytes(100_000_000), 9)
    answers: Counter[int] = Counter()

    async def run() -> None:
        await fleet.enrol(secret, 20, connections=4)
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            body = {"contract": 1, "secret": secret, "host": {"name": "PC-1"}}
            token = json.loads((await client.post("/api/v1/enrol", json=body)).content)["token"]
            headers = {"Authorization": f"Bearer {token}", "Content-Encoding": "gzip"}

            async def bombard() -> None:
                before = server.memory_bytes()
                sent = await asyncio.gather(
                    *(client.post("/api/v1/reports", content=bomb, headers=headers) for _ in range(BOMBS)),
                    client.post("/api/v1/enrol", content=bomb, headers=headers),
                )
                answers.update(answer.status_code for answer in sent)
                assert server.memory_bytes() - before < 60_000_000
                assert (await client.get("/healthz")).status_code == 200

            await report_while(fleet, random.Random(1), bombard)
            fleet.close()

    try:
        asyncio.run(run())
    finally:
        server.kill()
    print(f"bombs answered: {dict(answers)}; {fleet.tally.acknowledged} reports")
    assert answers == {413: BOMBS + 1}
    assert (fleet.tally.lost, fleet.tally.turned_away) == (0, 0)
    engine = open_engine(settings)
    assert_ledger_is_kept(engine, fleet)
    engine.dispose()
