"""A host's page says where folders really lie, and how AppLocker's service stands: what else explains a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import unescape

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.fleet.reported import USUAL_ROOTS
from tests.app.web import small_fleet


def page_of(
    app: FastAPI, signed_in: Callable[[str], TestClient], roots: Mapping[str, str], service: str = "", trust: str = ""
) -> str:
    machine = small_fleet.Machine(
        name="PC-1", group="Lab", roots=roots, appid_service=service, publisher="O=EXAMPLE", trust=trust or None
    )
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [machine])
    page = signed_in("viewer").get("/hosts/1")
    assert page.status_code == 200
    assert "<i>" not in page.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())


def test_a_profile_on_a_share_is_told(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    share = {name: place.replace(USUAL_ROOTS["home"], "\\\\*\\*\\*") for name, place in USUAL_ROOTS.items()}
    text = page_of(app, signed_in, share | {"temp": "D:\\<i>x"})
    assert "Really lies in" in text
    assert "profile: \\\\*\\*\\* a share" in text
    assert "cache:" not in text
    assert "temporary files: D:\\<i>x another drive" in text
    assert "Simulations judge this user’s files there" in text


def test_of_usual_places_nothing_is_said(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    assert "Really lies in" not in page_of(app, signed_in, USUAL_ROOTS)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("stopped-manual", "Application Identity service stopped, starts on demand"),
        ("running-automatic", "Application Identity service running, starts with Windows"),
        ("denied", "Application Identity service the agent may not ask"),
    ],
)
def test_how_the_service_stands_is_told(
    app: FastAPI, signed_in: Callable[[str], TestClient], word: str, said: str
) -> None:
    assert said in page_of(app, signed_in, {}, word)


@pytest.mark.parametrize("word", ["", "<i>stopped</i>", "stopped-manual "])
def test_a_word_that_nobody_knows_says_nothing(app: FastAPI, signed_in: Callable[[str], TestClient], word: str) -> None:
    assert "Application Identity service" not in page_of(app, signed_in, {}, word)


def test_a_signature_that_is_not_trusted_is_not_shown_as_one(
    app: FastAPI, signed_in: Callable[[str], TestClient]
) -> None:
    text = page_of(app, signed_in, {}, trust="0x800b0109")
    assert "unsigned to AppLocker : Windows does not trust the signature of O=EXAMPLE (0x800b0109)" in text
    assert "signed: O=EXAMPLE" not in text


def test_a_signature_that_is_trusted_is(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    assert "signed: O=EXAMPLE" in page_of(app, signed_in, {}, trust="trusted")
