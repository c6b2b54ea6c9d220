"""A fragment is a block that is rendered alone: it sees nothing that its page sets or defines outside of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from jinja2 import nodes
from lxml import html
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.fleet.make import make_fleet
from app.settings import bundled
from app.web import pages
from app.web.templating import environment

CALLS = re.compile(r'"([a-z_]+/[a-z_]+\.html)",\s*fragment="([a-z_]+)"')


def fragments() -> list[tuple[str, str]]:
    """Each template that is asked for a fragment of, with the fragment's name."""
    folder = Path(pages.__file__).parent
    return sorted({found for path in folder.glob("*.py") for found in CALLS.findall(path.read_text())})


def names_of_the_page(template: nodes.Template) -> set[str]:
    """What a template sets or defines outside its blocks."""
    found: set[str] = set()
    for node in template.body:
        if isinstance(node, nodes.Assign):
            found |= {name.name for name in node.find_all(nodes.Name) if name.ctx == "store"}
        elif isinstance(node, nodes.Macro):
            found.add(node.name)
    return found


@pytest.mark.parametrize(("name", "fragment"), fragments())
def test_it_uses_nothing_of_its_page(name: str, fragment: str) -> None:
    made = environment()
    assert made.loader is not None
    template = made.parse(made.loader.get_source(made, name)[0])
    blocks = [one for one in template.find_all(nodes.Block) if one.name == fragment]
    assert len(blocks) == 1, f"{name} has no block {fragment}"
    own = {one.name for one in blocks[0].find_all(nodes.Macro)}
    own |= {one.name for one in blocks[0].find_all(nodes.Name) if one.ctx == "store"}
    used = {one.name for one in blocks[0].find_all(nodes.Name) if one.ctx == "load"}
    assert sorted((used - own) & names_of_the_page(template)) == []


def test_there_are_fragments() -> None:
    assert len(fragments()) >= 12


FILTERS = (
    "/?group={group}",
    "/workflows?works=told",
    "/patterns?state=open",
    "/versions?days=30",
    "/sightings?by=path",
    "/hosts?standing=counted",
    "/policies/{policy}?days=30",
    "/relocation?show=1&project_roots=D:%5Csrc",
    "/rule-sets?q=a",
    "/exports?q=a",
    "/audit?q=a",
    "/notices?state=all",
    "/groups?q=e",
    "/search?q=o",
)


def asks_for_a_part(element: html.HtmlElement) -> bool:
    """Whether htmx asks for a fragment, or for what is in the frame, where this form is sent or this link followed."""
    if element.get("hx-get") is not None and element.get("hx-target") is not None:
        return True
    boosted = element.xpath("ancestor-or-self::*[@hx-boost][1]/@hx-boost")
    return boosted == ["true"] and bool(element.xpath("ancestor-or-self::*[@hx-target]"))


def ways_on(main: html.HtmlElement, path: str) -> Iterator[html.HtmlElement]:
    """The forms and links of a page that lead to the same page: its filters, tabs, chips and pagers."""
    for form in main.xpath(".//form[not(@method='post') and not(@method='dialog')]"):
        if urlsplit(form.get("action")).path == path:
            yield form
    for link in main.xpath(".//a[@href and not(@download)]"):
        if urlsplit(link.get("href")).path == path:
            yield link


REST = r"(?:\{\{.*?\}\}|\{%.*?%\}|[^>])*"
LISTED = re.compile(
    rf'<form class="filters{REST}>|<form(?:(?!>).)*?slider-form{REST}>|<nav class="(?:pager|tabs|spans){REST}>'
)


def test_no_filter_tab_or_pager_loads_its_page_whole() -> None:
    """By the templates: most pagers are not there before a list is long."""
    tags = [
        (path.parent.name, tag)
        for path in sorted(Path(bundled("templates")).rglob("*.html"))
        for tag in LISTED.findall(path.read_text())
    ]
    assert [(place, tag) for place, tag in tags if not re.search(r"\shx-(get|boost)=", tag)] == []
    assert len(tags) >= 30


def test_a_filter_is_answered_with_what_stands_in_the_frame(
    engine: Engine, signed_in: Callable[[str], TestClient]
) -> None:
    make_fleet(engine, 60, seed=3)
    client = signed_in("administrator")
    policy = re.search(r'href="/policies/(\d+)"', client.get("/policies").text)
    assert policy is not None
    asked = {"HX-Request": "true", "HX-Boosted": "true", "HX-Target": "main"}
    group = re.search(r'href="/\?group=(\d+)"', client.get("/").text)
    assert group is not None
    wrong, without = [], []
    for path in (one.format(policy=policy[1], group=group[1]) for one in FILTERS):
        whole, part = client.get(path), client.get(path, headers=asked)
        assert whole.status_code == part.status_code == 200, path
        assert "<html" in whole.text
        assert "<html" not in part.text, path
        assert part.text.lstrip().startswith("<title>"), path
        assert part.text.count("<h1") == whole.text.count("<h1") == 1, path
        assert 'class="side' not in part.text, path
        assert "HX-Target" in part.headers["Vary"]
        here = urlsplit(path).path
        ways = list(ways_on(html.fromstring(whole.text).get_element_by_id("main"), here))
        without += [] if ways else [path]
        wrong += [(path, html.tostring(one)[:160]) for one in ways if not asks_for_a_part(one)]
        # Who goes back in the browser wants the page.
        back = client.get(path, headers=asked | {"HX-History-Restore-Request": "true"})
        assert "<html" in back.text, path
    assert wrong == []
    assert without == ["/notices?state=all"]  # there are none
