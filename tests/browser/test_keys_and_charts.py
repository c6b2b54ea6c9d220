"""What JavaScript adds: keys, charts that follow the theme, days dragged on a chart. Nothing of it is needed."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser


def test_keys_search_help_and_go(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site)
    sign_in(page, fleet_site)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("/")
    page.keyboard.type("SALES-003")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("SALES-003")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/hosts")
    page.keyboard.press("/")
    page.keyboard.type("g/?")
    expect(page.locator("#q")).to_have_value("g/?")
    expect(dialog).to_be_hidden()


def test_days_dragged_on_the_chart_filter_the_list(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(made_site)
    sign_in(page, made_site)
    page.goto("/sightings")
    before = page.locator("h1").inner_text()
    chart = page.locator("[data-chart=days] svg")
    chart.wait_for()
    box = chart.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.15, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, middle, steps=6)
    page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=6)
    page.mouse.up()
    page.wait_for_url("**/sightings?from=*")
    query = parse_qs(urlsplit(page.url).query)
    assert query["from"] < query["to"]
    expect(page.locator("#from")).to_have_value(query["from"][0])
    expect(page.locator("h1")).not_to_have_text(before)
    # The new chart is drawn, too, and can be dragged on.
    page.locator("[data-chart=days] svg").wait_for()


def test_a_trend_follows_its_form_and_the_theme(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(made_site)
    sign_in(page, made_site)
    page.locator("[data-chart=trend] svg").wait_for()
    page.get_by_label("Command", exact=True).select_option("uvx")
    page.wait_for_url("**/?command=uvx*")
    expect(page.locator("#trend-title")).to_contain_text("uvx")
    drawn = page.locator("[data-chart=trend] svg")
    drawn.wait_for()
    light = drawn.evaluate("svg => svg.outerHTML")
    page.get_by_role("button", name="Change between light and dark").click()
    page.wait_for_function("light => document.querySelector('[data-chart=trend] svg').outerHTML !== light", arg=light)
    page.get_by_text("The figures as a table").click()
    expect(page.get_by_role("region", name="Figures by day")).to_be_visible()
    rows = page.get_by_role("region", name="Figures by day").get_by_role("row")
    assert rows.count() > 25, "the made story has a month behind it"
