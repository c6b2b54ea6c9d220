"""Every route of the application asks for a permission first, but for a short list that is public on purpose."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from app.accounts.roles import PERMISSIONS, Permission, Role
from app.accounts.tokens import create_token
from app.db.session import session_scope
from app.web.guards import Guard
from tests.app.web.permissions import ROUTES

PUBLIC = {
    "/healthz",
    "/readyz",
    "/login",
    "/login/code",
    "/login/sso",
    "/login/sso/callback",
    "/invitation/{token}",
    "/blocked",
    "/blocked/ask",
    "/static",
    # Where machines talk: each route checks the host's token or an enrolment secret itself.
    "/api/v1/enrol",
    "/api/v1/reports",
    "/api/v1/catalogue",
}
BASE_URL = "http://wayleave.example"
ENDS_THE_WALK = {"/logout"}
"""Whoever opens it is nobody from then on."""


def walk(routes: list[BaseRoute]) -> Iterator[tuple[str, BaseRoute]]:
    """Every route with its path, also those inside an included router or a mount."""
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner and not isinstance(route, Mount):
            yield from walk(list(inner))
        else:
            yield getattr(route, "path", repr(route)), route


def guards_of(dependant: Dependant) -> list[Guard]:
    """The guards among a route's dependencies."""
    return [one.call for one in dependant.dependencies if isinstance(one.call, Guard)]


def test_every_route_is_guarded(app: FastAPI) -> None:
    checked = 0
    for path, route in walk(list(app.routes)):
        if path in PUBLIC:
            continue
        assert isinstance(route, APIRoute), f"{path} is no guarded route and not on the public list"
        guards = guards_of(route.dependant)
        assert len(guards) == 1, f"{path} has {len(guards)} guards"
        first = next(iter(inspect.signature(route.endpoint).parameters))
        assert first in ("person", "caller"), f"{path}: the guard stands first, before a connection is taken"
        checked += 1
    assert checked >= 180


def test_every_route_asks_for_the_permission_that_is_written_down(app: FastAPI) -> None:
    asked = {
        f"{method} {path}": guards_of(route.dependant)[0].permission
        for path, route in walk(list(app.routes))
        if isinstance(route, APIRoute) and path not in PUBLIC
        for method in route.methods
    }
    written = {one: permission for permission, routes in ROUTES.items() for one in routes}
    assert len(written) == sum(len(routes) for routes in ROUTES.values()), "a route stands under two permissions"
    assert asked == written
    assert len(asked) >= 190


def test_nothing_public_has_gone(app: FastAPI) -> None:
    there = {path for path, _ in walk(list(app.routes))}
    assert {"/healthz", "/readyz", "/login", "/invitation/{token}", "/static"} <= there


def test_every_page_leads_anonymous_people_to_the_login(app: FastAPI, anonymous: TestClient) -> None:
    for path, route in walk(list(app.routes)):
        if path in PUBLIC or not isinstance(route, APIRoute):
            continue
        for method in route.methods:
            answer = anonymous.request(method, path.replace("{", "").replace("}", ""))
            if path.startswith("/api/"):
                assert answer.status_code == 401, path
            else:
                assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login"), path


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_what_its_permissions_say_and_nothing_else(
    app: FastAPI, signed_in: Callable[[str], TestClient], role: Role
) -> None:
    """Every path by every method, as a person and, of the API, as a program. Who may not is refused before anything
    else is looked at; who may gets past the guard, whatever becomes of a number that is none and an empty form."""
    client = signed_in(role)
    with session_scope(app.state.engine) as session:
        token = create_token(session, role, "walk", None)
    program = TestClient(app, base_url=BASE_URL, headers={"Authorization": f"Bearer {token}"}, follow_redirects=False)
    checked = 0
    for permission, routes in ROUTES.items():
        for one in routes:
            method, _, path = one.partition(" ")
            if path in ENDS_THE_WALK:
                continue
            is_api = path.startswith("/api/")
            for asking in (client, program) if is_api else (client,):
                answer = asking.request(method, path)
                if permission in PERMISSIONS[role]:
                    assert answer.status_code not in (401, 403), (one, role)
                else:
                    assert answer.status_code == 403, (one, role)
                    assert ("role" if is_api else "Your role") in answer.text
            checked += 1
    assert checked >= 190


def test_each_role_includes_the_one_before() -> None:
    ladder = [PERMISSIONS[role] for role in Role]
    assert all(lower < higher for lower, higher in itertools.pairwise(ladder))
    assert ladder[-1] == set(Permission)


def test_the_walk_would_find_an_unguarded_route(app: FastAPI) -> None:
    app.router.routes.append(Route("/open-by-mistake", lambda request: None))
    with pytest.raises(AssertionError, match="open-by-mistake"):
        test_every_route_is_guarded(app)
