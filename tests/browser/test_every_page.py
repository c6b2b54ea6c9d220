"""Every page in both themes and on a phone: no axe violation, nothing cut off, nothing foreign, light enough.

Pictures of all of them stay in artefacts/screenshots.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.routing import APIRoute
from playwright.sync_api import Page
from pyotp import TOTP
from starlette.routing import Match

from app.accounts.create import create_account
from app.db.session import session_scope
from tests.app.web.test_guards import walk
from tests.browser.pages import NO_PAGES, PAGES, SCREENSHOTS, SIGNED_OUT

pytestmark = pytest.mark.browser

DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
REFUSED = "> uv run ruff check\nerror: Failed to spawn: `ruff`\n  Caused by: blockiert (os error 1260)\n"
# A dark phone would tell nothing new: what is too wide is so in any colour, and colours are those of the dark desktop.
LOOKS = {
    "light": ("light", DESKTOP),
    "dark": ("dark", DESKTOP),
    "phone": ("light", PHONE),
}
# Pages of the made fleet, which has a month behind it, and the picture that each must have drawn.
WITH_DAYS = {
    "overview": ("/", "[data-chart=trend] svg"),
    "versions": ("/versions", "[data-chart=stack] svg"),
    "sightings": ("/sightings", "[data-chart=days] svg"),
    "workflows": ("/workflows", ".wf-table"),
}
MAX_FIRST_BYTES = 600_000
MAX_LATER_BYTES = 30_000
MAX_REQUESTS = 14
# Pages that load more once they are there: a chart's library, or what takes longer to find out.
ASKS_FOR_MORE = {"overview", "sightings", "versions", "rule-set-plan", "kept-export", "preflight"}
# All rules in every look, also where a theme should have changed colours alone.
AXE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}


# Words of text, not of code, paths or digests, that stand on two lines.
BROKEN_WORDS = r"""() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!parent.checkVisibility() || parent.closest("code, pre, script, option, svg, .visually-hidden")) continue;
    for (const word of node.data.matchAll(/(?<![\p{L}\p{N}\\%_.])\p{L}{4,18}(?![\p{L}\p{N}\\%_])/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].filter((box) => box.width).map((box) => Math.round(box.top)));
      if (lines.size > 1) found.push(`${word[0]} in <${parent.tagName.toLowerCase()} class="${parent.className}">`);
    }
  }
  return found;
}"""


def addresses(page: Page) -> dict[str, str]:
    """The pages of somebody who is signed in, with the number that the first policy got."""
    page.goto("/policies")
    policy = page.locator("a[href^='/policies/']").first.get_attribute("href")
    assert policy is not None
    return {name: path.format(policy=policy.rpartition("/")[2]) for name, path in PAGES.items()}


def problems_of(page: Page, name: str) -> list[str]:
    """Axe violations, content wider than the screen, words cut in two; makes a picture to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    problems = [f"{name} is {wider} pixels too wide"] if wider > 0 else []
    problems += [f"{name} breaks a word: {word}" for word in page.evaluate(BROKEN_WORDS)]
    for violation in Axe().run(page, options=AXE).response["violations"]:
        for node in violation["nodes"]:
            problems.append(f"{name}: {violation['id']}: {node['target']} {node['failureSummary']}")
    return problems


def test_every_page_of_the_application_is_looked_at(fleet_site: object) -> None:
    routes = [
        route
        for path, route in walk(list(fleet_site.app.routes))
        if isinstance(route, APIRoute) and "GET" in route.methods and not path.startswith("/api/")
    ]
    paths = [path.format(policy=1).partition("?")[0] for path in (*PAGES.values(), *SIGNED_OUT.values())]
    seen = set()
    for path in paths:
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "root_path": ""}
        seen |= set([route.path for route in routes if route.matches(scope)[0] is Match.FULL][:1])
    there = {route.path for route in routes}
    assert there - seen - NO_PAGES == set(), "add these to tests/browser/pages.py"
    assert there >= NO_PAGES, "these are gone"


