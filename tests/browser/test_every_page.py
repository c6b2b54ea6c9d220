"""Every page in both themes and on a phone: no axe violation, nothing cut off, nothing foreign, light enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "artefacts" / "screenshots"
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
PAGES = {
    "overview": "/",
    "patterns": "/patterns",
    "pattern": "/patterns/cache-builds-venv-python",
    "pattern-not-run": "/patterns/cache-wheel-staging-temp",
    "hosts": "/hosts",
    "hosts-filtered": "/hosts?q=SALES&pattern=venv-python&version=0.12.9",
    "hosts-none": "/hosts?q=nothing-like-it",
    "host": "/hosts/1",
    "versions": "/versions",
    "workflows": "/workflows",
    "workflows-after": "/workflows?pattern=cache-builds-venv-python&pattern=venv-python",
    "relocation": "/relocation?show=1&cache=D:%5Cuv-cache%5C%25USERNAME%25&project_roots=D:%5Csrc",
    "relocation-refused": "/relocation?show=1&python=x",
    "preflight": "/preflight?from=0.12.9&to=0.13.8",
    "sightings": "/sightings",
    "sightings-by-path": "/sightings?by=path",
    "groups": "/groups",
    "search": "/search?q=python",
    "policies": "/policies",
    "export": "/export?pattern=venv-python",
    "exports": "/exports",
    "kept-export": "/exports/1",
    "kept-export-what-if": "/exports/1/what-if",
    "rule-sets": "/rule-sets",
    "rule-set-new": "/rule-sets/new?pattern=venv-python",
    "rule-set": "/rule-sets/1",
    "rule-set-ways": "/rule-sets/1/patterns/cache-builds-venv-python",
    "rule-set-plan": "/rule-sets/1/plan",
    "rule-set-what-if": "/rule-sets/1/what-if",
    "rule-set-review": "/rule-sets/1/review",
    "rule-set-export": "/rule-sets/1/export",
    "requests": "/requests",
    "agents": "/agents",
    "imports": "/imports",
    "accounts": "/accounts",
    "tokens": "/tokens",
    "jobs": "/jobs",
    "settings": "/settings",
    "audit": "/audit",
    "health": "/health",
    "account": "/account",
    "one-time-codes": "/account/codes",
    "not-found": "/nothing-here",
}
REFUSED = "> uv run ruff check\nerror: Failed to spawn: `ruff`\n  Caused by: blockiert (os error 1260)\n"
LOOKS = {
    "light": ("light", DESKTOP),
    "dark": ("dark", DESKTOP),
    "phone": ("light", PHONE),
    "phone-dark": ("dark", PHONE),
}
MAX_FIRST_BYTES = 600_000
MAX_LATER_BYTES = 30_000


def problems_of(page: Page, name: str) -> list[str]:
    """Axe violations, and content wider than the screen; makes a picture to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    problems = [f"{name} is {wider} pixels too wide"] if wider > 0 else []
    for violation in Axe().run(page).response["violations"]:
        for node in violation["nodes"]:
            problems.append(f"{name}: {violation['id']}: {node['target']} {node['failureSummary']}")
    return problems


@pytest.mark.parametrize("look", LOOKS)
def test_pages_for_people_who_are_signed_in(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], look: str
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(fleet_site, theme=theme, size=size)
    sign_in(page, fleet_site)
    problems = []
    for name, path in PAGES.items():
        page.goto(path)
        problems += problems_of(page, f"{name}-{look}")
    page.goto("/export?pattern=venv-python&pattern=uv-exe-standalone")
    page.get_by_label("SID of a group").fill(SID)
    page.get_by_role("button", name="Show the rules").click()
    page.wait_for_url("**/export")
    problems += problems_of(page, f"export-review-{look}")
    with page.expect_download():
        page.get_by_role("button", name="Download wayleave-rules").click()
    page.goto("/export")
    page.get_by_role("link", name="wayleave-rules").first.click()
    page.get_by_text("How far it has come").wait_for()
    problems += problems_of(page, f"export-arrival-{look}")
    page.goto("/export?pattern=venv-python")
    page.get_by_label("SID of a group").fill("Developers")
    page.get_by_role("button", name="Show the rules").click()
    page.get_by_text("is not a SID").first.wait_for()
    problems += problems_of(page, f"export-refused-{look}")
    assert problems == []


