"""The generator does what agents do: bodies when asked for, again when told to, a new epoch after a clone."""

from __future__ import annotations

import asyncio
import json

from app.ingest.generator import Fleet, Station

Answer = tuple[int, dict[str, str], bytes]


def sent_to(answers: list[Answer]) -> tuple[Fleet, Station, list[dict[str, object]]]:
    """What a station sends to a server that gives these answers, one after the other."""
    seen: list[dict[str, object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            seen.append(json.loads(await reader.readexactly(length)))
            status, headers, body = answers.pop(0)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if not answers:
                break
        writer.close()

    async def run() -> tuple[Fleet, Station]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        fleet = Fleet(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", most_wait_s=0.01)
        station = fleet.station(1, "1", "wl_1_x", "SEND-1")
        await fleet.report(station)
        fleet.close()
        server.close()
        return fleet, station

    fleet, station = asyncio.run(run())
    return fleet, station, seen


def test_it_comes_back_when_told_to_and_sends_the_same_report() -> None:
    fleet, station, seen = sent_to([(503, {"Retry-After": "30"}, b""), (429, {}, b""), (200, {}, b"")])
    assert (fleet.tally.turned_away, fleet.tally.acknowledged, station.acknowledged) == (2, 1, 1)
    assert seen[0] == seen[1] == seen[2]


def test_it_sends_the_bodies_that_are_asked_for() -> None:
    _fleet, _station, seen = sent_to([(200, {}, b"")])
    digest = next(iter(seen[0]["sets"].values()))
    missing = json.dumps({"error": "missing", "missing": [digest]}).encode()
    fleet, _station, seen = sent_to([(409, {}, missing), (200, {}, b"")])
    assert seen[0]["bodies"] == {}
    assert list(seen[1]["bodies"]) == [digest]
    assert seen[0]["report_id"] == seen[1]["report_id"]
    assert fleet.tally.missing == 1


def test_after_a_clone_it_begins_anew() -> None:
    reused = json.dumps({"error": "sequence_reused"}).encode()
    fleet, station, seen = sent_to([(409, {}, reused), (200, {}, b"")])
    assert seen[1]["epoch"] > seen[0]["epoch"]
    assert (seen[1]["sequence"], station.sequence) == (1, 1)
    assert (fleet.tally.anew, fleet.tally.refused, station.acknowledged) == (1, 0, 1)


def test_a_refusal_is_final() -> None:
    fleet, station, _seen = sent_to([(422, {}, b"{}")])
    assert (fleet.tally.refused, station.acknowledged, station.unanswered) == (1, 0, 0)


def test_what_it_last_said_is_sure_only_as_long_as_nothing_later_may_have_arrived() -> None:
    _fleet, station, _seen = sent_to([(200, {}, b"")])
    assert station.kept == station.said
    station.hear(acknowledged=False)
    assert station.kept == b""
    fleet, station, _seen = sent_to([(500, {}, b"")])
    assert (fleet.tally.refused, station.unanswered, station.kept) == (1, 1, b"")
