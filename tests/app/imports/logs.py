"""Event logs for tests and measurements: half AppLocker's events, a tenth of these of uv's files, all mixed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.app.imports.evtx_files import Event, applocker_event, process_event

UVS = (
    r"C:\Users\{user}\AppData\Local\uv\cache\builds-v0\.tmp{lot}\Scripts\python.exe",
    r"C:\Users\{user}\AppData\Roaming\uv\tools\ruff\Scripts\ruff.exe",
    r"C:\Users\{user}\AppData\Roaming\uv\python\cpython-3.13.2-windows-x86_64-none\python.exe",
    r"C:\Users\{user}\.local\bin\uv.exe",
)
NOBODYS = (
    r"C:\Users\{user}\AppData\Local\Temp\7zS{lot}\setup.exe",
    r"C:\Program Files\Vendor {lot}\app.exe",
    r"C:\Windows\System32\{lot}.dll",
    r"C:\Users\{user}\AppData\Local\Microsoft\Teams\current\Teams.exe",
)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def mixed_events(count: int, *, seed: int = 7, until: datetime | None = None) -> Iterator[Event]:
    """So many events of the last day, of 5,000 computers and 3,000 users. All of AppLocker's are refusals."""
    chance = random.Random(seed)
    begun = (until or datetime.now(UTC)) - timedelta(days=1)
    for number in range(count):
        at = begun + timedelta(milliseconds=number * 37)
        lot = "".join(chance.choices(LETTERS, k=6))
        places = UVS if number % 20 == 1 else NOBODYS
        path = chance.choice(places).format(user=f"user{chance.randrange(3000):04}", lot=lot)
        if number % 2 == 0:
            yield process_event(path, at=at)
            continue
        yield applocker_event(
            path,
            at=at,
            event_id=chance.choice((8003, 8004)),
            computer=f"PC-{chance.randrange(5000):04}.example.com",
            user=f"S-1-5-21-1004336348-1177238915-682003330-{1000 + chance.randrange(3000)}",
            sha256=f"{chance.getrandbits(256):064x}",
        )