@pytest.mark.parametrize("look", LOOKS)
def test_pages_of_an_empty_server(
    empty_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], look: str
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(empty_site, theme=theme, size=size)
    problems = []
    for name, path in (("login", "/login"), ("invitation-gone", "/invitation/invented"), ("blocked", "/blocked")):
        page.goto(path)
        problems += problems_of(page, f"{name}-{look}")
    sign_in(page, empty_site)
    for name in (
        "overview",
        "sightings",
        "groups",
        "jobs",
        "hosts",
        "versions",
        "policies",
        "exports",
        "agents",
        "requests",
    ):
        page.goto(PAGES[name])
        problems += problems_of(page, f"empty-{name}-{look}")
    assert problems == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("javascript", [True, False], ids=["with-javascript", "without-javascript"])
def test_an_output_is_read_and_a_request_answered(
    empty_site: object,
    open_page: Callable[..., tuple[Page, object]],
    sign_in: Callable[..., None],
    look: str,
    javascript: bool,
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(empty_site, theme=theme, size=size, javascript=javascript)
    page.goto("/blocked")
    page.get_by_label("Output of uv").fill(REFUSED)
    page.get_by_role("button", name="Find out").click()
    page.get_by_text("A policy blocked this").wait_for()
    page.get_by_label("How to reach you").fill("bob@example.com")
    page.get_by_label("What you need it for").fill("The linter of our repository.")
    assert page.locator("#text").input_value() == (REFUSED if javascript else "")
    if javascript:  # axe is JavaScript itself
        assert problems_of(page, f"blocked-answer-{look}") == []
    page.get_by_role("button", name="Ask for access").click()
    page.get_by_text("You are the first to ask").wait_for()
    if javascript:
        assert problems_of(page, f"blocked-asked-{look}") == []
        page.get_by_label("Output of uv").fill("x" * 300_000)
        page.get_by_role("button", name="Find out").click()
        page.get_by_text("more than can be read here").wait_for()
    sign_in(page, empty_site)
    page.goto("/requests")
    if javascript:
        assert problems_of(page, f"requests-{look}") == []
    page.get_by_label("Answer to all who ask").fill("A rule comes on Monday.")
    page.get_by_label("State").select_option("answered")
    page.get_by_role("button", name="Save the answer").click()
    page.get_by_text("No request for access waits").wait_for()
    page.goto("/blocked")
    page.get_by_label("Output of uv").fill(REFUSED)
    page.get_by_role("button", name="Find out").click()
    page.get_by_text("A rule comes on Monday.").wait_for()
    if javascript:
        assert problems_of(page, f"blocked-answered-{look}") == []


def test_a_made_fleet_says_so(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(made_site)
    sign_in(page, made_site)
    page.goto("/")
    page.get_by_text("A made fleet.").wait_for()
    assert problems_of(page, "made-overview-light") == []


def test_a_menu_opens_on_a_phone_by_keyboard(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site, size=PHONE)
    sign_in(page, fleet_site)
    assert not page.get_by_role("link", name="Hosts", exact=True).is_visible()
    page.locator("summary[aria-label=Menu]").focus()
    page.keyboard.press("Enter")
    assert problems_of(page, "menu-phone") == []
    page.get_by_role("link", name="Hosts", exact=True).click()
    page.wait_for_url("**/hosts")


def test_pages_weigh_little(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None]
) -> None:
    page, _ = open_page(fleet_site)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    sign_in(page, fleet_site)
    first = sum(sizes)
    assert 10_000 < first < MAX_FIRST_BYTES
    for path in ("/", "/hosts", "/patterns"):
        page.goto(path)
        sizes.clear()
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert 500 < sum(sizes) < MAX_LATER_BYTES, path
