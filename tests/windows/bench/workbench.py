"""What people do on the pages of rule sets, with forms alone: from a blocked pattern to a package that was approved.

One person writes the draft, another approves it. Everything is read from the pages that they would look at.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from xml.etree import ElementTree

import httpx

from tests.windows.bench.server import PASSWORD, Server, command, parse

APPROVER = "approver@example.com"
USERS = "S-1-5-32-545 Users"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a pattern is to be opened: a kind of candidate, and for files that no name tells, which trusted ones."""

    kind: str
    files: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What the page of the simulation says: of each pattern asked for in how many users it opens and stays blocked,
    what opens besides, and what else stays blocked.
    """

    opens: Mapping[str, int]
    still: Mapping[str, int]
    beyond: frozenset[str]
    rest: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An approved export: its page, and its files by name."""

    address: str
    files: Mapping[str, bytes]

    def variables(self) -> dict[str, str]:
        """The environment variables of the package's Group Policy preferences, as Windows would set them."""
        root = ElementTree.fromstring(self.files["environment.xml"])
        set_by = [one.attrib for one in root.iter("Properties")]
        return {one["name"]: one["value"].replace("%ProgramFiles%", r"C:\Program Files") for one in set_by}


@contextmanager
def second_person(server: Server) -> Iterator[httpx.Client]:
    """The browser of somebody who may approve what another wrote."""
    command(server.environment, "admin", "create", "--email", APPROVER, "--password-stdin", told=f"{PASSWORD}\n")
    with httpx.Client(base_url=server.url, timeout=30) as browser:
        post(browser, "/login", {"email": APPROVER, "password": PASSWORD})
        yield browser


def draft_rules(server: Server, ways: Mapping[str, Way], base: str) -> str:
    """Takes blocked patterns into a new rule set for ordinary users, each in its way; the rule set's address.

    raises: AssertionError where a page does not offer what is to be chosen.
    """
    blocked = server.blocked_patterns()
    offered = set(parse(server.page("/rule-sets/new")).xpath("//input[@name='pattern']/@value"))
    assert set(ways) <= blocked & offered, (sorted(ways), sorted(blocked), sorted(offered))
    address = post(server.browser, "/rule-sets", {"pattern": sorted(ways)})
    file = {"base_file": ("base.xml", base, "text/xml")}
    answer = server.browser.post(f"{address}/base", data={"name": "Workstations"}, files=file)
    assert answer.status_code == 303, answer.text[:3000]
    page = parse(server.page(address))
    (number,) = page.xpath("//input[@name='revision']/@value")
    (base_id,) = page.xpath("//select[@name='base']//option[@selected]/@value")
    terms = {"base": base_id, "groups": USERS, "project_roots": "C:\\src", "revision": number}
    post(server.browser, f"{address}/terms", terms)
    for pattern, way in ways.items():
        page_of_ways = parse(server.page(f"{address}/patterns/{pattern}"))
        form = f"//form[contains(@action, '/{pattern}/choose')][input[@name='kind' and @value='{way.kind}']]"
        assert way.files or page_of_ways.xpath(form), f"{pattern}: nobody is offered {way.kind}"
        post(server.browser, f"{address}/patterns/{pattern}/choose", {"kind": way.kind, "file": list(way.files)})
    assert server.page(f"{address}/plan")
    return address


def simulate(server: Server, address: str) -> Foretold:
    """Judges a draft against the fleet; what the page then says."""
    post(server.browser, f"{address}/what-if", {})
    deadline = time.monotonic() + 30
    while (page := parse(server.page(f"{address}/what-if"))).xpath("//*[@hx-trigger='every 2s']"):
        assert time.monotonic() < deadline, "the simulation does not end"
        time.sleep(0.2)
    opens, still = {}, {}
    for row in page.xpath("//section[@aria-labelledby='asked-title']//tbody/tr[th]"):
        pattern = row.xpath("string(th//a/@href)").removeprefix("/patterns/")
        opens[pattern] = int(row.xpath("string(td[@data-label='Newly allowed']/text())").strip())
        still[pattern] = int(row.xpath("string(td[@data-label='Still blocked'])").strip())
    beyond = page.xpath("//section[@aria-labelledby='beyond-title']//tbody//th/a/@href")
    rest = page.xpath("//details[summary[contains(., 'What else stays blocked')]]//a/@href")
    return Foretold(
        opens=opens,
        still=still,
        beyond=frozenset(link.removeprefix("/patterns/") for link in beyond),
        rest=frozenset(link.removeprefix("/patterns/") for link in rest),
    )


def approve_and_export(server: Server, approver: httpx.Client, address: str, delivery: str = "local") -> Package:
    """Hands a draft in, lets the other person approve what they see, and takes the package."""
    post(server.browser, f"{address}/submit", {})
    seen = re.search(r'name="digest" value="([0-9a-f]{64})"', approver.get(f"{address}/review").text)
    assert seen is not None
    assert server.browser.post(f"{address}/approve", data={"digest": seen[1]}).status_code == 403  # their own work
    post(approver, f"{address}/approve", {"digest": seen[1], "note": "as simulated"})
    post(server.browser, f"{address}/export", {"delivery": delivery, "ring": "all"})
    (link, *_) = parse(server.page(f"{address}/export")).xpath("//a[contains(@href, '/bundle')]/@href")
    answer = server.browser.get(link)
    assert answer.status_code == 200, answer.text[:2000]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return Package(address=address, files=files)


def trusted_files(server: Server, paths: Sequence[str]) -> tuple[int, ...]:
    """Records files of this machine as trusted; their numbers."""
    said = command(server.environment, "baseline", "add", *paths, "--source", "trusted machine")
    return tuple(int(line.split()[1]) for line in said.splitlines() if line.split()[:1] in (["added"], ["known"]))


def post(browser: httpx.Client, path: str, data: Mapping[str, object]) -> str:
    """Sends a form; where it leads. raises: AssertionError with what the page says otherwise."""
    answer = browser.post(path, data=dict(data))
    assert answer.status_code == 303, f"{path}: {answer.status_code}\n{unescape(answer.text)[:3000]}"
    return answer.headers["location"].partition("#")[0]
