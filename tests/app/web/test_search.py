"""Search everywhere: hosts, patterns, commands, versions, groups, tags and sections, each led to where it is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.db.session import session_scope
from app.fleet.hosts import find_named_hosts
from app.fleet.make import make_fleet
from app.fleet.tables import Host
from app.fleet.tags import tag_hosts


@pytest.fixture
def viewer(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    make_fleet(engine, 60, seed=2)
    with session_scope(engine) as session:
        tag_hosts(session, "ring 1", find_named_hosts(session, session.scalars(select(Host.name))), actor=COMMAND_LINE)
    return signed_in("viewer")


@pytest.mark.parametrize(
    ("wanted", "links"),
    [
        ("FIN-", ["/hosts/", "Finance"]),
        ("builds-venv", ["/patterns/cache-builds-venv-python"]),
        ("uv sync", ["/hosts?workflow=sync-build&amp;verdict=blocked"]),
        ("engin", ["/hosts?group="]),
        ("ring", ["/hosts?tag=ring+1"]),
        ("0.13", ["/hosts?version=0.13.8"]),
        ("sighting", ["/sightings"]),
    ],
)
def test_what_has_the_name_is_found(viewer: TestClient, wanted: str, links: list[str]) -> None:
    page = viewer.get("/search", params={"q": wanted})
    assert page.status_code == 200
    found = page.text.split('<main id="main"')[1]
    for link in links:
        assert link in found


def test_the_one_of_exactly_this_name_is_opened(viewer: TestClient, engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        host_id, name = session.execute(select(Host.id, Host.name).limit(1)).one()
    answer = viewer.get("/search", params={"q": f" {name.lower()} "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/hosts/{host_id}")
    # Where htmx asks, the browser opens it: the scripts of that page come with the whole page alone.
    asked = {"HX-Request": "true", "HX-Boosted": "true", "HX-Target": "main"}
    answer = viewer.get("/search", params={"q": name}, headers=asked)
    assert (answer.status_code, answer.headers["hx-redirect"], answer.text) == (204, f"/hosts/{host_id}", "")


def test_sections_that_one_may_not_open_are_not_found(viewer: TestClient) -> None:
    assert 'href="/jobs"' not in viewer.get("/search?q=jobs").text


def test_nothing_found_and_nothing_asked(viewer: TestClient) -> None:
    assert "Nothing found" in viewer.get("/search", params={"q": "<b>none</b>"}).text
    assert "<b>none</b>" not in viewer.get("/search", params={"q": "<b>none</b>"}).text
    assert "Search hosts, patterns" in viewer.get("/search").text


def test_the_number_of_statements_is_bounded(viewer: TestClient, statements: list[str]) -> None:
    viewer.get("/search", params={"q": "FIN"})
    assert len(statements) <= 18


def test_anonymous_people_sign_in_first(anonymous: TestClient) -> None:
    assert anonymous.get("/search?q=a").headers["location"].startswith("/login")
