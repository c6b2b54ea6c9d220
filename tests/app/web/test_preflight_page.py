"""The upgrade check of a large fleet: the page is there at once, and what takes seconds follows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.fleet.make import make_fleet
from app.web.pages import preflight


def test_of_a_large_fleet_the_answer_follows_the_page(
    engine: Engine, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fleet(engine, 60, seed=2)
    viewer = signed_in("viewer")
    monkeypatch.setattr(preflight, "SOON", 0)
    page = viewer.get("/preflight").text
    assert "is being checked for the whole fleet" in page
    found = re.search(r'hx-get="([^"]+)" hx-trigger="load"', page)
    assert found is not None
    fragment = viewer.get(unescape(found[1]), headers={"HX-Request": "true"}).text
    assert fragment.lstrip().startswith('<div id="results">')
    assert "hx-trigger" not in fragment
    assert "What the release changes" in fragment
