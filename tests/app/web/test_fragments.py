"""A fragment is a block that is rendered alone: it sees nothing that its page sets or defines outside of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import nodes
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.fleet.make import make_fleet
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
    "/?group=1",
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
)


def test_a_filter_is_answered_with_what_stands_in_the_frame(
    engine: Engine, signed_in: Callable[[str], TestClient]
) -> None:
    make_fleet(engine, 60, seed=3)
    client = signed_in("administrator")
    policy = re.search(r'href="/policies/(\d+)"', client.get("/policies").text)
    assert policy is not None
    asked = {"HX-Request": "true", "HX-Boosted": "true", "HX-Target": "main"}
    for path in (one.format(policy=policy[1]) for one in FILTERS):
        whole, part = client.get(path), client.get(path, headers=asked)
        assert whole.status_code == part.status_code == 200, path
        assert "<html" in whole.text
        assert "<html" not in part.text, path
        assert part.text.lstrip().startswith("<title>"), path
        assert part.text.count("<h1") == whole.text.count("<h1") == 1, path
        assert 'class="side' not in part.text, path
        assert 'hx-boost="true"' in whole.text or "hx-get=" in whole.text, path
        assert "HX-Target" in part.headers["Vary"]
        # Who goes back in the browser wants the page.
        back = client.get(path, headers=asked | {"HX-History-Restore-Request": "true"})
        assert "<html" in back.text, path
