"""Committing by bucket, as a cluster needs it: the same reports, each statement to the one node that has its rows."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, inspect, select, text
from starlette.testclient import TestClient

from app.audit.record import SYSTEM
from app.db.base import now
from app.db.session import session_scope
from app.fleet.buckets import bucket_of
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.hosts import revoke_host
from app.fleet.sweep import mark_silent
from app.fleet.tables import Host, Pulse, Subject
from app.main import create_app
from app.settings import Settings
from tests.app.ingest.workstation import Workstation, enrolled, probes

DISTRIBUTED = (
    "host",
    "subject",
    "pulse",
    "host_tag",
    "rule_use",
    "rule_use_delta",
    "transition",
    "sighting",
    "tally_delta",
)
ROUTED = re.compile(r"\b(?:FROM|JOIN|UPDATE)\s+(host|subject|pulse)\b(?:\s+(?:AS\s+)?(h|s|p)\b)?")


@pytest.mark.postgresql
def test_the_bucket_is_in_each_key_and_reference(database: Engine) -> None:
    if database.name != "postgresql":
        return
    looked_at = inspect(database)
    for table in DISTRIBUTED:
        keys = [looked_at.get_pk_constraint(table), *looked_at.get_unique_constraints(table)]
        columns = [key.get("constrained_columns") or key["column_names"] for key in keys]
        columns += [
            key["constrained_columns"]
            for key in looked_at.get_foreign_keys(table)
            if key["referred_table"] in DISTRIBUTED
        ]
        assert all("bucket" in some for some in columns), (table, columns)


def test_rows_are_in_the_bucket_of_their_host(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app, base_url="http://wayleave.example") as client:
        for number in range(3):
            station = enrolled(client, app, name=f"PC-{number}")
            assert station.send().status_code == 200
            station.put(probes("allowed"))
            assert station.send().status_code == 200
    with session_scope(app.state.engine, writes=False) as session:
        assert {one.id: one.bucket for one in session.scalars(select(Host))} == {1: 1, 2: 2, 3: 3}
        assert all(one.bucket == bucket_of(one.host_id) for one in session.scalars(select(Subject)))
        for table in ("pulse", "transition"):
            other = text(
                f"SELECT count(*) FROM {table} t JOIN subject s ON s.id = t.subject_id WHERE t.bucket <> s.bucket"
            )
            assert session.scalar(text(f"SELECT count(*) FROM {table}"))
            assert session.scalar(other) == 0
    app.state.engine.dispose()


@pytest.mark.postgresql
def test_each_statement_names_its_bucket(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if settings.is_sqlite:
        return
    seen: list[str] = []
    execute = psycopg.Cursor.execute

    def note(self: Any, query: Any, *more: Any, **named: Any) -> Any:
        if threading.current_thread().name == "report-writer":
            seen.append(str(query))
        return execute(self, query, *more, **named)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    app = create_app(settings.model_copy(update={"commit_by_bucket": True, "group_wait_ms": 200}))
    with TestClient(app, base_url="http://wayleave.example") as client, ThreadPoolExecutor(8) as pool:
        stations = [enrolled(client, app, name=f"PC-{number}") for number in range(6)]
        first = [pool.submit(station.send) for station in stations]
        assert {one.result().status_code for one in first} == {200}
        for station in stations:
            station.put(probes("allowed"))
        second = [pool.submit(Workstation.send, station, bodies=True) for station in stations]
        assert {one.result().status_code for one in second} == {200}
        routed = [query for query in seen if ROUTED.search(query)]
        assert len(routed) > 20
        for query in routed:
            named = {short or table for table, short in ROUTED.findall(query)}
            assert all(f"{one}.bucket = %b" in query for one in named), query
        with session_scope(app.state.engine) as session:
            assert set(session.scalars(select(Pulse.received))) == {2}
            revoke_host(session, session.scalars(select(Host.id).limit(1)).one(), actor=SYSTEM)
        with app.state.engine.connect() as connection:
            assert mark_silent(connection, now(), days=-1) == 5
            while fold(connection, ContributionCache()):
                pass
            assert check_tallies(connection) == []


def test_one_file_has_no_buckets_to_commit_by(tmp_path: Any) -> None:
    with pytest.raises(ValidationError, match="WAYLEAVE_COMMIT_BY_BUCKET needs PostgreSQL"):
        Settings(data_dir=tmp_path, database_url="", commit_by_bucket=True)
