"""Reports replayed, reordered, late, from the future, from restored snapshots, by clones, with stolen ids: all at once.

Each answer is held against a model that forgets nothing, and in the end the database against what was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.db.engine import open_engine
from app.db.session import session_scope
from app.fleet.sequence import SLOTS
from app.fleet.tables import Pulse, Sighting, Subject
from app.ingest.generator import Fleet, Station
from app.ingest.ledger import find_wrong_states, line_of
from app.settings import Settings
from tests.faults.served import KILLS, Served, assert_counts_are_right, change, chosen_seed, prepared

SENDERS = 16
ROUNDS = max(5 * KILLS, 40)
DAY_MS = 86_400_000


@dataclass(slots=True)
class Model:
    """What the server must know of one subject: every report of the newest epoch, and how many were recorded.

    `said`: the digests of the newest one.
    """

    epoch: int = 0
    highest: int = -1
    known: dict[int, str] = field(default_factory=dict)
    received: int = 0
    sightings: set[int] = field(default_factory=set)
    said: bytes = b""

    def expect(self, epoch: int, sequence: int, report_id: str) -> tuple[int, str]:
        """The answer due to a report."""
        if epoch > self.epoch or (epoch == self.epoch and sequence > self.highest):
            return 200, "new"
        if epoch < self.epoch or sequence <= self.highest - SLOTS:
            return 409, "sequence_too_old"
        if sequence not in self.known:
            return 200, "late"
        return (200, "replay") if self.known[sequence] == report_id else (409, "sequence_reused")

    def take(self, report: dict[str, Any], what: str) -> None:
        """What is to be remembered of a report that was answered 200."""
        if what == "replay":
            return
        epoch, sequence = report["epoch"], report["sequence"]
        if what == "new":
            self.said = json.dumps(report["sets"]).encode()
        if epoch > self.epoch:
            self.epoch, self.highest, self.known = epoch, sequence, {}
        self.highest = max(self.highest, sequence)
        self.known[sequence] = report["report_id"]
        self.received += 1
        self.sightings.add(report["sightings"][0]["record"])


class Sender:
    """A station that does everything wrong now and then."""

    def __init__(self, station: Station, other: Station, chance: random.Random) -> None:
        self.station, self.other, self.chance = station, other, chance
        self.token = _token(station)
        self.model = Model()
        self.sent: list[dict[str, object]] = []
        self.held_back: list[dict[str, object]] = []
        self.answers: Counter[str] = Counter()
        self.record = 0

    async def act(self, client: httpx.AsyncClient) -> None:
        what = self.chance.choices(
            ["next", "replay", "skip", "late", "future", "restore", "clone", "stolen", "anew"],
            [10, 4, 3, 4, 1, 1, 2, 2, 1],
        )[0]
        if what == "replay" and self.sent:
            await self.send(client, self.chance.choice(self.sent))
        elif what == "skip":
            self.held_back.append(self.next_report())
        elif what == "late" and self.held_back:
            # Held back for long or for short, in any order.
            await self.send(client, self.held_back.pop(self.chance.randrange(len(self.held_back))))
        elif what == "future":
            report = {**self.next_report(), "epoch": time.time_ns() // 1_000_000 + 2 * DAY_MS}
            await self.refused(client, report, self.token, 422, "invalid")
            self.station.sequence -= 1
        elif what == "restore" and self.sent:
            # The disk of an hour ago: the sequence goes back, and other reports come under numbers that were used.
            self.station.sequence = max(self.station.sequence - self.chance.choice([1, 5, 40]), 0)
            await self.send(client, self.next_report())
        elif what == "clone" and self.sent:
            # A second machine with the same token and the same number, at the same time.
            report = self.next_report()
            await self.send(client, report)
            await self.send(client, {**report, "report_id": str(uuid.uuid4())})
        elif what == "stolen":
            # Another host's id with our secret, and ours with no secret that anybody has.
            secret = self.token.split("_", 2)[2]
            report = self.next_report()
            await self.refused(client, report, f"wl_{self.other.host_id}_{secret}", 401, "unknown")
            await self.refused(client, report, f"wl_{self.station.host_id}_{'A' * len(secret)}", 401, "unknown")
            self.station.sequence -= 1
        elif what == "anew":
            self.station.epoch += self.chance.choice([1, 1000])
            self.station.sequence = self.chance.choice([0, 7])
            await self.send(client, self.next_report())
        else:
            await self.send(client, self.next_report())

    def next_report(self) -> dict[str, object]:
        station = self.station
        change(self.chance, station)
        station.sequence += 1
        self.record += 1
        sets = json.loads(station.said)
        bodies = {f"sha256:{one.digest.hex()}": one.body for one in station.sets.values()}
        return {
            "contract": 1,
            "report_id": str(uuid.uuid4()),
            "epoch": station.epoch,
            "sequence": station.sequence,
            "sent_at": "2026-11-21T08:00:00Z",
            "subject": station.subject.decode(),
            "sets": sets,
            "bodies": {**bodies, station.host_digest: station.host_body},
            "sightings": [
                {
                    "channel": "AppLocker",
                    "record": self.record,
                    "event_id": 8004,
                    "at": "2026-11-20T08:00:00Z",
                    "pattern": "venv-python",
                    "path": "C:\\x",
                }
            ],
        }

    async def send(self, client: httpx.AsyncClient, report: dict[str, object]) -> None:
        self.sent.append(report)
        epoch, sequence, report_id = int(report["epoch"]), int(report["sequence"]), str(report["report_id"])
        status, what = self.model.expect(epoch, sequence, report_id)
        answer = await self.post(client, report, self.token)
        said = answer.json()
        assert (answer.status_code, said.get("error", what)) == (status, what), (said, report, self.model)
        self.answers[what] += 1
        if status == 200:
            self.model.take(report, what)

    async def refused(
        self, client: httpx.AsyncClient, report: dict[str, object], token: str, status: int, error: str
    ) -> None:
        answer = await self.post(client, report, token)
        assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
        self.answers[error] += 1

    async def post(self, client: httpx.AsyncClient, report: dict[str, object], token: str) -> httpx.Response:
        return await client.post("/api/v1/reports", json=report, headers={"Authorization": f"Bearer {token}"})


def _token(station: Station) -> str:
    return station.head.decode().split("Bearer ")[1].split("\r\n")[0]


@pytest.mark.slow
def test_each_is_told_the_truth_and_nothing_counts_twice(settings: Settings) -> None:
    seed = chosen_seed()
    secret = prepared(settings)
    server = Served(settings, WAYLEAVE_NEW_SETS_PER_DAY="1000")
    server.start()
    fleet = Fleet(server.url)

    async def run() -> list[Sender]:
        await fleet.enrol(secret, SENDERS, connections=8)
        fleet.close()
        stations = fleet.stations
        senders = [
            Sender(station, stations[(at + 1) % SENDERS], random.Random(seed + at))
            for at, station in enumerate(stations)
        ]
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:

            async def work(sender: Sender) -> None:
                for _ in range(ROUNDS):
                    await sender.act(client)

            await asyncio.gather(*(work(sender) for sender in senders))
        return senders

    try:
        senders = asyncio.run(run())
    finally:
        server.kill()
    answers = sum((sender.answers for sender in senders), Counter[str]())
    print(f"answered: {dict(answers)}")
    assert set(answers) == {
        "new", "late", "replay", "sequence_reused", "sequence_too_old", "invalid", "unknown",
    }  # fmt: skip
    engine = open_engine(settings)
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(Subject.host_id, Pulse.epoch, Pulse.sequence, Pulse.received, Pulse.missed).join(
                Pulse, Pulse.subject_id == Subject.id
            )
        ).all()
        seen: dict[int, list[int]] = {}
        for host_id, record in session.execute(select(Sighting.host_id, Sighting.record)):
            seen.setdefault(host_id, []).append(record)
        for sender in senders:
            sender.station.kept = sender.model.said
        assert list(find_wrong_states(session, [line_of(sender.station) for sender in senders])) == []
    assert len(rows) == SENDERS
    kept = {row.host_id: row for row in rows}
    for sender in senders:
        row, model = kept[int(sender.station.host_id)], sender.model
        assert (row.epoch, row.sequence, row.received) == (model.epoch, model.highest, model.received)
        assert sorted(seen[row.host_id]) == sorted(model.sightings)
    assert_counts_are_right(engine)
    engine.dispose()
