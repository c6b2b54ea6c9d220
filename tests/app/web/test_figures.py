"""Every figure of users leads to its list, and the list has as many: overview, patterns, commands, groups, policies."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from lxml import html
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.db.base import now
from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.fold import ContributionCache, fold
from app.fleet.standing import HostState
from app.fleet.tables import Host, Pulse, Subject

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)

FIGURE = re.compile(r"(?:^|: |> )([\d,]+)(?: of | |$)")
VERSION = re.compile(r"\d+\.\d+\.\d+")
# What is no count of users, hosts or commands as they are now: counts of days gone by, scales, times, a list's length.
NO_COUNTS = (
    "self::script or self::option or self::time or self::code or ancestor::form or ancestor::code or "
    "ancestor-or-self::*[contains(@class, 'shift-by') or contains(@class, 'was') or contains(@class, 'heat-key')] or "
    "ancestor-or-self::*[contains(@class, 'as-of') or contains(@class, 'visually-hidden') or @id='trend'] or "
    "self::h2 or ancestor::h2 or ancestor::nav"
)


@pytest.fixture
def viewer(app: FastAPI, engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    """Somebody who looks at a fleet in which those who do not count are blocked, too, and have old uvs."""
    everywhere = (*small_fleet.CACHE, *small_fleet.PYTHON)
    apart = [
        small_fleet.Machine(name="ADMIN-02", group="Sales", administrator=True, blocked=everywhere, version="0.12.9"),
        small_fleet.Machine(name="KIOSK-02", group="Engineering", enforcing=False, version="0.12.9"),
        small_fleet.Machine(name="STRAY-01", group="Sales", blocked=everywhere, version="0.12.9"),
        small_fleet.Machine(name="GAP-01", group="Engineering", blocked=everywhere),
    ]
    stray = apart[2]
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [*small_fleet.machines(), *apart])
        with session_scope(engine) as session:
            session.execute(update(Host).where(Host.name == stray.name).values(state=HostState.QUARANTINED.value))
        stray.version = "0.12.8"
        stray.report(agents)
    with session_scope(engine) as session:
        hosts = select(Host.id).where(Host.name == "GAP-01")
        subjects = select(Subject.id).where(Subject.host_id.in_(hosts))
        session.execute(update(Pulse).where(Pulse.subject_id.in_(subjects)).values(missed=3))
        session.execute(update(Host).where(Host.name.in_(["SALES-001", "ENG-002"])).values(attested=False))
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
        count_absent(connection, now())
    return signed_in("viewer")


def pages_of(viewer: TestClient) -> list[str]:
    """The overview of all and of each group, both lists, and a page of each kind of pattern."""
    groups = sorted(set(re.findall(r'href="(/\?group=\d+)"', viewer.get("/").text)))
    assert len(groups) == 3
    patterns = [f"/patterns/{one}" for one in ("cache-builds-venv-python", "venv-python", "uv-exe-standalone")]
    return ["/", *groups, "/patterns", *patterns, "/versions"]


def more_pages_of(viewer: TestClient) -> list[str]:
    """Pages that count other things besides: commands, of all and of each group, groups, policies and each of them."""
    groups = sorted(set(re.findall(r'href="/workflows\?group=(\d+)"', viewer.get("/workflows").text)))
    policies = sorted(set(re.findall(r'href="(/policies/\d+)"', viewer.get("/policies").text)))
    assert len(groups) == 3
    assert policies
    return ["/workflows", *(f"/workflows?group={one}" for one in groups), "/groups", "/policies", *policies]


def main_of(viewer: TestClient, path: str) -> html.HtmlElement:
    answer = viewer.get(path)
    assert answer.status_code == 200, path
    return html.fromstring(answer.text).get_element_by_id("main")


def figures_of(viewer: TestClient, path: str) -> Iterator[tuple[str, str, int]]:
    """Each link to a list of hosts that tells a number: its address, its words, the number."""
    for link in main_of(viewer, path).iterfind(".//a[@href]"):
        told = FIGURE.search(link.get("title") or " ".join(link.text_content().split()))
        if link.get("href").startswith("/hosts?") and told is not None:
            yield link.get("href"), link.text_content().strip(), int(told[1].replace(",", ""))


def test_each_figure_is_as_long_as_its_list(viewer: TestClient) -> None:
    listed: dict[str, int] = {}
    wrong, kinds = [], set()
    for path in [*pages_of(viewer), *more_pages_of(viewer)]:
        for address, words, figure in figures_of(viewer, path):
            query = urlsplit(address).query
            if address not in listed:
                # One user a host, so that as many lines are as many users.
                listed[address] = len(list(csv.reader(io.StringIO(viewer.get(f"/hosts.csv?{query}").text)))) - 1
            if listed[address] != figure:
                wrong.append(f"{path}: {words!r} says {figure}, {address} lists {listed[address]}")
            kinds |= parse_qs(query, keep_blank_values=True).keys()
    assert wrong == []
    assert kinds >= {"standing", "group", "pattern", "outcome", "workflow", "verdict", "version", "older", "install"}
    assert kinds >= {"gap", "attested", "policy", "state", "engine"}
    assert len(listed) > 100


def test_no_figure_stands_alone(viewer: TestClient) -> None:
    alone = []
    for path in (one for one in pages_of(viewer) if not one.startswith("/patterns/")):  # they quote the catalogue
        for element in main_of(viewer, path).xpath(f".//*[not(ancestor-or-self::a) and not({NO_COUNTS})]"):
            texts = [element.text or "", *(child.tail or "" for child in element)]
            alone += [f"{path}: {one.strip()!r}" for one in texts if re.search(r"\d", VERSION.sub("", one))]
    assert alone == [], "\n".join(alone)


def test_no_number_of_users_stands_alone_on_other_pages(viewer: TestClient) -> None:
    alone = []
    for path in more_pages_of(viewer):
        main = main_of(viewer, path)
        for element in main.xpath(".//*[not(ancestor-or-self::a) and not(self::script or ancestor::form)]"):
            texts = [element.text or "", *(child.tail or "" for child in element)]
            alone += [f"{path}: {one.strip()!r}" for one in texts if re.search(r"\d+ (users?|hosts?)\b", one)]
        columns = [head.text_content() for head in main.xpath(".//thead/tr/th")] if path == "/groups" else []
        for cell in main.xpath(".//tbody/tr/td[contains(@class, 'num')][not(.//a)]") if columns else []:
            alone.append(f"{path}: {cell.get('data-label')} {cell.text_content()}")
    # The sum of its column; each policy's own users are listed.
    assert alone == ["/policies: 'are in force for 30 users.'"], "\n".join(alone)


def test_the_commands_of_the_first_sentence_are_listed(viewer: TestClient) -> None:
    links = [one for one in main_of(viewer, "/").iterfind(".//h1//a") if one.get("href").startswith("/workflows")]
    assert len(links) >= 2
    for link in links:
        rows = main_of(viewer, link.get("href")).xpath(".//table[contains(@class, 'wf-table')]/tbody/tr")
        assert len(rows) == int(link.text_content().split()[0]), link.get("href")
