"""Long work in a real browser: seen to move on, left, found again, cancelled; its answer comes by itself or by link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from app.accounts.create import create_account
from app.audit.record import Actor
from app.db.session import session_scope
from app.policies import plans
from app.policies.rule_sets import add_to_rule_set
from app.web.pages import rule_sets_plan
from app.work.run import Keep, Progress
from tests.browser.pages import SCREENSHOTS

PASSWORD = "correct horse battery"
ADA = Actor(kind="account", name="analyst@example.com")

pytestmark = pytest.mark.browser


class Slow:
    """Planning that takes as long as the test wants, and then does what planning does."""

    def __init__(self, real: Callable[..., Callable[[Engine, Progress], Keep]]) -> None:
        self._real = real
        self.done, self.go_on = 20, threading.Event()

    def __call__(self, rule_set_id: int, *, may_move: bool) -> Callable[[Engine, Progress], Keep]:
        def do(engine: Engine, progress: Progress) -> Keep:
            while not self.go_on.is_set():
                progress.tell("patterns ranked", self.done, 50)
                time.sleep(0.02)
            return self._real(rule_set_id, may_move=may_move)(engine, progress)

        return do


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_a_long_plan(
    empty_site: object,
    open_page: Callable[..., tuple[Page, object]],
    monkeypatch: pytest.MonkeyPatch,
    javascript: bool,
) -> None:
    slow = Slow(rule_sets_plan.plans_of)
    monkeypatch.setattr(plans, "AT_ONCE_PATTERNS", 0)
    monkeypatch.setattr(rule_sets_plan, "plans_of", slow)
    app = empty_site.app
    with session_scope(app.state.engine) as session:
        create_account(session, ADA.name, PASSWORD, "analyst")
        add_to_rule_set(session, name="Large", patterns=["venv-python", "cache-builds-venv-python"], actor=ADA)

    page, watch = open_page(empty_site, javascript=javascript)
    page.goto("/login")
    page.get_by_label("E-mail address").fill(ADA.name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    heading = page.get_by_role("heading", level=1)

    page.goto("/rule-sets/1/plan")
    expect(heading).to_have_text("The plans are being worked out.")
    look(page, javascript)
    expect(page.locator("#answer [role=status]")).to_contain_text("Patterns ranked: 20 of 50.")
    slow.done = 40
    look(page, javascript)
    expect(page.locator("#answer [role=status]")).to_contain_text("Patterns ranked: 40 of 50.")
    keep_picture(page, "plan" if javascript else "plan-without-scripts")

    page.goto("/work")  # left, and found again
    expect(heading).to_have_text("1 piece of work is under way.")
    expect(page.get_by_role("row", name="Plans for “Large”")).to_contain_text("80")
    keep_picture(page, "work" if javascript else "work-without-scripts")
    page.get_by_role("link", name="Plans for “Large”").click()
    page.get_by_role("button", name="Cancel").click()
    expect(heading).to_have_text("There are no plans.")
    expect(page.locator("main")).to_contain_text("It was cancelled.")

    page.get_by_role("link", name="Work them out again").click()
    expect(heading).to_have_text("The plans are being worked out.")
    slow.go_on.set()
    look(page, javascript, until="This plan")
    expect(page.get_by_role("heading", name="This plan")).to_be_visible()
    page.goto("/work")
    expect(page.locator("main")).to_contain_text("Nothing is being worked out at the moment.")
    expect(page.locator("main")).to_contain_text("cancelled")
    keep_picture(page, "work-over" if javascript else "work-over-without-scripts")
    assert watch.console == []
    assert watch.foreign == []


def look(page: Page, javascript: bool, until: str = "") -> None:
    """With scripts the page looks by itself; without them a person does, by the link, until the words are there."""
    deadline = time.monotonic() + 20
    while not javascript:
        time.sleep(0.8)
        page.get_by_role("link", name="Look again").click()
        if until in page.locator("main").inner_text():
            return
        assert time.monotonic() < deadline


def keep_picture(page: Page, name: str) -> None:
    """To look at, in both themes; without scripts the theme that the page came with stays."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme in ("light",) if name.endswith("without-scripts") else ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=SCREENSHOTS / f"long-{name}-{theme}.png", full_page=True)
