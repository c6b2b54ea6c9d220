"""Files become sightings on both databases: once each, whoever named them, wherever the reading was cut off."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.check import check_tallies
from app.fleet.imported import merge_imported_hosts, store_imported
from app.fleet.standing import HostState, Standing
from app.fleet.sweep import mark_silent
from app.fleet.tables import Absence, Host, Sighting, Subject
from app.imports.jobs import Import, begin_import, cancel_import, fingerprint, get_import
from app.imports.model import Given
from app.imports.read import read_beginning, recognise
from app.imports.run import run_import
from app.ingest.enrolment import create_enrolment_secret
from app.ingest.keys import load_keys
from app.settings import Settings
from tests.app.imports.evtx_files import (
    CHUNK_BYTES,
    FILE_HEADER_BYTES,
    Event,
    applocker_event,
    make_chunks,
    process_event,
    write_evtx,
    write_large,
)
from tests.app.imports.logs import mixed_events

NOW = datetime.now(UTC).replace(microsecond=123_000)
SID = "S-1-5-21-1004336348-1177238915-682003330-1001"
UV = r"C:\Users\Jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
TEMPLATE = r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe"


def read(engine: Engine, settings: Settings, file: Path, *, given: Given | None = None, processes: int = 1) -> Import:
    """Imports a file as the command does."""
    kind = recognise(read_beginning(file))
    with session_scope(engine) as session:
        job_id = begin_import(
            session,
            name=file.name,
            size_bytes=file.stat().st_size,
            fingerprint=fingerprint(file),
            kind=kind,
            given=given or Given(at=round(NOW.timestamp() * 1000)),
            is_upload=False,
            actor=COMMAND_LINE,
        )
    return go_on(engine, settings, job_id, file, processes=processes)


def go_on(engine: Engine, settings: Settings, job_id: int, file: Path, *, processes: int = 1) -> Import:
    return run_import(
        engine,
        job_id,
        file,
        keys=load_keys(settings),
        retention_days=settings.retention_days,
        actor=COMMAND_LINE,
        processes=processes,
    )


def sightings(engine: Engine) -> list[Sighting]:
    with session_scope(engine, writes=False) as session:
        return list(session.scalars(select(Sighting).order_by(Sighting.at, Sighting.record)))


def uv_event(seconds: int = 0, **values: object) -> Event:
    return applocker_event(UV, at=NOW - timedelta(hours=1, seconds=-seconds), sha256="ab" * 32, **values)


def test_an_event_log_becomes_the_sightings_that_an_agent_would_tell(
    database: Engine, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "a.evtx"
    write_evtx(
        file,
        [
            uv_event(rule_id="a61c8b2c-a319-4cd0-9690-d2177cad7b51", fqbn=r"O=X\Y\PYTHON.EXE\3.13.0.0"),
            applocker_event(r"C:\Program Files\x\y.exe", at=NOW),
            applocker_event(UV, at=NOW, event_id=8002),
            applocker_event(UV.replace("Ab12Cd", "WLVx1y"), at=NOW),
            process_event(UV, at=NOW),
        ],
    )
    done = read(database, settings, file)
    assert (done.state, done.events, done.added, done.known, done.hosts_made) == ("done", 5, 1, 0, 1)
    assert done.left_out == {
        "another event": 1,
        "file is none of uv's": 1,
        "allowed: neither blocked nor audited": 1,
        "a probe of Wayleave's agent": 1,
    }
    [seen] = sightings(database)
    assert seen.at == NOW - timedelta(hours=1)
    assert (seen.channel, seen.record, seen.event_id) == ("Microsoft-Windows-AppLocker/EXE and DLL", 1, 8004)
    assert (seen.pattern, seen.path, seen.collection) == ("cache-builds-venv-python", TEMPLATE, "Exe")
    assert (seen.rule_id, seen.sha256) == ("a61c8b2c-a319-4cd0-9690-d2177cad7b51", "ab" * 32)
    assert seen.fqbn == r"O=X\Y\PYTHON.EXE\3.13.0.0"
    with session_scope(database, writes=False) as session:
        subject = session.get_one(Subject, seen.subject_id)
        assert bytes(subject.sid_hmac) == load_keys(settings).hash_sid(SID)
        assert session.get_one(Host, seen.host_id).name == "PC-1.example.com"
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions[-2:] == ["import.started", "import.finished"]


def test_the_same_events_add_nothing_whatever_file_they_are_in(
    database: Engine, settings: Settings, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.evtx", tmp_path / "b.evtx"
    events = [uv_event(n) for n in range(30)]
    write_evtx(first, events[:20])
    write_evtx(second, events[10:], first=11)
    assert read(database, settings, first).added == 20
    assert read(database, settings, first).added == 0
    overlapping = read(database, settings, second)
    assert (overlapping.added, overlapping.known) == (10, 10)
    assert len(sightings(database)) == 30


def test_forwarded_events_keep_their_own_number_and_computer(
    database: Engine, settings: Settings, tmp_path: Path
) -> None:
    forwarded, local = tmp_path / "ForwardedEvents.evtx", tmp_path / "local.evtx"
    write_evtx(forwarded, [uv_event(computer="PC-7.example.com", record=900 + n) for n in range(3)])
    write_evtx(local, [uv_event(computer="PC-7.example.com") for n in range(3)], first=900)
    assert read(database, settings, forwarded).added == 3
    assert read(database, settings, local).known == 3


def test_a_reading_that_was_cut_off_goes_on_and_counts_everything_once(
    database: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.evtx"
    write_large(file, make_chunks(mixed_events(2000)), 12_000_000)
    whole = read(database, settings, file)
    with session_scope(database) as session:
        for row in session.scalars(select(Sighting)):
            session.delete(row)
    steps = 0

    def store_and_die(*arguments: object) -> object:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise MemoryError
        return store_imported(*arguments)

    monkeypatch.setattr("app.imports.run.STORE_ROWS", 100)
    monkeypatch.setattr("app.imports.run.store_imported", store_and_die)
    kind = recognise(read_beginning(file))
    with session_scope(database) as session:
        job_id = begin_import(
            session,
            name="a",
            size_bytes=file.stat().st_size,
            fingerprint=b"x",
            kind=kind,
            given=Given(),
            is_upload=False,
            actor=COMMAND_LINE,
        )
    with pytest.raises(MemoryError):
        go_on(database, settings, job_id, file)
    with session_scope(database, writes=False) as session:
        half = get_import(session, job_id)
    assert 0 < half.events < whole.events
    assert half.state == "waiting"
    monkeypatch.setattr("app.imports.run.store_imported", store_imported)
    done = go_on(database, settings, job_id, file)
    assert (done.events, done.left_out) == (whole.events, whole.left_out)
    assert done.added + done.known == whole.added + whole.known
    assert len(sightings(database)) == whole.added


def test_a_cancelled_import_stops_and_keeps_what_it_stored(
    database: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.imports.run.STORE_ROWS", 50)
    file = tmp_path / "a.evtx"
    write_large(file, make_chunks(mixed_events(2000)), 12_000_000)
    kind = recognise(read_beginning(file))
    with session_scope(database) as session:
        job_id = begin_import(
            session,
            name="a",
            size_bytes=file.stat().st_size,
            fingerprint=b"x",
            kind=kind,
            given=Given(),
            is_upload=False,
            actor=COMMAND_LINE,
        )

    def cancel(found: Import) -> None:
        with session_scope(database) as session:
            cancel_import(session, found.id, actor=COMMAND_LINE)

    done = run_import(
        database,
        job_id,
        file,
        keys=load_keys(settings),
        retention_days=180,
        actor=COMMAND_LINE,
        processes=1,
        tell=cancel,
    )
    assert done.state == "cancelled"
    assert 0 < done.added == len(sightings(database))
    assert done.read_bytes < done.size_bytes


def test_corrupt_chunks_are_skipped_and_counted(database: Engine, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "a.evtx"
    chunks = write_evtx(file, [uv_event(n) for n in range(200)])
    content = bytearray(file.read_bytes())
    second = FILE_HEADER_BYTES + CHUNK_BYTES
    (first, last) = struct.unpack_from("<QQ", content, second + 8)
    content[second + 700] ^= 1
    file.write_bytes(content + bytes(CHUNK_BYTES) + content[FILE_HEADER_BYTES:][:1000])
    done = read(database, settings, file)
    assert chunks >= 3
    assert done.added == 200 - (last - first + 1)
    # The second chunk's records, and those that the first's beginning, which stands at the end again, says it has.
    assert done.left_out["in a corrupt chunk"] == (last - first + 1) + (first - 1)
    assert [place for place, _ in done.problems] == ["chunk 2", f"chunk {chunks + 2}"]
    assert "checksum" in done.problems[0][1]


def test_events_too_old_or_from_the_future_are_left_out(database: Engine, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "a.evtx"
    write_evtx(
        file, [applocker_event(UV, at=NOW - timedelta(days=181)), applocker_event(UV, at=NOW + timedelta(days=2))]
    )
    done = read(database, settings, file)
    assert done.left_out == {"older than sightings are kept": 1, "lies in the future": 1}
    assert sightings(database) == []


@pytest.fixture
def running(server: FastAPI) -> Iterator[TestClient]:
    with TestClient(server, base_url="http://wayleave.example") as client:
        yield client


def test_known_hosts_get_their_events_and_others_are_merged_when_they_enrol(
    running: TestClient, server: FastAPI, settings: Settings, tmp_path: Path
) -> None:
    engine: Engine = server.state.engine

    def enrol(name: str) -> int:
        with session_scope(engine) as session:
            secret = create_enrolment_secret(session)
        answer = running.post(
            "/api/v1/enrol", json={"contract": 1, "secret": secret, "host": {"name": name, "os": "Windows 11"}}
        )
        assert answer.status_code == 201
        return int(answer.json()["host_id"])

    known = enrol("pc-1")
    file = tmp_path / "a.evtx"
    write_evtx(file, [uv_event(0), uv_event(1, computer="PC-2.example.com"), uv_event(2, computer="PC-2.example.com")])
    done = read(engine, settings, file)
    assert (done.added, done.hosts_made) == (3, 1)
    with session_scope(engine, writes=False) as session:
        made = session.scalars(select(Host).where(Host.state == HostState.IMPORTED.value)).one()
    assert [one.host_id for one in sightings(engine)] == [known, made.id, made.id]
    later = enrol("PC-2")
    with session_scope(engine) as session:
        assert merge_imported_hosts(session) == 1
        assert merge_imported_hosts(session) == 0
    assert [one.host_id for one in sightings(engine)] == [known, later, later]
    with session_scope(engine, writes=False) as session:
        assert session.get(Host, made.id) is None
        subject = session.get_one(Subject, sightings(engine)[2].subject_id)
        assert subject.host_id == later
    assert read(engine, settings, file).known == 3
    with engine.connect() as connection:
        assert mark_silent(connection, NOW, days=1) == 0
        count_absent(connection, NOW)
        assert check_tallies(connection) == []
    with session_scope(engine, writes=False) as session:
        assert session.scalars(select(Absence)).all() == []
        assert set(session.scalars(select(Subject.standing))) == {Standing.IMPORTED.value}


def test_an_export_without_record_numbers_does_not_double_the_log(
    database: Engine, settings: Settings, tmp_path: Path
) -> None:
    log, export = tmp_path / "a.evtx", tmp_path / "sentinel.csv"
    write_evtx(log, [uv_event()])
    at = (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    export.write_text(
        "TimeGenerated [UTC],Computer,EventID,FullFilePath,TargetUser\n"
        f"{at},PC-1.example.com,8004,{UV},{SID}\n{at},PC-2.example.com,8004,{UV},{SID}\n"
    )
    assert read(database, settings, log).added == 1
    done = read(database, settings, export)
    assert (done.added, done.known) == (1, 1)
    assert read(database, settings, export).added == 0


def test_a_list_of_files_needs_its_host_and_adds_each_file_once(
    database: Engine, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "files.txt"
    file.write_text(
        "\r\n\r\nPath      : %OSDRIVE%\\USERS\\JANE\\APPDATA\\LOCAL\\UV\\CACHE\\BUILDS-V0\\.TMPAB12CD\\SCRIPTS\\"
        "PYTHO\r\n"
        "            N.EXE\r\nPublisher : O=X, L=Y\\Z\\PYTHON.EXE,3.13.0.0\r\n"
        f"Hash      : SHA256 0x{'AB' * 32}\r\nAppX      : False\r\n\r\nPath      : %WINDIR%\\x.exe\r\nHash      : \r\n",
        encoding="utf-16",
    )
    refused = read(database, settings, file)
    assert refused.state == "failed"
    assert "name the host" in refused.fault
    given = Given(computer="PC-9", event_type="denied", at=round(NOW.timestamp() * 1000))
    done = read(database, settings, file, given=given)
    assert (done.events, done.added, done.left_out) == (2, 1, {"file is none of uv's": 1})
    [seen] = sightings(database)
    assert (seen.event_id, seen.sha256, seen.fqbn) == (8004, "ab" * 32, r"O=X, L=Y\Z\PYTHON.EXE\3.13.0.0")
    again = Given(computer="PC-9", event_type="denied", at=round(NOW.timestamp() * 1000) + 5_000)
    assert read(database, settings, file, given=again).known == 1


@pytest.mark.slow
def test_kill_9_in_the_middle_and_the_same_command_again(settings: Settings, database: Engine, tmp_path: Path) -> None:
    file = tmp_path / "large.evtx"
    written = write_large(file, make_chunks(mixed_events(6000)), 150_000_000)
    environment = {
        **os.environ,
        "WAYLEAVE_DATA_DIR": str(settings.data_dir),
        "WAYLEAVE_DATABASE_URL": settings.database_url,
        "WAYLEAVE_SERVER_KEY": "ab" * 32,
    }
    command = [sys.executable, "-m", "app.cli.main", "import", "--json", str(file)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    try:
        while not sightings(database):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = len(sightings(database))
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert "goes on after" in finished.stderr
    [report] = json.loads(finished.stdout)
    assert report["events"] == written
    assert report["known"] == 0
    assert before < report["added"] == len(sightings(database))
