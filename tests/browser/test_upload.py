"""A large file is sent by a real browser over a slow line: its progress is seen; it can be stopped, or refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.imports.uploads import uploads_dir
from tests.browser.pages import SCREENSHOTS

pytestmark = pytest.mark.browser

BYTES_A_SECOND = 100_000


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "events.csv"
    line = r"2026-11-20T08:00:00Z,PC-1,8004,C:\Tools\x.exe" + "\n"
    file.write_text("TimeGenerated,Computer,EventID,FilePath\n" + line * (4_000_000 // len(line)))
    return file


def test_a_file_on_its_way(
    empty_site: object,
    open_page: Callable[..., tuple[Page, object]],
    sign_in: Callable[[Page, object], None],
    log: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    page, watch = open_page(empty_site)
    sign_in(page, empty_site)
    page.goto("/imports")
    line = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": BYTES_A_SECOND}
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", slow)

    page.get_by_label("File", exact=True).set_input_files(log)
    page.get_by_role("button", name="Import", exact=True).click()
    words = page.locator("[data-upload-words]")
    expect(words).to_have_text(re.compile(r"[0-2]\.\d of 4\.0 MB sent, [1-9]\d? %"))
    bar = page.get_by_role("progressbar", name="Sending")
    expect(bar).to_be_visible()
    assert 0 < bar.evaluate("bar => bar.value") < 100
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=SCREENSHOTS / f"upload-{theme}.png", full_page=True)
    page.get_by_role("button", name="Cancel").click()
    expect(words).to_have_text("Cancelled. The server keeps nothing of this file.")
    expect(bar).to_be_hidden()
    folder = uploads_dir(empty_site.app.state.settings.data_dir)
    deadline = time.monotonic() + 15
    while folder.exists() and list(folder.iterdir()):
        assert time.monotonic() < deadline, "what was sent is still there"
        page.wait_for_timeout(50)
    assert "error" not in caplog.text.lower()  # somebody who stops is nothing that is wrong with the server
    # htmx tells the console of what was stopped; this and nothing else.
    assert all(re.match(r"error: htmx:(sendAbort|afterRequest)", line) for line in watch.console)
    watch.console.clear()

    line.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("events.csv", timeout=15_000)
    expect(page).to_have_url(re.compile(r"/imports/1$"))
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("events.csv")


def test_a_file_that_is_too_large_is_not_sent(
    empty_site: object,
    open_page: Callable[..., tuple[Page, object]],
    sign_in: Callable[[Page, object], None],
    log: Path,
) -> None:
    page, watch = open_page(empty_site)
    sign_in(page, empty_site)
    page.goto("/imports")
    file = page.get_by_label("File", exact=True)
    file.evaluate("input => input.dataset.maxBytes = '1000000'")
    file.set_input_files(log)
    assert file.evaluate("input => input.validationMessage") == "This file has 4.0 MB; at most 1.0 MB can be sent."
    before = len(watch.requests)
    page.get_by_role("button", name="Import", exact=True).click()
    assert not [url for url in watch.requests[before:] if url.endswith("/imports")]
