"""The pages of relocation and of the upgrade check: form, preview, files, errors, who may look; the API."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from html import unescape
from urllib.parse import urlencode

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from agent.catalogue import load
from app.fleet.make import make_fleet


@pytest.fixture
def viewer(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    make_fleet(engine, 200, seed=2)
    return signed_in("viewer")


def words(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page))).replace("\u00a0", " ")


def test_a_plan_is_shown_and_its_files_taken_away(viewer: TestClient) -> None:
    page = viewer.get("/relocation").text
    assert "3 patterns need none" in words(page)
    assert "Would be moved" in page
    assert re.search(r"200 users , 1 different environment|\d+ users, 1 different environment", words(page))
    query = urlencode({"show": "1", "cache": r"D:\uv-cache\%USERNAME%", "project_roots": "D:\\src\r\nD:\\work"})
    page = viewer.get(f"/relocation?{query}").text
    assert r"D:\uv-cache\%USERNAME%" in unescape(page)
    links = [unescape(link) for link in re.findall(r'href="(/relocation/files/[^"]+)"', page)]
    assert len(links) == 10
    for link in links:
        answer = viewer.get(link)
        assert answer.status_code == 200, link
        assert "attachment" in answer.headers["content-disposition"]
    package = next(link for link in links if ".zip" in link)
    content = viewer.get(package).content
    assert content == viewer.get(package).content
    assert b"uv-cache" in zipfile.ZipFile(io.BytesIO(content)).read("user-environment.xml")
    assert viewer.get("/relocation/files/nothing.txt").status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"python": "x"}, "does not begin with a drive"),
        ({"cache": r"C:\Program Files\cache"}, "cannot write there"),
        ({"sid": "Developers"}, "is not a SID"),
        ({"collection": "Everything"}, "There is no collection"),
        ({"project_roots": "<script>"}, "no folder"),
    ],
)
def test_what_cannot_be_planned_is_said_on_the_filled_form(
    viewer: TestClient, fields: dict[str, str], said: str
) -> None:
    answer = viewer.get(f"/relocation?{urlencode({'show': '1', **fields})}")
    assert answer.status_code == 422
    assert said in words(answer.text)
    assert "<script>alert" not in answer.text
    refused = viewer.get(f"/api/v1/relocation?{urlencode(fields)}")
    assert (refused.status_code, refused.json()["field"] is not None) == (422, True)


def test_the_relocation_api(viewer: TestClient, statements: list[str]) -> None:
    statements.clear()
    told = viewer.get("/api/v1/relocation?cache=D:%5Cuv").json()
    assert len(statements) <= 8
    assert told["need_no_rule"] == ["managed-python-exe", "tool-env-python", "tool-bin-exe"]
    roots = {one["root"]: one for one in told["what_if"]["roots"]}
    assert roots["python"]["moved"] == told["what_if"]["users"] > 0
    assert told["settings"][0]["honoured_since_uv"] == "0.5.0"


def test_an_upgrade_is_checked(viewer: TestClient, statements: list[str]) -> None:
    statements.clear()
    page = words(viewer.get("/preflight").text)
    assert len(statements) <= 20
    assert f"to {load().newest_uv}" in page
    assert "What the release changes" in page
    page = words(viewer.get("/preflight?from=0.12.4&to=0.13.8").text)
    assert "sdists-v10" in page
    assert "Engineering" in page
    refused = viewer.get("/preflight?from=<b>&to=1")
    assert refused.status_code == 422
    assert "is not a uv version" in words(refused.text)
    assert "<b>" not in refused.text
    told = viewer.get("/api/v1/preflight?from=0.12.4&to=0.13.8").json()
    assert told["users"] == sum(one["users"] for one in told["groups"]) > 0
    assert viewer.get("/api/v1/preflight?from=x&to=0.13.8").json()["field"] == "from"
    assert "not in this answer" in words(viewer.get("/preflight?from=0.12.4&to=99.0.0").text)


def test_empty_fleets_and_strangers(anonymous: TestClient, signed_in: Callable[[str], TestClient]) -> None:
    for path in ("/relocation", "/relocation/files/uv.toml", "/preflight"):
        assert anonymous.get(path).status_code == 303
    for path in ("/api/v1/relocation", "/api/v1/preflight?from=0.1.0&to=0.2.0"):
        assert anonymous.get(path).status_code == 401
    client = signed_in("viewer")
    assert "Nobody has reported where uv keeps things yet" in client.get("/relocation").text
    assert "Nobody runs a uv older than" in client.get("/preflight").text
