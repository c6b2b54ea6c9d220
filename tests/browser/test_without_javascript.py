"""Forms that change something, filled and sent by a browser that runs no script: each does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from app.accounts.create import create_account
from app.db.session import session_scope
from app.fleet.make import make_fleet
from tests.browser.conftest import PASSWORD, Site, make_notice, running_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own, since everything here changes it."""
    with running_site(tmp_path_factory.mktemp("no-javascript")) as site:
        make_fleet(site.app.state.engine, 40, seed=1)
        make_notice(site.app)
        yield site


@pytest.fixture
def page(site: Site, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[[Page, Site], None]) -> Page:
    found, _ = open_page(site, javascript=False)
    sign_in(found, site)
    return found


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def test_groups_and_tags(page: Page) -> None:
    page.goto("/groups")
    page.get_by_label("Name", exact=True).fill("Laboratory")
    press(page, "Create")
    expect(page.get_by_role("main")).to_contain_text("Laboratory")
    page.get_by_label("Host names").fill("FIN-00000\nFIN-00001")
    page.get_by_label("Give them a tag").check()
    page.get_by_label("Tag", exact=True).fill("ring 1")
    press(page, "Apply to these hosts")
    page.goto("/groups")
    expect(page.get_by_role("link", name="ring 1")).to_be_visible()


def test_one_host(page: Page) -> None:
    page.goto("/hosts/1")
    page.get_by_label("Tag", exact=True).fill("ring 2")
    page.get_by_label("Tag", exact=True).press("Enter")
    expect(page.get_by_role("main")).to_contain_text("ring 2")
    press(page, "Many users share this host")
    expect(page.get_by_role("button", name="Not shared by many users")).to_be_visible()
    page.goto("/hosts/2/forget")
    press(page, "Erase this host")
    assert page.goto("/hosts/2").status == 404


def test_agents(page: Page) -> None:
    page.goto("/agents")
    page.get_by_label("Note").fill("second wave")
    press(page, "Create secret")
    expect(page.get_by_role("main")).to_contain_text("--secret wle_")
    page.goto("/agents")
    page.get_by_label("Reason").fill("a rollout")
    press(page, "Stop probing")
    expect(page.get_by_role("main")).to_contain_text("a rollout")
    press(page, "Resume probing for all hosts")
    expect(page.get_by_role("main")).not_to_contain_text("a rollout")


def test_accounts_and_tokens(page: Page) -> None:
    page.goto("/accounts")
    page.get_by_label("E-mail address").fill("viewer@example.com")
    press(page, "Create the link")
    expect(page.get_by_role("main")).to_contain_text("/invitation/")
    page.goto("/accounts")
    press(page, "Withdraw")
    expect(page.get_by_role("main")).not_to_contain_text("viewer@example.com")
    page.goto("/tokens")
    page.get_by_label("What it is for").fill("a report")
    press(page, "Create token")
    expect(page.get_by_role("main")).to_contain_text("wlt_")
    page.goto("/tokens")
    page.get_by_role("button", name="Revoke the token for a report").click()
    expect(page.get_by_role("button", name="Revoke the token for a report")).to_have_count(0)


def test_jobs_and_notices(page: Page) -> None:
    page.goto("/jobs")
    page.get_by_role("button", name="now").first.click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto("/notices")
    press(page, "Mark it as read")
    expect(page.get_by_role("button", name="Mark it as read")).to_have_count(0)
    page.goto("/notices/1")
    page.get_by_label("What you found, or will do").fill("the base is being mended")
    press(page, "I look after this")
    expect(page.get_by_role("main")).to_contain_text("the base is being mended")


def test_trusted_files(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"files": "none"}))
    page.goto("/baseline")
    page.get_by_label("List", exact=True).set_input_files(wrong)
    press(page, "Add the list")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was added. wrong.json: not a list of files")


