"""What is kept how long: months dropped whole, old rows in batches, sets retired and then deleted; days for ever."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, delete, event, func, insert, select, text, update
from starlette.testclient import TestClient

from app.db import slices
from app.db.base import now, to_ms
from app.db.engine import WRITES
from app.db.partitions import make_month_partitions
from app.db.session import session_scope
from app.fleet import retention, rows_postgresql
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.make import make_fleet
from app.fleet.retention import DAY_MS, drop_old, retire_sets, write_daily
from app.fleet.sets import SetCache
from app.fleet.tables import Daily, FactSet, Pulse, Sighting, Subject, Tally, Transition
from app.jobs.run import make_rows, run_due
from app.jobs.tables import JobRow
from app.jobs.work import JOBS, Keeping
from app.main import create_app
from tests.app.ingest.workstation import Workstation, enrolled, probes

AT = datetime(2031, 9, 20, 12, tzinfo=UTC)


def history(engine: Engine, times: Sequence[datetime]) -> None:
    """A transition and a sighting at each of these times."""
    with engine.begin() as connection:
        connection.execute(
            insert(Transition),
            [{"subject_id": 1, "bucket": 1, "at": at, "kind": 1, "old_id": 1, "new_id": 2} for at in times],
        )
        connection.execute(
            insert(Sighting),
            [
                {
                    "host_id": 1,
                    "at": at,
                    "channel": "c",
                    "record": number,
                    "subject_id": 1,
                    "recorded_at": at,
                    "event_id": 8004,
                    "pattern": "venv-python",
                    "path": "x",
                }
                for number, at in enumerate(times)
            ],
        )


def kept(engine: Engine, table: type[Transition] | type[Sighting]) -> list[datetime]:
    with session_scope(engine, writes=False) as session:
        return list(session.scalars(select(table.at).order_by(table.at)))


def note_deletes(engine: Engine, counts: list[int]) -> None:
    """Notes of each DELETE how many rows it took."""

    def note(_connection: Any, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("DELETE"):
            counts.append(cursor.rowcount)

    event.listen(engine, "after_cursor_execute", note)


def partitions(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(text("SELECT relname FROM pg_class WHERE relname ~ '_y[0-9]+m[0-9]+$'")))


@pytest.mark.postgresql
def test_months_that_are_too_old_are_dropped_whole(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with database.begin() as connection:
        for month in range(1, 10):
            make_month_partitions(connection, datetime(2031, month, 15, tzinfo=UTC))
    times = [datetime(2031, month, day, tzinfo=UTC) for month in range(1, 10) for day in (2, 20)]
    unforeseen = datetime(2020, 5, 5, tzinfo=UTC)
    history(database, [*times, unforeseen])
    deleted: list[int] = []
    note_deletes(database, deleted)
    with database.connect() as connection:
        one_by_one = drop_old(connection, AT, days=180)  # before 2031-03-24
    assert one_by_one == 2 == sum(deleted), "rows of whole months are not deleted one by one"
    assert {name for name in partitions(database) if name.endswith(("y2031m01", "y2031m02", "y2030m12"))} == set()
    assert {"sighting_y2031m03", "transition_y2031m03"} <= partitions(database)
    for table in (Transition, Sighting):
        # A month goes when its last day is too old: the second of March is kept a while longer.
        assert kept(database, table) == [at for at in times if at.month >= 3]
    with database.connect() as connection:
        drop_old(connection, AT + timedelta(days=8), days=180)  # before 2031-04-01
    for table in (Transition, Sighting):
        assert kept(database, table) == [at for at in times if at.month >= 4]


def test_old_rows_go_in_bounded_batches(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    # On PostgreSQL these lie in the default partition, as no month was made for them.
    old = [AT - timedelta(days=500, minutes=minute) for minute in range(35)]
    young = [AT - timedelta(days=1, minutes=minute) for minute in range(5)]
    history(database, old + young)
    counts: list[int] = []
    commits: list[int] = []
    note_deletes(database, counts)
    event.listen(database, "commit", lambda _connection: commits.append(1))
    with database.connect() as connection:
        assert drop_old(connection, AT, days=180) == 70
    assert counts == [10, 10, 10, 5] * 2
    assert len(commits) >= 8, "others may write between two batches"
    for table in (Transition, Sighting):
        assert kept(database, table) == sorted(young)


def test_nobody_waits_while_old_rows_are_looked_for(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite has one writer: whoever goes over a large table as one keeps all reports waiting."""
    if database.name != "sqlite":
        return
    monkeypatch.setattr(retention, "ROWS", 10)
    old = [AT - timedelta(days=500, minutes=minute) for minute in range(25)]
    young = [AT - timedelta(days=1, minutes=minute) for minute in range(25)]
    mixed = [one for pair in zip(old, young, strict=True) for one in pair]
    history(database, mixed)
    looks: list[str] = []
    others = sqlite3.connect(str(database.url.database), timeout=0, isolation_level=None)

    def write_besides(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("SELECT rowid"):
            looks.append(statement)
            others.execute("BEGIN IMMEDIATE")  # raises when somebody else holds the lock
            others.execute("ROLLBACK")

    event.listen(database, "after_cursor_execute", write_besides)
    with database.connect() as connection:
        assert drop_old(connection, AT, days=180) == 50
        assert connection.get_execution_options()[WRITES], "whoever lent the connection may write with it"
    assert len(looks) >= 2 * 2 * 5, "ten rows at a time"
    others.close()
    for table in (Transition, Sighting):
        assert kept(database, table) == sorted(young)


@pytest.mark.postgresql
def test_who_reads_a_month_for_long_is_not_waited_for(database: Engine) -> None:
    """Waiting for the lock would queue every report behind it: the work fails, and is due again within minutes."""
    if database.name != "postgresql":
        return
    with database.begin() as connection:
        make_month_partitions(connection, now() - timedelta(days=700))
    before = partitions(database)
    job = next(one for one in JOBS if one.name == "drop-old")
    keeping = Keeping(silent_after_days=14, retention_days=180)
    with database.connect() as connection:
        make_rows(connection, now() - timedelta(days=1), [job])
    with database.connect() as reader, database.connect() as connection:
        reader.execute(text("SELECT count(*) FROM sighting"))
        assert run_due(connection, keeping, [job]) == 1
        with session_scope(database, writes=False) as session:
            row = session.get_one(JobRow, job.name)
            assert row.failed
            assert "lock timeout" in row.said
            assert row.next_at < now() + timedelta(minutes=11)
    assert partitions(database) == before
    with database.begin() as connection:
        connection.execute(update(JobRow).values(next_at=now()))
    with database.connect() as connection:
        run_due(connection, keeping, [job])
    assert len(partitions(database)) < len(before)


def test_days_are_kept_for_ever(database: Engine) -> None:
    make_fleet(database, 30)
    long_ago = AT - timedelta(days=4000)
    with database.connect() as connection:
        write_daily(connection, long_ago)
        write_daily(connection, AT)
    with session_scope(database, writes=False) as session:
        counted = select(func.count()).where(Daily.day == to_ms(long_ago) // DAY_MS)
        before = session.scalar(counted)
        everything = session.scalar(select(func.count()).select_from(Daily))
    assert before
    with database.connect() as connection:
        drop_old(connection, AT, days=7)
        retire_sets(connection, AT)
        retire_sets(connection, AT + timedelta(days=9))
    with session_scope(database, writes=False) as session:
        assert session.scalar(counted) == before
        assert session.scalar(select(func.count()).select_from(Daily)) == everything


def retired(engine: Engine) -> dict[bytes, bool]:
    """Of each probe set, whether it is retired."""
    with session_scope(engine, writes=False) as session:
        return {
            row.digest: row.retired_at is not None for row in session.scalars(select(FactSet).where(FactSet.kind == 1))
        }


def test_a_set_that_comes_back_is_taken_back(server: FastAPI) -> None:
    engine = server.state.engine
    old, new = probes("blocked"), probes("allowed")
    digest = bytes.fromhex(old.digest()[7:])
    at = now() + timedelta(days=3)
    with TestClient(server, base_url="http://wayleave.example") as client:
        station = enrolled(client, server)
        for one in (old, new):
            station.put(one)
            assert station.send().status_code == 200
        fold_all(engine)
        with engine.connect() as connection:
            assert retire_sets(connection, at) == (1, 0)
        assert retired(engine)[digest]
        # The writer knows its id by heart and points to it again; the next round sees that and keeps it.
        station.put(old)
        assert station.send(bodies=False).status_code == 200
        fold_all(engine)
        with engine.connect() as connection:
            assert retire_sets(connection, at + timedelta(days=2)) == (1, 0)
        assert not retired(engine)[digest]
    with engine.connect() as connection:
        assert retire_sets(connection, at + timedelta(days=4)) == (0, 1)
    assert_right(engine)
    second_life(server, station, new)


def second_life(server: FastAPI, station: Workstation, deleted: Any) -> None:
    """A set that was deleted is asked for again, by a process that never knew it."""
    again = create_app(server.state.settings)
    with TestClient(again, base_url="http://wayleave.example") as client:
        station.client = client
        station.put(deleted)
        report = station.report(bodies=False)
        assert station.send(report).json()["missing"] == [deleted.digest()]
        assert station.send({**report, "bodies": {deleted.digest(): deleted.body()}}).status_code == 200
    with session_scope(again.state.engine, writes=False) as session:
        pointers = select(Subject.probes_id)
        assert session.scalars(select(FactSet.digest).where(FactSet.id.in_(pointers))).all() == [
            bytes.fromhex(deleted.digest()[7:])
        ]
    assert_right(again.state.engine)
    again.state.engine.dispose()


def test_sets_of_who_left_the_counts_stay(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of kinds without an index by which a set's users are found, slice by slice."""
    for name in ("SETS_AT_ONCE", "LOOKED_UP", "BATCH"):
        monkeypatch.setattr(retention, name, 7)
    monkeypatch.setattr(slices, "ROWS", 50)
    make_fleet(database, 200, profile="diverse")
    fold_all(database)
    with database.begin() as connection:
        everybody = list(connection.scalars(select(Subject.id)))
        connection.execute(delete(Pulse).where(Pulse.subject_id.in_(everybody[:40])))
        connection.execute(delete(Subject).where(Subject.id.in_(everybody[:40])))
        connection.execute(delete(Tally).where(Tally.set_id != 0))  # as if all the others had fallen silent
        pointed_to = {
            one
            for row in connection.execute(
                select(Subject.probes_id, Subject.uv_id, Subject.environment_id, Subject.policy_id, Subject.token_id)
            )
            for one in row
            if one is not None
        }
        everything = set(connection.scalars(select(FactSet.id)))
    left = len(everything - pointed_to)
    assert left >= 40, "each had a token of its own"
    begins: list[int] = []
    event.listen(database, "begin", lambda _connection: begins.append(1))
    with database.connect() as connection:
        assert retire_sets(connection, now() + timedelta(days=3)) == (left, 0)
        assert len(begins) > 100, "in one slice after another"
        assert retire_sets(connection, now() + timedelta(days=5)) == (0, left)
    with session_scope(database, writes=False) as session:
        assert set(session.scalars(select(FactSet.id))) == pointed_to


@pytest.mark.postgresql
def test_a_set_deleted_while_it_is_looked_up_is_not_pointed_to(database: Engine) -> None:
    if database.name != "postgresql":
        return
    with session_scope(database) as session:
        session.add(FactSet(kind=1, digest=b"d" * 32, body="{}", flags=0, created_at=AT, retired_at=AT))

    def find_then_lose(cursor: Any, keys: Any) -> Any:
        found = rows_postgresql.find_sets(cursor, keys)
        with database.connect() as other:
            assert retire_sets(other, AT + timedelta(days=2)) == (0, 1)
        return found

    rows = SimpleNamespace(find_sets=find_then_lose, revive_sets=rows_postgresql.revive_sets)
    cache = SetCache()
    with database.connect() as connection, connection.begin():
        cursor = connection.connection.cursor()
        assert cache.find(rows, cursor, [(1, b"d" * 32)], 0) == {}
        assert cache.find(rows_postgresql, cursor, [(1, b"d" * 32)], 0) == {}


def fold_all(engine: Engine) -> None:
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass


def assert_right(engine: Engine) -> None:
    fold_all(engine)
    with engine.connect() as connection:
        assert check_tallies(connection) == []
