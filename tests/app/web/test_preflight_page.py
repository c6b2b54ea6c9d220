"""The upgrade check of a large fleet: the page is there at once, and what takes seconds follows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.web.pages import preflight
from app.work.rows import list_work


def test_of_a_large_fleet_the_answer_follows_the_page(
    app: FastAPI, engine: Engine, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fleet(engine, 60, seed=2)
    viewer = signed_in("viewer")
    monkeypatch.setattr(preflight, "SOON", 0)
    app.state.workers.patience_s = 30
    page = viewer.get("/preflight").text
    assert "is being checked for the whole fleet" in page
    assert "Look again" in page  # for those without scripts
    found = re.search(r'hx-get="([^"]+)" hx-trigger="load delay:600ms, every 2s"', page)
    assert found is not None
    with session_scope(engine, writes=False) as session:
        (work,) = list_work(session)
    assert app.state.workers.wait_for(work).state == "done"
    fragment = viewer.get(unescape(found[1]), headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="results">')
    assert "hx-trigger" not in fragment
    assert "What the release changes" in fragment
    assert "not verified on Windows" in fragment
    assert "Check again" in fragment
    # The answer is the one that a small fleet would get at once.
    monkeypatch.setattr(preflight, "SOON", 1000)
    at_once = viewer.get(unescape(found[1]), headers={"HX-Request": "true"}).text
    assert re.sub(r'<p class="quiet">Checked .*?</p>', "", fragment) == at_once


def test_a_version_that_is_none_is_told_at_once(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    answer = signed_in("viewer").get("/preflight?from=x&to=0.13.9")
    assert answer.status_code == 422
    with session_scope(engine, writes=False) as session:
        assert list_work(session) == ()
