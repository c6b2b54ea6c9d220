"""Forms that change something, filled and sent by a browser that runs no script: each does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from app.fleet.make import make_fleet
from tests.browser.conftest import Site, make_notice, running_site

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


def test_one_time_codes(page: Page) -> None:
    page.goto("/account/codes")
    key = page.locator("code").first.inner_text().replace(" ", "")
    page.get_by_label("Code of six digits").fill(pyotp.TOTP(key).now())
    press(page, "Use one-time codes")
    expect(page.get_by_role("main")).to_contain_text("recovery")
