"""Many made workstations on one machine: real enrolment, real reports, over as many connections as wanted.

It speaks HTTP by hand on asyncio, so that it costs far less than what it measures, and keeps a ledger of every report
that was acknowledged, with the sightings and the uses of rules that were in it, and of the state that the last one
brought.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

from agent.contract.facts import HostFacts
from agent.contract.messages import ENROL_PATH, REPORTS_PATH
from app.fleet.made_sets import POLICIES, environment_set, policy_set, probe_set, token_set, uv_set
from app.fleet.rows import NewSet
from app.fleet.tables import KIND_NAMES
from app.ingest.line import Address, Answer, Line, connect

# How long a report is tried again: longer than a busy machine takes to start a server anew.
GIVE_UP_S = 120.0

VERSIONS = ("0.9.13", "0.12.4", "0.13.8")
REPORT = (
    b'{"contract":1,"report_id":"%s","epoch":%d,"sequence":%d,"sent_at":"2026-11-21T08:00:00Z","subject":"%s",'
    b'"sets":%s,"bodies":%s,%s}'
)
TELLS = 0.05
"""The share of reports with sightings, and of those with uses of rules."""
RECORDS_FROM = 1_000_000_000
"""Event records of made workstations are numbered from here on, so that a ledger finds them beside others."""
NOTHING_TOLD = b'"sightings":[]'
_SIGHTING = (
    '{"channel":"Microsoft-Windows-AppLocker/EXE and DLL","record":%d,"event_id":8004,"at":"%s","pattern":"%s",'
    '"path":"%%OSDRIVE%%\\\\src\\\\*\\\\%d.exe","collection":"Exe"}'
)
_SEEN = ("venv-python", "cache-builds-venv-python", "cache-archive-env-scripts", "managed-python-exe")
_USED = (
    "921cc481-6e17-4653-8f75-050b80acca20",
    "a61c8b2c-a319-4cd0-9690-d2177cad7b51",
    "5f1f4c52-7c53-5a0c-9f7e-2f3f6f0f7f11",
)
"""Rules of `made_sets`."""


@dataclass(slots=True, kw_only=True)
class Station:
    """One made workstation: its identity, what it last said, and what was acknowledged.

    `sighted`: sightings, `uses`: of a day and rule how many. `unheard`: sightings in reports without an answer.
    `kept`: the digests of the last acknowledged report, as `said`; empty as long as a later one may have arrived too.
    """

    number: int
    host_id: str
    head: bytes
    subject: bytes
    epoch: int
    sequence: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    sets: dict[str, NewSet] = field(default_factory=dict)
    host_digest: str = ""
    host_body: str = ""
    said: bytes = b""
    kept: bytes = b""
    told: bytes = NOTHING_TOLD
    record: int = RECORDS_FROM
    sighted: int = 0
    unheard: int = 0
    uses: dict[tuple[str, str], int] = field(default_factory=dict)
    _telling: int = 0
    _counting: dict[tuple[str, str], int] = field(default_factory=dict)

    def tell(self, chance: random.Random, *, sightings: bool, uses: bool) -> None:
        """Takes what it saw and counted into the next report."""
        self._telling, self._counting = 0, {}
        if not (sightings or uses):
            self.told = NOTHING_TOLD
            return
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seen = []
        if sightings:
            self._telling = chance.randint(1, 3)
            for _ in range(self._telling):
                self.record += 1
                seen.append(_SIGHTING % (self.record, at, chance.choice(_SEEN), self.record % 10))
        told = f'"sightings":[{",".join(seen)}]'
        if uses:
            for rule in _USED:
                key = (at[:10], rule)
                self._counting[key] = self.uses.get(key, 0) + chance.randint(1, 50)
            counts = [f'{{"rule_id":"{key[1]}","day":"{key[0]}","count":{n}}}' for key, n in self._counting.items()]
            told += f',"rule_uses":[{",".join(counts)}]'
        self.told = told.encode()

    def hear(self, *, acknowledged: bool) -> None:
        """Notes what became of the report."""
        if acknowledged:
            self.acknowledged += 1
            self.kept = self.said
            self.sighted += self._telling
            self.uses |= self._counting
        else:
            self.unanswered += 1
            self.kept = b""
            self.unheard += self._telling

    def say(self) -> None:
        """Takes the sets as they are now into the next reports."""
        named = {kind: f"sha256:{one.digest.hex()}" for kind, one in self.sets.items()}
        self.said = json.dumps({**named, "host": self.host_digest}, separators=(",", ":")).encode()

    def bodies(self, digests: list[str] | None = None) -> bytes:
        """The bodies of the digests asked for, or of all sets."""
        known = {f"sha256:{one.digest.hex()}": one.body for one in self.sets.values()}
        known[self.host_digest] = self.host_body
        return json.dumps({name: known[name] for name in (digests if digests is not None else known)}).encode()

    def request(self, report_id: bytes, bodies: bytes = b"{}") -> bytes:
        """The HTTP request of the report of the current sequence."""
        report = REPORT % (report_id, self.epoch, self.sequence, self.subject, self.said, bodies, self.told)
        return self.head + b"%d\r\n\r\n" % len(report) + report


@dataclass(slots=True)
class Tally:
    """What the generator counts."""

    acknowledged: int = 0
    missing: int = 0
    turned_away: int = 0
    anew: int = 0
    refused: int = 0
    lost: int = 0
    latencies_s: list[float] = field(default_factory=list)


def change_some(share: float, chance: random.Random) -> Callable[[Station], bool]:
    """For `saturate` and `pace`: this share of reports says that something changed; bodies come when asked for."""

    def change(station: Station) -> bool:
        if chance.random() < share:
            station.sets["policy"] = policy_set(chance.choice(POLICIES))
            station.sets["uv"] = uv_set(chance.choice(VERSIONS))
            station.say()
        return False

    return change


class Fleet:
    """Stations of one server, and the connections to it."""

    def __init__(
        self,
        url: str,
        *,
        new_connection: bool = False,
        most_wait_s: float = 60.0,
        lost_wait_s: tuple[float, float] = (0.05, 0.5),
        tells: float = TELLS,
        seed: int | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("the generator speaks plain HTTP: give http://host:port")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._new_connection = new_connection
        self._most_wait_s = most_wait_s
        self._lost_wait_s = lost_wait_s
        self._tells = tells
        self._chance = random.Random(seed)  # noqa: S311 - not a secret
        self._idle: list[Line] = []
        self._address: Address | None = None
        self.stations: list[Station] = []
        self.tally = Tally()

    async def enrol(self, secret: str, count: int, *, connections: int = 32) -> None:
        """Enrols `count` stations. raises: RuntimeError with the server's answer when it refuses."""
        numbers = iter(range(len(self.stations) + 1, len(self.stations) + count + 1))

        async def work() -> None:
            for number in numbers:
                name = f"SEND-{number:07}"
                body = json.dumps(
                    {"contract": 1, "secret": secret, "host": {"name": name, "os": "Windows 11"}}
                ).encode()
                answer = await self._ask(self._head(ENROL_PATH) + b"%d\r\n\r\n" % len(body) + body)
                if answer.status == 503:
                    await asyncio.sleep(random.uniform(0.1, 1.0))  # noqa: S311 - not a secret
                    answer = await self._ask(self._head(ENROL_PATH) + b"%d\r\n\r\n" % len(body) + body)
                if answer.status != 201:
                    raise RuntimeError(f"enrolment was refused: {answer.status} {answer.body[:300]!r}")
                enrolled = json.loads(answer.body)
                self.stations.append(self.station(number, enrolled["host_id"], enrolled["token"], name))

        await asyncio.gather(*(work() for _ in range(min(connections, count))))

    def station(self, number: int, host_id: str, token: str, name: str) -> Station:
        """A station with a host's token and the default sets."""
        facts = HostFacts(name=name, platform="windows", os="Windows 11", agent_version="0.1.0", attested=True)
        one = Station(
            number=number,
            host_id=host_id,
            head=self._head(REPORTS_PATH, token),
            subject=b"S-1-5-21-1004336348-1177238915-682003330-%d" % (1000 + number),
            epoch=time.time_ns() // 1_000_000 - 1000,
            host_digest=facts.digest(),
            host_body=facts.body(),
        )
        made = (
            probe_set("defaults", False, number % 3 > 0),
            uv_set(VERSIONS[number % 3]),
            environment_set(),
            policy_set("defaults"),
            token_set(False),
        )
        one.sets = {KIND_NAMES[each.kind]: each for each in made}
        one.say()
        return one

    async def report(
        self, station: Station, *, bodies: bool = False, kinds: tuple[str, ...] = (), due_s: float | None = None
    ) -> bool:
        """Sends a station's next report until it is acknowledged or refused, as an agent would.

        `bodies`: with the bodies of these kinds (of all, if none is named) without being asked for them. `due_s`: when
        it should have been sent, if it took longer until it was; latency is counted from then.
        """
        station.sequence += 1
        report_id = str(uuid4()).encode()
        chance = self._chance
        station.tell(chance, sightings=chance.random() < self._tells, uses=chance.random() < self._tells)
        digests = [f"sha256:{station.sets[kind].digest.hex()}" for kind in kinds] or None
        request = station.request(report_id, station.bodies(digests) if bodies else b"{}")
        began_s = time.perf_counter() if due_s is None else due_s
        try:
            answer = await self._deliver(station, report_id, request, began_s)
        except BaseException:
            # Whoever is interrupted with a report in flight never learns what became of it.
            station.hear(acknowledged=False)
            raise
        if answer is None or answer.status >= 500:
            station.hear(acknowledged=False)
        if answer is None:
            return False
        if answer.status != 200:
            self.tally.refused += 1
            return False
        station.hear(acknowledged=True)
        self.tally.acknowledged += 1
        self.tally.latencies_s.append(time.perf_counter() - began_s)
        return True

    async def _deliver(self, station: Station, report_id: bytes, request: bytes, began_s: float) -> Answer | None:
        """The answer that is final; None when it was given up."""
        while time.perf_counter() - began_s < GIVE_UP_S:
            try:
                answer = await self._ask(request)
            except OSError:
                self.tally.lost += 1
                await asyncio.sleep(random.uniform(*self._lost_wait_s))  # noqa: S311 - not a secret
                continue
            if answer.status == 409 and b'"missing"' in answer.body:
                self.tally.missing += 1
                request = station.request(report_id, station.bodies(json.loads(answer.body)["missing"]))
            elif answer.status == 409:
                # Another machine reported under this token, or this one was put back: begin anew, as agents do.
                self.tally.anew += 1
                station.epoch = max(time.time_ns() // 1_000_000, station.epoch + 1)
                station.sequence = 1
                request = station.request(report_id)
            elif answer.status in (503, 429):
                self.tally.turned_away += 1
                await asyncio.sleep(self._wait_s(station, answer))
            else:
                return answer
        return None

    def _wait_s(self, _station: Station, answer: Answer) -> float:
        """How long to wait when told to come back; less than agents do, as nobody has so long."""
        wait_s = min(max(answer.retry_after_s, 1), self._most_wait_s)
        return random.uniform(0.2, 1.0) * wait_s  # noqa: S311 - not a secret

    async def saturate(
        self,
        count: int,
        *,
        connections: int,
        change: Callable[[Station], bool] | None = None,
        kinds: tuple[str, ...] = (),
    ) -> None:
        """`count` reports as fast as `connections` connections take them; `change` may change a station's sets and
        says whether the bodies are to be sent with it."""
        numbers = iter(range(count))
        workers = [self.stations[at::connections] for at in range(connections)]

        async def work(own: list[Station]) -> None:
            for turn, _number in enumerate(numbers):
                station = own[turn % len(own)]
                await self.report(station, bodies=change(station) if change is not None else False, kinds=kinds)

        await asyncio.gather(*(work(own) for own in workers if own))

    async def pace(
        self,
        rate: float,
        duration_s: float,
        *,
        change: Callable[[Station], bool] | None = None,
        kinds: tuple[str, ...] = (),
    ) -> None:
        """Reports at a rate with jitter, whatever the answers take (an open loop)."""
        began_s = time.perf_counter()
        tasks: set[asyncio.Task[bool]] = set()
        due_s = 0.0
        turn = 0
        busy: set[int] = set()
        while due_s < duration_s:
            due_s += random.expovariate(rate)
            wait_s = began_s + due_s - time.perf_counter()
            if wait_s > 0.001:
                await asyncio.sleep(wait_s)
            station = self.stations[turn % len(self.stations)]
            turn += 1
            if station.number in busy:
                # An agent has one report in flight.
                continue
            busy.add(station.number)
            bodies = change(station) if change is not None else False
            task = asyncio.create_task(self.report(station, bodies=bodies, kinds=kinds, due_s=began_s + due_s))
            tasks.add(task)

            def done(finished: asyncio.Task[bool], number: int = station.number) -> None:
                tasks.discard(finished)
                busy.discard(number)

            task.add_done_callback(done)
        if tasks:
            await asyncio.gather(*tasks)

    def close(self) -> None:
        """Closes the idle connections."""
        for line in self._idle:
            line.close()
        self._idle.clear()

    async def _ask(self, request: bytes) -> Answer:
        line = None
        while self._idle and (line is None or not line.is_open):
            line = self._idle.pop()
        if line is None or not line.is_open:
            line, request = await self._connect(request)
        try:
            answer = await line.ask(request)
        except BaseException:
            line.close()
            # Perhaps the name leads elsewhere by now.
            self._address = None
            raise
        if self._new_connection or not line.is_open:
            line.close()
        else:
            self._idle.append(line)
        return answer

    async def _connect(self, request: bytes) -> tuple[Line, bytes]:
        """A new connection, and what of the request is still to be sent."""
        if self._address is not None:
            return await connect(self._make_line, self._address, request)
        transport, line = await asyncio.get_running_loop().create_connection(self._make_line, self._host, self._port)
        self._address = Address.of(transport)
        return line, request

    def _make_line(self) -> Line:
        return Line()

    def _head(self, path: str, token: str | None = None) -> bytes:
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        return (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{authorization}"
            f"Content-Type: application/json\r\nContent-Length: "
        ).encode()
