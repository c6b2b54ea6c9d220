"""The first day in a real browser: the one-time link, an administrator, an agent's report, the overview, an export."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import httpx2
import pytest
from playwright.sync_api import Page, expect

from app.accounts.invitations import create_first_admin_link
from app.db.session import session_scope

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_from_the_first_link_to_the_exported_file(
    empty_site: object, open_page: Callable[..., tuple[Page, object]], fleet: object, tmp_path: Path, javascript: bool
) -> None:
    site = empty_site
    with session_scope(site.app.state.engine) as session:
        link = create_first_admin_link(session, site.url)
    page, _ = open_page(site, javascript=javascript)

    page.goto(str(link))
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("No workstation has reported yet")

    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    page.get_by_role("link", name="Create an enrolment secret").click()
    page.get_by_role("button", name="Create secret").click()
    command = page.get_by_role("main").inner_text()
    secret = re.search(r"--secret (wle_\S+)", command)
    assert secret is not None
    machine = fleet.Machine(name="PC-1", group="x", blocked=fleet.CACHE)
    with httpx2.Client(base_url=site.url) as agent:
        request = {"contract": 1, "secret": secret[1], "host": {"name": "PC-1", "os": "Windows 11 Enterprise"}}
        machine.token = agent.post("/api/v1/enrol", json=request).json()["token"]
        machine.report(agent)

    # The clock folds the counts by itself; a person reloads.
    for _ in range(40):
        page.goto("/")
        if "works for" in page.get_by_role("heading", level=1).inner_text():
            break
        page.wait_for_timeout(250)
    expect(page.get_by_role("heading", level=1)).to_contain_text("0 % of 1 user")
    expect(page.get_by_role("row", name=re.compile("temporary environment"))).to_contain_text("100 %")

    page.get_by_role("link", name="Draft rules for these 3 patterns").click()
    page.get_by_label("SID of a group").fill(SID)
    page.get_by_role("button", name="Show the rules").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(SID)
    with page.expect_download() as started:
        page.get_by_role("button", name=re.compile("^Download wayleave-rules")).click()
    target = tmp_path / started.value.suggested_filename
    started.value.save_as(target)
    policy = ElementTree.parse(target).getroot()
    assert policy.tag == "AppLockerPolicy"
    rules = policy.findall("RuleCollection/*")
    assert rules
    assert {rule.get("UserOrGroupSid") for rule in rules} == {SID}
    paths = {one.get("Path", "") for one in policy.iter("FilePathCondition")}
    assert any("builds-v0" in path for path in paths)


def test_the_search_answers_while_typing_and_the_address_keeps_it(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, watch = open_page(fleet_site)
    sign_in(page, fleet_site)
    page.goto("/hosts")
    watch.requests.clear()
    page.keyboard.press("/")
    expect(page.get_by_label("Search hosts by name")).to_be_focused()
    page.keyboard.type("SALES", delay=20)
    expect(page.get_by_role("heading", level=1)).to_contain_text("8 hosts fit the filter")
    expect(page.get_by_label("Search hosts by name")).to_be_focused()
    page.wait_for_url("**/hosts?q=SALES")
    asked = [url for url in watch.requests if "/hosts" in url]
    assert 1 <= len(asked) <= 2
    page.get_by_label("At pattern").select_option("venv-python")
    expect(page.get_by_text("blocked at Python launcher in a project/other virtual environment")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_contain_text("8 hosts")
    page.goto("/hosts?q=FIN")
    page.get_by_role("link", name="name begins with “FIN”").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("27 hosts")


def test_the_theme_is_remembered_and_starts_with_the_systems(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site, theme="dark")
    sign_in(page, fleet_site)
    assert page.locator("html").get_attribute("data-bs-theme") == "dark"
    page.get_by_role("button", name="Change between light and dark").click()
    page.goto("/patterns")
    assert page.locator("html").get_attribute("data-bs-theme") == "light"


@pytest.mark.skipif("WAYLEAVE_README_SCREENSHOT" not in os.environ, reason="shared: makes docs/images/overview.png")
def test_the_readmes_picture(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(made_site, size={"width": 1280, "height": 800})
    sign_in(page, made_site)
    page.goto("/")
    target = Path(__file__).parents[2] / "docs" / "images" / "overview.png"
    target.parent.mkdir(exist_ok=True)
    page.screenshot(path=target)
    assert target.stat().st_size < 200_000
