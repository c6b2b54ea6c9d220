"""Imports: a file is sent, read by a process of its own, shown with what became of it; who may; what is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.tables import Sighting
from app.imports.jobs import begin_import, get_import
from app.imports.model import Given
from app.imports.read import Format, Kind
from app.imports.tables import ImportJob
from app.imports.uploads import uploads_dir
from tests.app.imports.evtx_files import applocker_event, write_evtx

UV = r"C:\Users\Jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"


@pytest.fixture
def log(tmp_path: Path) -> bytes:
    file = tmp_path / "made.evtx"
    events = [applocker_event(UV, at=datetime.now(UTC)), applocker_event(r"C:\x\y.exe", at=datetime.now(UTC))]
    write_evtx(file, events)
    return file.read_bytes()


@pytest.fixture
def administrator(signed_in: Callable[[str], TestClient]) -> TestClient:
    return signed_in("administrator")


def send(client: TestClient, content: bytes, name: str = "a.evtx", **fields: str) -> object:
    return client.post("/imports", data=fields, files={"file": (name, content)})


def test_a_page_that_sends_by_itself_gets_what_is_in_its_frame(administrator: TestClient) -> None:
    headers = {"HX-Request": "true", "HX-Target": "main"}
    empty = administrator.post("/imports", data={"computer": "PC-1"}, files={"file": ("", b"")}, headers=headers)
    assert empty.status_code == 422
    assert "Choose a file first." in empty.text
    assert "<!doctype" not in empty.text
    assert 'value="PC-1"' in empty.text


def left_behind(app: FastAPI) -> list[str]:
    folder = uploads_dir(app.state.settings.data_dir)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_sent_file_is_read_and_its_events_are_told(
    app: FastAPI, engine: Engine, administrator: TestClient, log: bytes
) -> None:
    assert "Nothing was imported yet" in administrator.get("/imports").text
    with TestClient(app, base_url="http://wayleave.example"):  # the server at work, which reads uploads
        answer = send(administrator, log, name="C:\\logs\\<b>Exe&Dll</b>.evtx")
        assert answer.status_code == 303
        path = answer.headers["location"]
        first = administrator.get(path).text
        assert "/b>.evtx" not in first
        deadline = time.monotonic() + 30
        while "added <strong>1 sighting</strong>" not in (page := administrator.get(path).text):
            assert time.monotonic() < deadline, page
            time.sleep(0.1)
    assert "file is none of uv&#39;s" in page
    assert 'hx-trigger="every 2s"' not in page
    assert left_behind(app) == []
    assert "1 sighting" in administrator.get("/imports").text
    with session_scope(engine, writes=False) as session:
        [seen] = session.scalars(select(Sighting))
        assert seen.pattern == "cache-builds-venv-python"
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "import.started")).one()
    assert entry.actor == "administrator@example.com"


def test_progress_is_a_fragment_for_htmx(administrator: TestClient, log: bytes) -> None:
    path = send(administrator, log).headers["location"]
    page = administrator.get(path)
    assert 'hx-trigger="every 2s"' in page.text
    assert "<html" in page.text
    fragment = administrator.get(path, headers={"HX-Request": "true"})
    assert fragment.text.lstrip().startswith('<div id="progress"')
    assert "HX-Request" in fragment.headers["vary"]


def test_a_cancelled_import_leaves_no_file(app: FastAPI, engine: Engine, administrator: TestClient, log: bytes) -> None:
    path = send(administrator, log).headers["location"]
    assert left_behind(app) == ["1.upload"]
    assert administrator.post(f"{path}/cancel").status_code == 303
    assert "was cancelled" in administrator.get(path).text
    assert left_behind(app) == []
    assert administrator.post(f"{path}/cancel").status_code == 409
    with session_scope(engine, writes=False) as session:
        assert get_import(session, 1).state == "cancelled"
        assert "import.cancelled" in session.scalars(select(AuditEntry.action)).all()


@pytest.mark.parametrize(
    ("name", "content", "fields", "words"),
    [
        ("a.zip", b"PK\x03\x04xxxx", {}, "unpack it first"),
        ("a.bin", b"\x7fELF\x02\x01", {}, "neither an event log"),
        ("a.txt", b"Path : C:\\x.exe\nHash : \n", {}, "names neither its host"),
        ("a.evtx", b"ElfFile\0", {"variables": "UV_CACHE_DIR"}, "is not NAME=VALUE"),
        ("a.evtx", b"ElfFile\0", {"event_type": "other"}, "Choose one of these"),
        ("a.evtx", b"", {}, "the file is empty"),
    ],
)
def test_what_can_not_be_imported_is_said_on_the_form(
    app: FastAPI, administrator: TestClient, name: str, content: bytes, fields: dict[str, str], words: str
) -> None:
    answer = send(administrator, content, name=name, **fields)
    assert answer.status_code == 422
    assert words in answer.text
    assert left_behind(app) == []


def test_no_file_and_no_form_are_refused(app: FastAPI, administrator: TestClient) -> None:
    empty = administrator.post("/imports", files={"file": ("", b"")})
    assert empty.status_code == 422
    assert "Choose a file first" in empty.text
    assert administrator.post("/imports", data={"computer": "x"}).status_code == 400
    cut = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nElfFile"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert administrator.post("/imports", content=cut, headers=kind).status_code == 400
    assert left_behind(app) == []


def test_a_file_over_the_limit_is_refused_and_goes(app: FastAPI, administrator: TestClient) -> None:
    app.state.settings = app.state.settings.model_copy(update={"upload_bytes": 1_000_000})
    answer = send(administrator, b"ElfFile\0" + bytes(2_000_000))
    assert answer.status_code == 413
    assert left_behind(app) == []


def test_only_who_manages_agents_may(signed_in: Callable[[str], TestClient], anonymous: TestClient, log: bytes) -> None:
    approver = signed_in("approver")
    for answer in (
        approver.get("/imports"),
        approver.get("/imports/1"),
        send(approver, log),
        approver.post("/imports/1/cancel"),
    ):
        assert answer.status_code == 403
    assert anonymous.get("/imports").status_code == 303
    assert anonymous.post("/imports", files={"file": ("a", b"x")}).status_code in (303, 401)


def test_an_unknown_import_is_404(administrator: TestClient) -> None:
    assert administrator.get("/imports/99").status_code == 404
    assert administrator.post("/imports/99/cancel").status_code == 404


def test_a_page_takes_few_statements(administrator: TestClient, log: bytes, statements: list[str]) -> None:
    for _ in range(5):
        send(administrator, log)
    statements.clear()
    administrator.get("/imports")
    assert len(statements) <= 8, statements


def test_older_imports_are_reached_and_all_are_counted(administrator: TestClient, engine: Engine) -> None:
    with session_scope(engine) as session:
        for number in range(53):
            begin_import(
                session,
                name=f"file-{number:02}.csv",
                size_bytes=10,
                fingerprint=bytes([number]) * 32,
                kind=Kind(format=Format.CSV),
                given=Given(computer="", event_type="", at=0),
                is_upload=False,
                actor=COMMAND_LINE,
            )
        session.execute(update(ImportJob).values(added=2))
    page = administrator.get("/imports").text
    assert "<strong>106 sightings</strong> came from 53 files" in page
    assert "50 of 53 imports" in page
    assert "file-02.csv" not in page
    older = re.search(r'href="(/imports\?before=\d+)" rel="next"', page)
    assert older is not None
    rest = administrator.get(older[1]).text
    assert "file-02.csv" in rest
    assert "file-03.csv" not in rest
