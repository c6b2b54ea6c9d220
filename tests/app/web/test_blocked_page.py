"""The page "Blocked?": what it answers, what it refuses, and that it neither keeps nor echoes what was pasted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select
from starlette.testclient import TestClient

from app.all_tables import metadata
from app.db.session import session_scope
from app.main import create_app
from app.settings import Settings
from app.web.pages.blocked import BURST, MAX_BODY_BYTES, MAX_FINDINGS, MAX_TEXT_CHARS
from app.web.rate import RateLimit

REFUSED = (
    "PS C:\\src\\shop> uv run ruff check\n"
    "error: Failed to spawn: `ruff`\n"
    "  Caused by: Dieses Programm wurde durch eine Gruppenrichtlinie blockiert. (os error 1260)\n"
)
CERTIFICATE = (
    "error: Failed to fetch: `https://packages.example/simple/`\n  Caused by: invalid peer certificate: UnknownIssuer"
)
FRAGMENT = {"HX-Request": "true"}
SECRET = "hunter2-do-not-repeat"


@pytest.fixture
def many_questions(app: FastAPI) -> None:
    """Tests that ask often are not about the limit."""
    app.state.blocked_limit = RateLimit(burst=1000, every_s=1)


def ask(client: TestClient, text: str, **headers: str) -> str:
    answer = client.post("/blocked", data={"text": text}, headers=headers)
    assert answer.status_code == 200, answer.text
    return unescape(answer.text)


def test_anybody_may_open_it(anonymous: TestClient) -> None:
    page = anonymous.get("/blocked")
    assert page.status_code == 200
    assert '<textarea class="form-control mono paste" id="text" name="text"' in page.text
    assert "side-nav" not in page.text
    assert 'href="/blocked"' in anonymous.get("/login").text


def test_it_says_what_was_refused_and_what_helps_whom(anonymous: TestClient) -> None:
    page = ask(anonymous, REFUSED)
    assert "A policy blocked this" in page
    assert "AppLocker, or Software Restriction Policies" in page
    assert "1260" in page
    assert "<code>.venv\\Scripts\\ruff.exe</code>" in page.replace(' class="wrap"', "")
    assert "<code>venv-entrypoint-exe</code>" in page
    assert "uv run TOOL" in page
    developer, _, administrator = page.partition("What your administrator can do")
    assert "<code>uv run python -m ruff</code>" in developer
    assert "Allow “" in administrator
    assert 'href="/patterns' not in page


def test_htmx_gets_the_answer_alone_and_others_the_page(anonymous: TestClient) -> None:
    fragment = ask(anonymous, REFUSED, **FRAGMENT)
    assert "A policy blocked this" in fragment
    assert "<html" not in fragment
    assert "<textarea" not in fragment
    assert "<html" in ask(anonymous, REFUSED)
    assert "HX-Request" in anonymous.get("/blocked").headers["vary"]


def test_what_is_no_block_is_told_plainly(anonymous: TestClient) -> None:
    page = ask(anonymous, CERTIFICATE)
    assert "This is not a policy block" in page
    assert "A certificate was not trusted" in page
    assert "Blocked by" not in page
    assert "This is not a policy block" in ask(anonymous, "Resolved 5 packages in 3ms")
    assert "A virus scanner blocked this, not a policy" in ask(anonymous, REFUSED.replace("1260", "225"))
    assert "perhaps by a policy" in ask(anonymous, REFUSED.replace("1260", "5"))


def test_somebody_signed_in_sees_it_in_the_site(signed_in: Callable[[str], TestClient]) -> None:
    page = ask(signed_in("viewer"), REFUSED)
    assert "side-nav" in page
    assert 'href="/patterns/venv-entrypoint-exe"' in page


@pytest.mark.parametrize("data", [{}, {"text": ""}, {"text": " \r\n\t "}, {"other": "x"}])
def test_nothing_to_read_is_said(anonymous: TestClient, data: dict[str, str]) -> None:
    answer = anonymous.post("/blocked", data=data)
    assert answer.status_code == 422
    assert "nothing to read yet" in answer.text
    assert "<textarea" in answer.text


def test_too_much_is_refused_before_it_is_read(anonymous: TestClient) -> None:
    ask(anonymous, "x" * MAX_TEXT_CHARS)
    long = anonymous.post("/blocked", data={"text": "x" * (MAX_TEXT_CHARS + 1)})
    assert long.status_code == 422
    assert f"up to {MAX_TEXT_CHARS:,} characters" in long.text
    huge = anonymous.post("/blocked", data={"text": "x" * MAX_BODY_BYTES})
    assert huge.status_code == 413
    assert f"up to {MAX_TEXT_CHARS:,} characters" in huge.text
    assert "<textarea" in huge.text


def test_too_much_without_a_length_is_refused_too(anonymous: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        yield b"text="
        for _ in range(3 * MAX_BODY_BYTES // 100_000):
            yield b"x" * 100_000

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = anonymous.post("/blocked", content=endless(), headers=headers)
    assert answer.status_code == 413
    lied = anonymous.post("/blocked", content=b"text=a", headers={**headers, "Content-Length": "abc"})
    assert lied.status_code == 413


def test_a_client_that_asks_often_waits_and_others_do_not(app: FastAPI) -> None:
    here = TestClient(app, base_url="http://wayleave.example", client=("192.0.2.1", 4000))
    there = TestClient(app, base_url="http://wayleave.example", client=("192.0.2.2", 4000))
    for _ in range(BURST):
        ask(here, CERTIFICATE)
    refused = here.post("/blocked", data={"text": REFUSED})
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 6
    assert "Try again in" in refused.text
    assert "A policy blocked this" not in refused.text
    assert "Try again in" in here.post("/blocked", data={"text": REFUSED}, headers=FRAGMENT).text
    assert here.get("/blocked").status_code == 200
    assert "A policy blocked this" in ask(there, REFUSED)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, database_url="", blocked_page=False))
    metadata().create_all(app.state.engine)
    client = TestClient(app, base_url="http://wayleave.example")
    assert client.get("/blocked").status_code == 404
    assert client.post("/blocked", data={"text": REFUSED}).status_code == 404
    assert "/blocked" not in client.get("/login").text
    app.state.engine.dispose()


def test_the_switch_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().blocked_page is True
    monkeypatch.setenv("WAYLEAVE_BLOCKED_PAGE", "false")
    assert Settings().blocked_page is False


def test_another_site_can_not_make_a_browser_ask(anonymous: TestClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert anonymous.post("/blocked", data={"text": REFUSED}, headers=headers).status_code == 403
    assert SECRET not in anonymous.get("/blocked", params={"text": f"os error 1260 {SECRET}", "q": SECRET}).text


@pytest.mark.usefixtures("many_questions")
def test_what_was_pasted_does_not_come_back(anonymous: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    text = f"> set UV_INDEX=https://ada:{SECRET}@packages.example/\n{REFUSED}"
    assert SECRET not in ask(anonymous, text)
    assert SECRET not in ask(anonymous, text, **FRAGMENT)
    assert SECRET not in ask(anonymous, f"{SECRET}\n{CERTIFICATE}")
    assert SECRET not in anonymous.post("/blocked", data={"text": SECRET * 20_000}).text
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("many_questions")
@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }}{% raw %}",
        "`<b>bold</b>`",
        "' onfocus='alert(1)' autofocus='",
        "javascript:alert(1)",
        "</textarea><form action=https://evil.example>",
    ],
)
def test_hostile_text_stays_text(anonymous: TestClient, hostile: str) -> None:
    texts = (
        f"error: Failed to spawn: `{hostile}`\n  Caused by: x (os error 1260)",
        f"C:\\Users\\ada\\{hostile}\\ruff.exe : x (os error 1260)",
        f"error: Failed to spawn: `C:\\Users\\{hostile}.exe`\n  Caused by: x (os error 1260)",
        f"PermissionError: [WinError 1260] x: 'C:\\\\{hostile}.exe'",
        hostile,
    )
    for text in texts:
        answer = anonymous.post("/blocked", data={"text": text})
        assert answer.status_code == 200
        assert "unsafe" not in answer.headers["content-security-policy"]
        for tag in ("<script>", "<img src=x", "<b>", "<form action=https", "49{%", " onfocus='"):
            assert tag not in answer.text
        assert not re.search(r"\sstyle=|\son[a-z]+=\"|<style", answer.text)


def test_control_characters_and_turned_text_do_not_reach_the_page(anonymous: TestClient) -> None:
    path = "C:\\Users\\ada\\\u202egpj.\u2066exe\x00\x07\x1b[31m\\.venv\\Scripts\\python.exe"
    page = ask(anonymous, f"error: Failed to query Python interpreter at `{path}`\n  Caused by: x (os error 1260)")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b\x0c\x0e-\x1f]", page)


def test_bytes_that_are_no_text_are_read_all_the_same(anonymous: TestClient) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"text=%ff%fe%00+os+error+1260", b"\xff\x00text=", b"&".join([b"text=a"] * 500), b"text=\xed\xa0\x80"):
        assert anonymous.post("/blocked", content=body, headers=headers).status_code in (200, 422)
    upload = anonymous.post("/blocked", files={"text": ("a.txt", REFUSED.encode())})
    assert upload.status_code == 422


def test_many_refused_files_are_shown_in_part(anonymous: TestClient) -> None:
    text = "".join(
        f"error: Failed to query Python interpreter at `C:\\src\\p{number}\\.venv\\Scripts\\python.exe`\n"
        "  Caused by: x (os error 1260)\n"
        for number in range(MAX_FINDINGS + 3)
    )
    page = ask(anonymous, text)
    assert page.count('id="finding-') == MAX_FINDINGS
    assert "3 more refused files" in page


def test_nothing_is_stored_and_only_answers_are_looked_up(
    anonymous: TestClient, engine: Engine, statements: list[str]
) -> None:
    statements.clear()
    ask(anonymous, CERTIFICATE)
    assert statements == []
    ask(anonymous, REFUSED)
    assert [one.split()[0] for one in statements] == ["BEGIN", "SELECT"]
    with session_scope(engine, writes=False) as session:
        tables = metadata().tables.items()
        rows = {name: session.scalar(select(func.count()).select_from(table)) for name, table in tables}
    assert {name for name, count in rows.items() if count} <= {"group", "host_group", "setting", "clock"}


def test_a_page_for_somebody_signed_in_takes_few_statements(
    signed_in: Callable[[str], TestClient], statements: list[str]
) -> None:
    client = signed_in("viewer")
    statements.clear()
    ask(client, REFUSED)
    assert len([one for one in statements if one.startswith("SELECT")]) <= 4
