"""By keyboard alone, as somebody without a mouse works: sign in, filter the hosts, open one, draft rules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from app.accounts.create import count_accounts, create_account
from app.accounts.tables import Account
from app.db.session import session_scope

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
MOST_STOPS = 200
FOCUS = """selector => {
  const on = document.activeElement, look = getComputedStyle(on);
  return [on.matches(selector), look.outlineStyle !== "none" || look.boxShadow !== "none"];
}"""

pytestmark = pytest.mark.browser


def reach(page: Page, selector: str) -> None:
    """Press Tab until the focus is on what the selector names; where it is must be seen on the way."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        is_there, is_seen = page.evaluate(FOCUS, selector)
        assert is_seen, f"nothing shows that {page.evaluate('document.activeElement.outerHTML')[:120]} has the focus"
        if is_there:
            return
    raise AssertionError(f"{selector} is not reached by {MOST_STOPS} stops")


def focused(page: Page) -> str:
    """The id of what has the focus."""
    return str(page.evaluate("document.activeElement.id"))


def test_from_signing_in_to_a_draft(fleet_site: object, open_page: Callable[..., tuple[Page, object]]) -> None:
    with session_scope(fleet_site.app.state.engine) as session:
        if count_accounts(session) == 0:
            create_account(session, EMAIL, PASSWORD, "administrator")
    page, _ = open_page(fleet_site)
    page.goto("/login")
    if focused(page) != "email":
        reach(page, "#email")
    page.keyboard.type(EMAIL)
    reach(page, "#password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(fleet_site.url + "/")

    # Past the menu by the first link of the page, and to the hosts by their keys.
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/hosts")
    page.keyboard.press("/")
    page.keyboard.type("eng")
    page.wait_for_url("**/hosts?q=eng*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("12 hosts fit")
    assert focused(page) == "q"
    reach(page, "select[name=pattern]")
    page.keyboard.type("at Python launcher in a te")  # each letter chooses another one, and asks for it
    page.wait_for_url("**pattern=cache-builds-venv-python*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("9 hosts fit")
    assert page.evaluate("document.activeElement.name") == "pattern"
    reach(page, "tbody th a")
    expect(page.locator("#time-tip")).to_contain_text("UTC")
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/*")
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)

    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/patterns")
    page.keyboard.press("/")
    page.keyboard.type("builds-v0")
    page.wait_for_url("**/patterns?q=builds-v0*")
    reach(page, "#state")
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**state=refused*")
    assert focused(page) == "state"
    reach(page, "tbody th a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/patterns/cache-builds-venv-python")
    reach(page, "a[href^='/rule-sets/new']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rule-sets/new?*")
    reach(page, "form[action^='/rule-sets'] button.btn-primary")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rule-sets/*")
    expect(page).to_have_url(fleet_site.url + "/rule-sets/2")


def test_arrows_in_a_choice_keep_the_focus(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, watch = open_page(made_site)
    sign_in(page, made_site)
    page.locator("[data-chart=trend] svg").wait_for()
    page.locator("#heat .actions a").last.focus()
    reach(page, "#trend-command")
    chosen = []
    for _ in range(3):
        page.keyboard.press("ArrowDown")
        chosen.append(page.locator("#trend-command").input_value())
        page.wait_for_url(f"**command={chosen[-1]}*")
        expect(page.locator("#trend-title")).to_contain_text("over 30 days")
        assert focused(page) == "trend-command"
    assert len(set(chosen)) == 3
    # A tab that changes the page keeps its place, too, and no page is fetched whole for it.
    page.goto("/versions")
    reach(page, "#days-30")
    watch.requests.clear()
    with page.expect_response("**/versions?days=30") as answer:
        page.keyboard.press("Enter")
    assert "<html" not in answer.value.text()
    page.wait_for_url("**/versions?days=30")
    expect(page.locator("#days-30")).to_have_attribute("aria-current", "true")
    assert focused(page) == "days-30"
    expect(page).to_have_title("uv versions · Wayleave")
    page.locator("[data-chart=stack] svg").wait_for()
    assert [one for one in watch.requests if ".js" in one] == []


@pytest.mark.parametrize("javascript", [True, False])
def test_arrows_change_no_role_until_the_button_is_pressed(
    javascript: bool,
    fleet_site: object,
    open_page: Callable[..., tuple[Page, object]],
    sign_in: Callable[..., None],
) -> None:
    bob = f"bob-{javascript}@example.com".lower()
    page, watch = open_page(fleet_site, javascript=javascript)
    sign_in(page, fleet_site)
    with session_scope(fleet_site.app.state.engine) as session:
        create_account(session, bob, PASSWORD, "viewer")
    page.goto("/accounts")
    role = page.get_by_label(f"Role of {bob}", exact=True)
    role.focus()
    watch.requests.clear()
    for key in ("ArrowDown", "End", "Home", "ArrowDown"):
        page.keyboard.press(key)
    expect(role).to_have_value("analyst")
    page.wait_for_timeout(300)
    assert watch.requests == []
    with session_scope(fleet_site.app.state.engine, writes=False) as session:
        assert session.scalars(select(Account.role).where(Account.email == bob)).one() == "viewer"

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text=bob)).to_contain_text("is analyst now")
    expect(page.get_by_label(f"Role of {bob}", exact=True)).to_have_value("analyst")
    expect(page.get_by_label(f"Role of {bob}", exact=True)).to_be_focused()
    with session_scope(fleet_site.app.state.engine, writes=False) as session:
        assert session.scalars(select(Account.role).where(Account.email == bob)).one() == "analyst"


def test_a_search_changes_the_frame_alone_and_keeps_the_focus(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, watch = open_page(made_site)
    sign_in(page, made_site)
    for path in ("/groups", "/search"):
        page.goto(f"{path}?q=o")
        page.locator("#q").focus()
        watch.requests.clear()
        with page.expect_response(f"**{path}?q=n") as answer:
            page.keyboard.press("Control+A")
            page.keyboard.type("n")
            page.keyboard.press("Enter")
        assert "<html" not in answer.value.text()
        page.wait_for_url(f"**{path}?q=n")
        expect(page.locator("main #q")).to_have_value("n")
        assert focused(page) == "q"
        assert [one for one in watch.requests if ".js" in one or ".css" in one] == []
    # What has exactly this name is opened: a page of its own, whole, with its scripts.
    page.keyboard.press("Control+A")
    page.keyboard.type("venv-python")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("venv-python")
    page.goto("/search?q=n")
    page.locator("#q").fill("Patterns")
    page.locator("#q").press("Enter")
    page.wait_for_url("**/patterns")
    expect(page.locator("script[src*='live']")).to_have_count(1)
    # A number of the first sentence is a filter of the page: no page is loaded for it.
    page.goto("/workflows")
    watch.requests.clear()
    page.get_by_role("heading", level=1).locator("a[href*='works=told']").press("Enter")
    page.wait_for_url("**/workflows?works=told")
    expect(page.locator("#of-works")).to_have_value("told")
    assert [one for one in watch.requests if ".js" in one or ".css" in one] == []
