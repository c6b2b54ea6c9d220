"""Values that nobody types, in every place of every route, on both databases: refused or found nothing, never a 500."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.db.session import session_scope
from app.fleet.make import make_fleet
from tests.app.web.conftest import BASE_URL, PASSWORD
from tests.app.web.test_guards import walk

ODD = {"a NUL": "%00", "half a surrogate": "%ed%a0%80", "a number beyond all": "9" * 30}
DATES = {"the first day": "0001-01-01", "the last day": "9999-12-31"}
# What ends the session that asks, or says something to outside.
LEFT_OUT = {"/logout"}


def names_of(dependant: Dependant, kind: str) -> Iterator[str]:
    """The names of parameters of a kind, also of what the route depends on."""
    yield from (one.alias for one in getattr(dependant, f"{kind}_params"))
    for inner in dependant.dependencies:
        yield from names_of(inner, kind)


@pytest.fixture
def administrator(server: FastAPI) -> Iterator[TestClient]:
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", PASSWORD, "administrator")
    make_fleet(server.state.engine, 12)
    with TestClient(server, base_url=BASE_URL, follow_redirects=False, raise_server_exceptions=False) as client:
        assert client.post("/login", data={"email": "ada@example.com", "password": PASSWORD}).status_code == 303
        yield client


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_no_route_answers_500(server: FastAPI, administrator: TestClient, odd: str) -> None:
    wrong = []
    asked = 0
    for path, route in walk(list(server.routes)):
        if not isinstance(route, APIRoute) or path in LEFT_OUT:
            continue
        query = "&".join(f"{name}={odd}" for name in names_of(route.dependant, "query"))
        form = "&".join(f"{name}={odd}" for name in names_of(route.dependant, "body"))
        for address in {re.sub(r"\{[^}]*\}", odd, path), re.sub(r"\{[^}]*\}", "1", path)}:
            for method in sorted(route.methods - {"HEAD"}):
                answer = administrator.request(
                    method,
                    f"{address}?{query}",
                    content=form if method != "GET" else None,
                    headers={"Content-Type": "application/x-www-form-urlencoded"} if method != "GET" else {},
                )
                asked += 1
                if answer.status_code >= 500:
                    wrong.append((method, address, answer.status_code))
    assert wrong == []
    assert asked > 50


@pytest.mark.postgresql
@pytest.mark.parametrize("odd", [*ODD.values(), *DATES.values()], ids=[*ODD, *DATES])
def test_no_parameter_of_an_address_answers_500(server: FastAPI, administrator: TestClient, odd: str) -> None:
    """Each alone: together, what is refused first hides the others. PostgreSQL is the stricter of the two."""
    if server.state.settings.is_sqlite:
        return
    asked = {
        f"{re.sub(r'{[^}]*}', '1', path)}?{name}={odd}"
        for path, route in walk(list(server.routes))
        if isinstance(route, APIRoute) and path not in LEFT_OUT and "GET" in route.methods
        for name in names_of(route.dependant, "query")
    }
    answers = {address: administrator.get(address).status_code for address in sorted(asked)}
    assert {address: status for address, status in answers.items() if status >= 500} == {}
    assert len(answers) > 200
