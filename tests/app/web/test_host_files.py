"""The host list as a file: all that fit the filter, nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event, select
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.hosts import find_named_hosts
from app.fleet.tags import tag_hosts
from app.web.pages import host_files

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)


@pytest.fixture
def viewer(app: FastAPI, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(host_files, "ROWS_AT_ONCE", 10)
    hostile = small_fleet.Machine(name='=HYPERLINK("http://evil.example")', group="Sales", version="@1")
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [*small_fleet.machines(), hostile])
    return signed_in("viewer")


def test_csv_has_every_host_that_fits(viewer: TestClient) -> None:
    answer = viewer.get("/hosts.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="wayleave-hosts.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 28
    assert {row["group"] for row in rows} == {"Sales", "Engineering", "Finance and Controlling"}
    filtered = list(csv.DictReader(io.StringIO(viewer.get("/hosts.csv?pattern=venv-python&q=SALES-00").text)))
    assert [row["name"] for row in filtered] == [f"SALES-{number:03}" for number in range(8)]
    assert {row["blocked_patterns"] for row in filtered} == {"8"}


def test_no_cell_is_a_formula(viewer: TestClient) -> None:
    cells = [cell for row in csv.reader(io.StringIO(viewer.get("/hosts.csv").text)) for cell in row]
    assert '\'=HYPERLINK("http://evil.example")' in cells
    assert "'@1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_json_is_one_array(viewer: TestClient) -> None:
    hosts = viewer.get("/hosts.json?q=ENG").json()
    assert len(hosts) == 12
    assert hosts[0]["uv"] == "0.13.8"
    assert viewer.get("/hosts.json?q=nothing-like-it").json() == []


def test_the_page_offers_the_file_of_its_own_filter(viewer: TestClient) -> None:
    assert 'href="/hosts.csv?q=ENG"' in viewer.get("/hosts?q=ENG").text


def test_a_file_tells_enrolment_attestation_and_tags(viewer: TestClient, engine: Engine) -> None:
    with session_scope(engine) as session:
        names = ["SALES-001", "SALES-002"]
        tag_hosts(session, "pilot", find_named_hosts(session, names), actor=COMMAND_LINE)
        tag_hosts(session, "ring 2", find_named_hosts(session, names[:1]), actor=COMMAND_LINE)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(viewer.get("/hosts.csv?q=SALES-00").text))}
    assert [rows[name]["tags"] for name in (*names, "SALES-003")] == ["pilot, ring 2", "pilot", ""]
    assert {row["attested"] for row in rows.values()} <= {"yes", "no"}
    assert datetime.fromisoformat(rows["SALES-001"]["enrolled"]).tzinfo is not None


def test_a_file_has_the_columns_that_the_page_shows(viewer: TestClient) -> None:
    page = viewer.get("/hosts?q=SALES&columns=uv.tags").text
    assert 'href="/hosts.csv?q=SALES&amp;columns=uv.tags"' in page
    assert 'data-label="Tags"' in page
    lines = viewer.get("/hosts.csv?q=SALES&columns=uv.tags").text.splitlines()
    assert lines[0] == "id,name,uv,tags"
    assert set(viewer.get("/hosts.json?q=SALES&columns=uv.tags").json()[0]) == {"id", "name", "uv", "tags"}
    refused = viewer.get("/hosts.csv?columns=uv.shoes")
    assert refused.status_code == 422
    assert "There is no column &#39;shoes&#39;" in refused.text


def test_that_a_list_left_is_audited(viewer: TestClient, engine: Engine) -> None:
    viewer.get("/hosts.csv?q=SALES&columns=uv")
    viewer.get("/hosts.json?engine=magic")
    with session_scope(engine, writes=False) as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "hosts.exported")).all()
        assert [(one.target, one.detail["filter"], one.detail["columns"]) for one in entries] == [
            ("csv", "q=SALES", "id.name.uv")
        ]


def test_pages_of_a_file_read_each_set_once(viewer: TestClient, engine: Engine) -> None:
    read: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: read.append(args[2]))
    viewer.get("/hosts.csv")
    pages = [one for one in read if "FROM host " in one and "ORDER BY host.name" in one]
    sets = [one for one in read if "fact_set.body" in one]
    assert len(pages) >= 3
    assert 1 <= len(sets) < len(pages), "what the first page read of sets was not read again"
