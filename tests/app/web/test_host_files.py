"""The host list as a file: all that fit the filter, nothing a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

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
