"""The page of uv commands: the matrix over real reports, its links to hosts, what opening patterns changes; the API."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet
SPEC.loader.exec_module(small_fleet)


@pytest.fixture
def viewer(app: FastAPI, signed_in: Callable[[str], TestClient]) -> TestClient:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines())
    return signed_in("viewer")


def words(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page))).replace("\u00a0", " ")


def row_of(page: str, title: str) -> str:
    return next(row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f">{title}<" in row)


def test_each_cell_has_its_groups_share_and_leads_to_its_hosts(viewer: TestClient) -> None:
    page = viewer.get("/workflows").text
    row = row_of(page, "Run a tool that is not installed")
    assert re.findall(r"<span>(\d+).%</span>", row) == ["32", "25", "0", "100"]
    assert re.findall(r"wf-(open|partly|blocked)\"", row) == ["partly", "partly", "blocked", "open"]
    assert "AppLocker, 17 users" in words(row)
    for address, hosts in zip(re.findall(r'class="wf [^>]+><a href="(/hosts[^"]+)"', row), (17, 9, 8, 5), strict=True):
        listed = viewer.get(unescape(address)).text
        assert f"{hosts} hosts" in words(listed), address
    assert "with a source build (sdist, editable, git)" not in words(page)[:400]
    assert "uv cache prune" in page


def test_a_group_alone_and_what_rules_would_make_of_it(viewer: TestClient) -> None:
    groups = {one["name"]: one["id"] for one in viewer.get("/api/v1/workflows").json()["groups"]}
    page = viewer.get(f"/workflows?group={groups['Sales']}&pattern=venv-python&pattern=nothing").text
    assert "group Sales" in words(page)
    after = page[page.index('id="after"') :]
    # sync-wheels alone needs nothing else; `uv run TOOL` still lacks its entry point.
    assert re.findall(r'command-name">([^<]+)<', after) == ["uv sync", "uv run python"]
    assert "+8" in words(after)
    assert viewer.get("/workflows?group=999").status_code == 404
    assert viewer.get("/workflows?group=x").status_code == 422


def test_the_api_says_by_what(viewer: TestClient) -> None:
    told = viewer.get("/api/v1/workflows").json()
    assert told["counted"] == 25
    uvx = next(one for one in told["workflows"] if one["id"] == "uvx")
    assert uvx["total"]["blocked"] == 17
    assert {"pattern": "cache-archive-env-python", "engine": "applocker", "subjects": 17} in uvx["total"]["blocked_by"]
    assert [one["group"] for one in uvx["groups"]] == [one["id"] for one in told["groups"]]
    after = {one["id"]: one for one in viewer.get("/api/v1/workflows/after?pattern=cache-builds-venv-python").json()}
    assert (after["build"]["runs_before"], after["build"]["runs_after"]) == (8, 25)
    assert after["uvx"]["runs_after"] == 8
    refused = viewer.get("/api/v1/workflows/after?pattern=" + quote("<x>"))
    assert (refused.status_code, refused.json()["field"]) == (422, "pattern")


def test_one_host_tells_its_own_commands(viewer: TestClient) -> None:
    host = viewer.get("/api/v1/hosts?name=SALES-000").json()["hosts"][0]["id"]
    page = words(viewer.get(f"/hosts/{host}").text)
    assert "uvx TOOL Run a tool that is not installed blocked" in page
    assert "uv venv Create an environment in part Managed CPython interpreter AppLocker" in page


def test_who_may_look(app: FastAPI, anonymous: TestClient, viewer: TestClient, statements: list[str]) -> None:
    assert anonymous.get("/workflows").status_code == 303
    assert anonymous.get("/api/v1/workflows").status_code == 401
    statements.clear()
    assert viewer.get("/workflows").status_code == 200
    assert len(statements) <= 11


def test_an_empty_fleet_teaches(signed_in: Callable[[str], TestClient]) -> None:
    assert "Commands appear with reports" in signed_in("viewer").get("/workflows").text
