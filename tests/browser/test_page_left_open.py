"""What a page does for somebody who stays on it: exact times, fresh figures, closer rows, pictures to keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from app.db.session import session_scope
from app.fleet.tables import HostGroup

PNG = b"\x89PNG\r\n\x1a\n"

pytestmark = pytest.mark.browser


def test_times_are_told_in_the_viewers_zone_and_in_utc(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site, zone="Asia/Tokyo")
    sign_in(page, fleet_site)
    page.goto("/hosts")
    told = page.locator("tbody time").first
    here, utc = (told.get_attribute("title") or "").split("\n")
    at = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) UTC", utc)
    assert at is not None
    assert here.endswith(f"{(int(at[4]) + 9) % 24:02}:{at[5]}:{at[6]} GMT+9")
    # By keyboard: with the link of its row, under the column's name. By finger: at the time itself.
    page.locator("tbody th a").first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    tip = page.get_by_role("tooltip")
    expect(tip).to_have_text(f"Last seen: {here} · {utc}")
    expect(page.locator("tbody th a").first).to_have_attribute("aria-describedby", "time-tip")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    told.click()
    expect(tip).to_have_text(f"{here} · {utc}")
    # Where no link tells it, the Tab key stops at it.
    page.goto("/patterns")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Shift+Tab")
    expect(tip).to_contain_text("GMT+9")


def test_figures_are_read_anew_unless_somebody_pauses_it(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, watch = open_page(fleet_site)
    sign_in(page, fleet_site)
    group = page.locator("#heat thead a[href^='/?group=']").first
    before = group.inner_text()
    page.evaluate("window.kept = [...document.querySelectorAll('[data-live]')]; scrollTo(0, 300)")

    def refresh() -> None:
        with page.expect_response(lambda answer: answer.request.headers.get("x-unattended") == "yes"):
            page.evaluate("document.dispatchEvent(new CustomEvent('wayleave:refresh'))")

    refresh()
    expect(page.locator("#as-of")).to_contain_text("just now")
    assert page.evaluate("window.kept.every(one => one.isConnected)"), "nothing moves unless something changed"
    with session_scope(fleet_site.app.state.engine) as session:
        named = session.query(HostGroup).filter_by(name=before).one()
        named.name = "Renamed"
    try:
        refresh()
        expect(group).to_have_text("Renamed")
        assert page.evaluate("window.kept.filter(one => one.isConnected).length > 2")
        assert page.evaluate("scrollY") == 300
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#refresh-word")).to_have_text("The figures here stay as they are.")
        page.reload()
        expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
        page.get_by_role("button", name="Go on").click()
        page.route("**/*", lambda route: route.abort())
        page.evaluate("document.dispatchEvent(new CustomEvent('wayleave:refresh'))")
        expect(page.locator("#refresh-word")).to_contain_text("could not be read anew")
        watch.console.clear()
    finally:
        with session_scope(fleet_site.app.state.engine) as session:
            session.query(HostGroup).filter_by(name="Renamed").one().name = before


def test_what_is_under_way_is_seen_and_what_fails_is_told(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, watch = open_page(fleet_site)
    sign_in(page, fleet_site)
    page.goto("/hosts")
    held: list[Route] = []
    page.route("**/hosts?*", lambda route: held.append(route))  # a bound method is no handler
    page.locator("select[name=standing]").select_option("counted")
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "true")
    expect(page.locator("html")).to_have_class(re.compile("is-waiting"))
    held.pop().continue_()
    page.wait_for_url("**standing=counted*")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.locator("html")).not_to_have_class(re.compile("is-waiting"))
    page.locator("select[name=standing]").select_option("administrator")
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "true")
    held.pop().abort()
    expect(page.get_by_role("alert")).to_contain_text("The server did not answer")
    page.unroute("**/hosts?*")
    # The browser itself notes in its console that the answer failed; htmx, too.
    watch.console.clear()


def test_rows_come_closer_and_stay_so(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site)
    sign_in(page, fleet_site)
    page.goto("/hosts")
    row = page.locator("tbody tr").nth(1)
    usual = row.evaluate("row => row.offsetHeight")
    page.get_by_role("button", name="Compact rows").click()
    assert row.evaluate("row => row.offsetHeight") < usual
    page.reload()
    expect(page.get_by_role("button", name="Compact rows")).to_have_attribute("aria-pressed", "true")
    assert row.evaluate("row => row.offsetHeight") < usual
    # All of the menu is in sight at this height, or a shade says that it goes on.
    page.set_viewport_size({"width": 1280, "height": 860})
    menu = page.locator(".side-nav")
    assert menu.evaluate("menu => menu.scrollHeight - menu.clientHeight") <= 0
    page.set_viewport_size({"width": 1280, "height": 600})
    assert menu.evaluate("menu => menu.scrollHeight - menu.clientHeight") > 0
    assert menu.evaluate("menu => getComputedStyle(menu).backgroundImage").count("linear-gradient") == 4


def test_pictures_are_kept_as_svg_and_png(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], tmp_path: Path
) -> None:
    page, _ = open_page(made_site)
    sign_in(page, made_site)
    page.locator("[data-chart=trend] svg").wait_for()
    tools = page.locator(".picture-tools")
    expect(tools).to_have_count(2)
    for number, name in enumerate(("blocked-patterns", "sync-build-over-30-days")):
        for kind in ("svg", "png"):
            with page.expect_download() as download:
                tools.nth(number).get_by_role("button", name=kind.upper()).click()
            assert re.fullmatch(rf"wayleave-{name}-[\d-]{{10}}\.{kind}", download.value.suggested_filename)
            kept = tmp_path / download.value.suggested_filename
            download.value.save_as(kept)
            content = kept.read_bytes()
            assert content.startswith(PNG if kind == "png" else b"<svg")
            assert len(content) > 3000
            if kind == "svg":
                assert b"Self-delete helper" in content or b"works" in content


def test_the_bar_of_a_rollout_is_kept_with_its_words_and_colours(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], tmp_path: Path
) -> None:
    page, _ = open_page(fleet_site)
    sign_in(page, fleet_site)
    page.goto("/exports/1")
    tools = page.locator("[data-picture=rollout] + .picture-tools")
    for kind in ("svg", "png"):
        with page.expect_download() as download:
            tools.get_by_role("button", name=kind.upper()).click()
        assert re.fullmatch(rf"wayleave-rollout-[\d-]{{10}}\.{kind}", download.value.suggested_filename)
        kept = tmp_path / download.value.suggested_filename
        download.value.save_as(kept)
        content = kept.read_bytes()
        assert content.startswith(PNG if kind == "png" else b"<svg")
        if kind == "svg":
            words = content.decode()
            assert re.search(r"<text[^>]*>None of the rules: [\d,]+ of [\d,]+, \d", words), words
            assert "class=" not in words  # colours that need no style sheet
            assert len(set(re.findall(r'fill="(rgb[^"]+)"', words))) >= 2
