"""Health: administrators see how well facts are shared, and the overview tells them when they are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.base import now
from app.fleet.make import make_fleet
from app.fleet.sharing import ENOUGH_USERS, measure_sharing

MANY = 2 * ENOUGH_USERS
"""So many that ten places for uv, with its versions, are few beside them."""


def measured(engine: Engine, profile: str, hosts: int) -> None:
    make_fleet(engine, hosts, profile=profile)
    with engine.connect() as connection:
        measure_sharing(connection, now())


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_may_not(signed_in: Callable[[str], TestClient], role: str) -> None:
    assert signed_in(role).get("/health").status_code == 403


def test_anonymous_people_are_led_to_the_login(anonymous: TestClient) -> None:
    answer = anonymous.get("/health")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/health")


def test_before_the_first_measure_it_says_when(signed_in: Callable[[str], TestClient]) -> None:
    page = signed_in("administrator").get("/health")
    assert page.status_code == 200
    assert "Nothing was measured yet." in page.text
    assert "None: counts are as new as the last report." in page.text


def test_a_small_fleet_is_not_judged(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    measured(engine, "diverse", 40)
    page = signed_in("administrator").get("/health").text
    assert page.count("too few users to tell") == 5
    assert "well shared" in page


def test_what_is_hardly_shared_is_said_and_why(
    signed_in: Callable[[str], TestClient], engine: Engine, statements: list[str]
) -> None:
    measured(engine, "diverse", MANY)
    client = signed_in("administrator")
    statements.clear()
    page = client.get("/health").text
    assert len([one for one in statements if one.startswith("SELECT")]) <= 5
    assert "<strong>Users’ groups</strong> are hardly shared" in page
    assert page.count('class="state state-blocked"') == 1
    assert page.count('class="state state-open"') == 4
    assert "agents report every group" in page
    overview = client.get("/").text
    assert "Workstations hardly share their facts" in overview
    assert f"{MANY:,} distinct sets of <em>token</em>" in overview
    assert 'href="/health"' in overview


def test_the_overview_says_it_to_administrators_alone(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    measured(engine, "diverse", MANY)
    overview = signed_in("viewer").get("/")
    assert overview.status_code == 200
    assert "hardly share" not in overview.text


def test_a_fleet_that_is_alike_is_well_shared(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    measured(engine, "uniform", MANY)
    client = signed_in("administrator")
    page = client.get("/health").text
    assert "Facts are <strong>well shared</strong>" in page
    assert page.count('class="state state-open"') == 5
    assert "hardly share" not in client.get("/").text
