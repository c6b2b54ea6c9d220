"""Sightings are counted by the day on which files were tried, each once, late ones too."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, insert, select

from app.db.base import now
from app.db.session import session_scope
from app.fleet.retention import DAY_MS
from app.fleet.sighting_days import count_sightings, drop_old_days
from app.fleet.tables import Sighting, SightingDay

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
DAY = NOON.timestamp() * 1000 // DAY_MS


def add(engine: Engine, *, at: datetime, recorded_at: datetime, record: int, pattern: str = "venv-python") -> None:
    with engine.begin() as connection:
        connection.execute(
            insert(Sighting).values(
                host_id=1,
                at=at,
                channel="Microsoft-Windows-AppLocker/EXE and DLL",
                record=record,
                subject_id=1,
                recorded_at=recorded_at,
                event_id=8004,
                pattern=pattern,
                path="%OSDRIVE%\\x.exe",
            )
        )


def counts(engine: Engine) -> dict[tuple[int, str], int]:
    with session_scope(engine, writes=False) as session:
        rows = session.execute(select(SightingDay.day, SightingDay.pattern, SightingDay.sightings))
        return {(day, pattern): sightings for day, pattern, sightings in rows}


def test_each_is_counted_once_on_its_day(database: Engine) -> None:
    add(database, at=NOON, recorded_at=NOON, record=1)
    add(database, at=NOON - timedelta(days=3), recorded_at=NOON, record=2)
    add(database, at=NOON, recorded_at=NOON, record=3, pattern="tool-bin-exe")
    with database.connect() as connection:
        assert count_sightings(connection, NOON + timedelta(minutes=2)) == 3
        assert count_sightings(connection, NOON + timedelta(minutes=2)) == 0
        assert count_sightings(connection, NOON + timedelta(minutes=3)) == 0
    add(database, at=NOON, recorded_at=NOON + timedelta(minutes=5), record=4)
    # A log of three days ago that comes late still counts on its day.
    add(database, at=NOON - timedelta(days=3), recorded_at=NOON + timedelta(minutes=5), record=5)
    with database.connect() as connection:
        assert count_sightings(connection, NOON + timedelta(minutes=5, seconds=30)) == 0, "younger than it settles"
        assert count_sightings(connection, NOON + timedelta(minutes=7)) == 2
    assert counts(database) == {(DAY, "venv-python"): 2, (DAY - 3, "venv-python"): 2, (DAY, "tool-bin-exe"): 1}


def test_a_clock_that_went_back_counts_nothing_twice(database: Engine) -> None:
    add(database, at=NOON, recorded_at=NOON, record=1)
    with database.connect() as connection:
        assert count_sightings(connection, NOON + timedelta(hours=1)) == 1
        assert count_sightings(connection, NOON - timedelta(hours=1)) == 0
        assert count_sightings(connection, NOON + timedelta(hours=2)) == 0


def test_days_go_with_their_sightings(database: Engine) -> None:
    add(database, at=NOON, recorded_at=NOON, record=1)
    add(database, at=NOON - timedelta(days=200), recorded_at=NOON, record=2)
    with database.connect() as connection:
        count_sightings(connection, NOON + timedelta(hours=1))
        assert drop_old_days(connection, NOON, days=180) == 1
    assert counts(database) == {(DAY, "venv-python"): 1}


def test_what_is_committed_late_is_not_skipped(database: Engine) -> None:
    """A transaction that stays open for longer than sightings settle."""
    if database.dialect.name != "postgresql":
        return
    settles = timedelta(milliseconds=100)
    with database.connect() as late, late.begin() as transaction:
        recorded_at = now()
        late.execute(
            insert(Sighting).values(
                host_id=1,
                at=recorded_at,
                channel="Microsoft-Windows-AppLocker/EXE and DLL",
                record=1,
                subject_id=1,
                recorded_at=recorded_at,
                event_id=8004,
                pattern="venv-python",
                path="%OSDRIVE%\\x.exe",
            )
        )
        time.sleep(0.6)
        with database.connect() as connection:
            assert count_sightings(connection, now(), settles=settles) == 0
        transaction.commit()
    time.sleep(0.2)
    with database.connect() as connection:
        assert count_sightings(connection, now(), settles=settles) == 1