@pytest.mark.parametrize("look", LOOKS)
def test_pages_for_people_who_are_signed_in(
    fleet_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], look: str
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(fleet_site, theme=theme, size=size)
    sign_in(page, fleet_site)
    problems = []
    for name, path in addresses(page).items():
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
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("look", LOOKS)
def test_pages_of_an_empty_server(
    empty_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], look: str
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(empty_site, theme=theme, size=size)
    problems = []
    for name in ("login", "invitation-gone", "blocked"):
        page.goto(SIGNED_OUT[name])
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
    with session_scope(empty_site.app.state.engine) as session:
        create_account(session, "viewer@example.com", "correct horse battery", "viewer")
    page.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("E-mail address").fill("viewer@example.com")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    page.goto("/settings")
    problems += problems_of(page, f"forbidden-{look}")
    problems += _problems_of_codes(page, look)
    assert not problems, "\n".join(problems)


def _problems_of_codes(page: Page, look: str) -> list[str]:
    """The pages around one-time codes, from setting them up to being asked for one."""
    page.goto("/account/codes")
    secret = page.locator("code", has_text=re.compile("^[A-Z2-7 ]{16,}$")).inner_text().replace(" ", "")
    page.get_by_label("Code of six digits").fill(TOTP(secret).now())
    page.get_by_role("button", name="Use one-time codes").click()
    page.get_by_role("heading", name=re.compile("recovery codes", re.I)).first.wait_for()
    problems = problems_of(page, f"recovery-codes-{look}")
    page.context.clear_cookies()
    page.goto("/login")
    page.get_by_label("E-mail address").fill("viewer@example.com")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**" + SIGNED_OUT["login-code"])
    return problems + problems_of(page, f"login-code-{look}")


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


@pytest.mark.parametrize("look", LOOKS)
def test_pages_with_charts_and_days_behind_them(
    made_site: object, open_page: Callable[..., tuple[Page, object]], sign_in: Callable[..., None], look: str
) -> None:
    theme, size = LOOKS[look]
    page, _ = open_page(made_site, theme=theme, size=size)
    sign_in(page, made_site)
    problems = []
    for name, (path, drawn) in WITH_DAYS.items():
        if page.url != made_site.url + path:
            page.goto(path)
        page.get_by_text("A made fleet.").wait_for()
        page.locator(drawn).first.wait_for()
        problems += problems_of(page, f"made-{name}-{look}")
    assert not problems, "\n".join(problems)


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
    fleet_site: object,
    made_site: object,
    open_page: Callable[..., tuple[Page, object]],
    sign_in: Callable[..., None],
) -> None:
    first: dict[str, float] = {}
    heaviest = {"first": (0.0, ""), "later": (0.0, ""), "requests": (0.0, "")}
    for site in (fleet_site, made_site):
        page, watch = open_page(site)
        sign_in(page, site)
        page.wait_for_load_state("networkidle")  # what signing in led to is weighed by its own name
        paths = (
            addresses(page) if site is fleet_site else {f"made-{name}": path for name, (path, _) in WITH_DAYS.items()}
        )
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
        for name, path in paths.items():
            network.send("Network.clearBrowserCache")
            for when in ("first", "later"):
                sizes.clear()
                watch.requests.clear()
                page.goto(path)
                page.wait_for_load_state("networkidle" if name.removeprefix("made-") in ASKS_FOR_MORE else "load")
                heaviest[when] = max(heaviest[when], (sum(sizes), name))
                assert sum(sizes) > 500, name
                first.setdefault(name, sum(sizes))
            heaviest["requests"] = max(heaviest["requests"], (len(watch.requests), name))
    print(heaviest)
    assert heaviest["first"][0] < MAX_FIRST_BYTES
    assert heaviest["later"][0] < MAX_LATER_BYTES
    assert heaviest["requests"][0] <= MAX_REQUESTS
    assert min(first["made-overview"], first["made-versions"]) > 200_000, "a chart that is not drawn weighs nothing"