def test_finding_hosts(page: Page) -> None:
    page.goto("/hosts")
    page.get_by_label("Search hosts by name").fill("FIN-")
    page.locator("summary", has_text="More").first.click()
    page.get_by_label("uv version").select_option("0.13.8")
    page.get_by_label("Outcome", exact=True).select_option("blocked")
    page.get_by_label("At pattern", exact=True).select_option("cache-builds-venv-python")
    press(page, "Search")
    asked = parse_qs(urlsplit(page.url).query)
    assert (asked["q"], asked["uv"], asked["outcome"]) == (["FIN-"], ["0.13.8"], ["blocked"])
    names = page.locator("#rows tbody tr th, #rows tbody tr td:first-child").all_inner_texts()
    assert names
    assert all(name.startswith("FIN-") for name in names)
    expect(page.get_by_label("uv version")).to_have_value("0.13.8")
    every = page.locator("h1").inner_text()
    page.locator(".chips a", has_text="0.13.8").click()
    expect(page.get_by_label("uv version")).to_have_value("")
    assert page.locator("h1").inner_text() != every


def test_moving_renaming_and_revoking(page: Page) -> None:
    page.goto("/groups")
    page.get_by_label("Name", exact=True).fill("Workshop")
    press(page, "Create")
    page.goto("/groups")
    row = page.get_by_role("row").filter(has=page.get_by_label("New name of Workshop"))
    row.locator("summary").click()
    page.get_by_label("New name of Workshop").fill("Machine hall")
    row.get_by_role("button", name="Rename").click()
    page.goto("/hosts/3")
    page.get_by_label("Group", exact=True).select_option("Machine hall")
    press(page, "Move")
    page.goto("/hosts/3")
    expect(page.get_by_label("Group", exact=True).locator("option:checked")).to_have_text("Machine hall")
    page.goto("/hosts/3/revoke")
    press(page, "Revoke this host")
    page.goto("/hosts/3")
    expect(page.get_by_role("main")).to_contain_text("revoked")


def test_an_import(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("TimeGenerated,Computer,EventID,FilePath\n2026-11-20T08:00:00Z,PC-1,8004,C:\\Tools\\x.exe\n")
    page.goto("/imports")
    page.get_by_label("File", exact=True).set_input_files(file)
    press(page, "Import")
    page.wait_for_url("**/imports/1")
    expect(page.get_by_role("heading", level=1)).to_contain_text("events.csv")


def test_the_account_of_another(page: Page, site: Site, open_page: Callable[..., tuple[Page, object]]) -> None:
    with session_scope(site.app.state.engine) as session:
        create_account(session, "bob@example.com", PASSWORD, "viewer")
    page.goto("/accounts")
    role = page.get_by_label("Role of bob@example.com", exact=True)
    role.select_option("analyst")
    page.get_by_role("row").filter(has=role).get_by_role("button", name="Change").click()
    page.goto("/accounts")
    expect(role).to_have_value("analyst")

    bobs, _ = open_page(site, javascript=False)
    enter(bobs, "bob@example.com", PASSWORD)
    bobs.goto("/account")
    bobs.get_by_label("Current password").fill(PASSWORD)
    bobs.get_by_label("New password", exact=True).fill("another horse battery")
    bobs.get_by_label("New password again").fill("another horse battery")
    press(bobs, "Change password")
    expect(bobs.get_by_role("main")).to_contain_text("Your password is changed.")

    page.get_by_role("row").filter(has=role).get_by_role("button", name="Disable").click()
    page.goto("/accounts")
    expect(page.get_by_role("row").filter(has=role).get_by_role("button", name="Enable")).to_be_visible()
    bobs.goto("/account")
    assert urlsplit(bobs.url).path == "/login", "their sessions ended"
    page.get_by_role("row").filter(has=role).get_by_role("button", name="Enable").click()
    enter(bobs, "bob@example.com", "another horse battery")
    bobs.goto("/account")
    expect(bobs.get_by_role("main")).to_contain_text("bob@example.com")


def enter(page: Page, email: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    press(page, "Sign in")
    page.wait_for_url(lambda url: urlsplit(url).path != "/login")


def test_one_time_codes(page: Page) -> None:
    page.goto("/account/codes")
    key = page.locator("code").first.inner_text().replace(" ", "")
    page.get_by_label("Code of six digits").fill(pyotp.TOTP(key).now())
    press(page, "Use one-time codes")
    expect(page.get_by_role("main")).to_contain_text("recovery")
