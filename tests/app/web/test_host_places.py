"""A host's page says where folders really lie: where rules for profiles reach nothing, somebody has to know it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import unescape

from fastapi import FastAPI
from starlette.testclient import TestClient

from app.fleet.reported import USUAL_ROOTS
from tests.app.web import small_fleet


def page_of(app: FastAPI, signed_in: Callable[[str], TestClient], roots: Mapping[str, str]) -> str:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [small_fleet.Machine(name="PC-1", group="Lab", roots=roots)])
    page = signed_in("viewer").get("/hosts/1")
    assert page.status_code == 200
    assert "<i>" not in page.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def test_a_profile_on_a_share_is_told(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    share = {name: place.replace(USUAL_ROOTS["home"], "\\\\*\\*\\*") for name, place in USUAL_ROOTS.items()}
    text = page_of(app, signed_in, share | {"temp": "D:\\<i>x"})
    assert "Really lies elsewhere" in text
    assert "cache: \\\\*\\*\\*\\AppData\\Local\\uv\\cache a share" in text
    assert "temporary files: D:\\<i>x another drive" in text
    assert "Simulations judge this user’s files there" in text


def test_of_usual_places_nothing_is_said(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    assert "Really lies elsewhere" not in page_of(app, signed_in, USUAL_ROOTS)
