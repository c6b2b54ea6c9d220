"""What every answer carries, and what other sites can't make a browser do here."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.accounts.tables import WebSession
from app.db.session import session_scope

PAGES = ["/login", "/account", "/audit", "/static/css/wayleave.css", "/nothing-here", "/api/nothing-here"]


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_forbids_what_is_foreign_or_inline(signed_in: Callable[[str], TestClient], path: str) -> None:
    headers = signed_in("administrator").get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_pages_are_not_kept_by_browsers_and_tell_caches_about_fragments(
    signed_in: Callable[[str], TestClient],
) -> None:
    headers = signed_in("administrator").get("/audit").headers
    assert headers["cache-control"] == "no-store"
    assert "HX-Request" in headers["vary"]


def test_static_files_are_kept_for_a_year_under_their_hash(anonymous: TestClient) -> None:
    page = anonymous.get("/login").text
    address = re.search(r'href="(/static/css/wayleave\.css\?v=[0-9a-f]{12})"', page)
    assert address is not None
    kept = anonymous.get(address[1])
    assert kept.status_code == 200
    assert "immutable" in kept.headers["cache-control"]
    assert anonymous.get("/static/css/wayleave.css").headers["cache-control"] == "public, no-cache"
    assert anonymous.get("/static/../pyproject.toml").status_code == 404
    assert anonymous.get("/static/%2e%2e/pyproject.toml").status_code == 404


def test_pages_are_compressed(signed_in: Callable[[str], TestClient]) -> None:
    answer = signed_in("administrator").get("/account", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"


def test_pages_have_nothing_inline(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("administrator")
    for path in ("/", "/account", "/audit", "/nothing-here"):
        page = client.get(path).text
        assert not re.search(r"<script(?![^>]*(\ssrc=|application/json))", page), path
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", page), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", page), path


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://wayleave.example"},
    ],
)
def test_another_site_can_not_act_for_somebody(
    signed_in: Callable[[str], TestClient], engine: Engine, headers: dict[str, str]
) -> None:
    client = signed_in("viewer")
    answer = client.post("/logout", headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    with session_scope(engine, writes=False) as session:
        assert len(session.scalars(select(WebSession.id)).all()) == 1


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://wayleave.example"}, {}],
)
def test_the_site_itself_and_programs_may(signed_in: Callable[[str], TestClient], headers: dict[str, str]) -> None:
    assert signed_in("viewer").post("/logout", headers=headers).status_code == 303
