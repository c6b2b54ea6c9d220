"""What a page shows the API offers: each page has its twin there, or stands below with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from app.accounts.roles import PERMISSIONS, Role
from tests.app.web.test_guards import PUBLIC, guards_of, walk
from tests.browser.pages import PAGES

TWINS = {
    "/": ("overview", "overview/changes", "overview/apart", "heat-map", "trend", "workflows"),
    "/accounts": ("accounts", "invitations"),
    "/agents": ("agents", "agents/secrets", "agents/versions", "probing"),
    "/audit": ("audit",),
    "/audit.csv": ("audit",),
    "/audit.json": ("audit",),
    "/baseline": ("baseline", "baseline/archives"),
    "/blocked": ("blocked",),
    "/exports": ("exports",),
    "/exports/{export_id}": ("exports/{export_id}", "exports/{export_id}/arrival"),
    "/exports/{export_id}/after": ("exports/{export_id}/after",),
    "/exports/{export_id}/hosts": ("exports/{export_id}/hosts",),
    "/exports/{export_id}/what-if": ("exports/{export_id}/what-if",),
    "/groups": ("groups", "tags"),
    "/health": ("health",),
    "/hosts": ("hosts", "hosts/count"),
    "/hosts.csv": ("hosts",),
    "/hosts.json": ("hosts",),
    "/hosts/{host_id}": ("hosts/{host_id}", "hosts/{host_id}/tags", "hosts/{host_id}/workflows"),
    "/hosts/{host_id}/tried": ("hosts/{host_id}/sightings", "hosts/{host_id}/rights"),
    "/imports": ("imports",),
    "/imports/{import_id}": ("imports/{import_id}",),
    "/jobs": ("jobs",),
    "/notices": ("notices",),
    "/notices/{notice_id}": ("notices/{notice_id}",),
    "/patterns": ("patterns", "overview"),
    "/patterns/{pattern_id}": (
        "patterns/{pattern_id}",
        "patterns/{pattern_id}/about",
        "patterns/{pattern_id}/rules",
        "patterns/{pattern_id}/sightings",
        "patterns/{pattern_id}/mismatches",
    ),
    "/policies": ("policies",),
    "/policies/{policy_id}": (
        "policies/{policy_id}",
        "policies/{policy_id}/rules",
        "policies/{policy_id}/changes",
    ),
    "/preflight": ("preflight",),
    "/relocation": ("relocation",),
    "/relocation/files/{name}": ("relocation",),
    "/removals": ("removals",),
    "/requests": ("requests",),
    "/rule-sets": ("rule-sets",),
    "/rule-sets/{rule_set_id}": ("rule-sets/{rule_set_id}",),
    "/rule-sets/{rule_set_id}/export": ("rule-sets/{rule_set_id}/exports",),
    "/rule-sets/{rule_set_id}/exports/{export_id}/bundle": ("rule-sets/{rule_set_id}/exports/{export_id}/bundle",),
    "/rule-sets/{rule_set_id}/exports/{export_id}/files/{name:path}": (
        "rule-sets/{rule_set_id}/exports/{export_id}/files/{name:path}",
    ),
    "/rule-sets/{rule_set_id}/patterns/{pattern}": ("rule-sets/{rule_set_id}/patterns/{pattern}",),
    "/rule-sets/{rule_set_id}/plan": ("rule-sets/{rule_set_id}/plan",),
    "/rule-sets/{rule_set_id}/review": ("rule-sets/{rule_set_id}",),
    "/rule-sets/{rule_set_id}/what-if": ("rule-sets/{rule_set_id}/simulation",),
    "/search": ("search",),
    "/settings": ("settings",),
    "/sightings": ("sightings", "sightings/kinds"),
    "/tokens": ("tokens",),
    "/verified": ("verified",),
    "/versions": ("versions", "versions/in-use", "installs"),
    "/work": ("work",),
    "/workflows": ("workflows", "workflows/after"),
}
"""A page's path -> the API paths that offer what it shows, without `/api/v1/`."""

WITHOUT = {
    "/account": "one's own sessions and password: a token is nobody's account",
    "/account/codes": "sets one-time codes up with a phone: for people",
    "/account/codes/remove": "asks for the password of somebody who is signed in",
    "/export": "the form from which a person makes an export; what was made is under exports",
    "/export/{export_id}/file": "the file of an export that a person made; its rules are under exports",
    "/exports/{export_id}/bundle": "the files of an export that a person made; its rules are under exports",
    "/hosts/{host_id}/forget": "asks a person whether they are sure",
    "/hosts/{host_id}/revoke": "asks a person whether they are sure",
    "/invitation/{token}": "makes the account of a person",
    "/login": "signs a person in",
    "/login/code": "signs a person in",
    "/login/sso": "signs a person in",
    "/login/sso/callback": "signs a person in",
    "/groups/names": "what a field offers while somebody types: the API tells all groups",
    "/notices/count": "what a person has not read: a token reads nothing",
    "/rule-sets/new": "an empty form",
    "/healthz": "for machines already",
    "/readyz": "for machines already",
}
"""Pages without a twin, each with the reason. docs/accounts.md says the same in fewer words."""


def routes_by_path(app: FastAPI) -> tuple[dict[str, APIRoute], dict[str, APIRoute]]:
    """The pages that are looked at, and the API's paths that are asked."""
    pages, api = {}, {}
    for path, route in walk(list(app.routes)):
        if not isinstance(route, APIRoute):
            continue
        if path.startswith("/api/v1/"):
            if "GET" in route.methods or path == "/api/v1/blocked":
                api[path.removeprefix("/api/v1/")] = route
        elif "GET" in route.methods:
            pages[path] = route
    return pages, api


def test_every_page_has_a_twin_or_a_reason(app: FastAPI) -> None:
    pages, api = routes_by_path(app)
    assert len(pages) >= 65
    assert pages.keys() - TWINS.keys() - WITHOUT.keys() == set(), "give these a twin in the API, or a reason"
    assert (TWINS.keys() | WITHOUT.keys()) - pages.keys() == set(), "these pages are gone"
    assert not TWINS.keys() & WITHOUT.keys()
    missing = {(page, twin) for page, twins in TWINS.items() for twin in twins if twin not in api}
    assert not missing


def test_a_twin_asks_for_no_more_and_no_less_than_its_page(app: FastAPI) -> None:
    pages, api = routes_by_path(app)
    wider = {("/agents", "probing"), ("/agents", "agents/versions")}  # any who see the fleet see it on hosts
    for page, twins in TWINS.items():
        for twin in twins:
            if page in PUBLIC or (page, twin) in wider:
                continue
            (of_page,), (of_twin,) = guards_of(pages[page].dependant), guards_of(api[twin].dependant)
            assert of_page.permission == of_twin.permission, (page, twin)


def test_the_walk_would_find_a_page_without_a_twin(app: FastAPI) -> None:
    app.add_api_route("/new-page", lambda: None, methods=["GET"])
    with pytest.raises(AssertionError, match="give these a twin"):
        test_every_page_has_a_twin_or_a_reason(app)


def test_every_page_that_is_looked_at_is_one_of_these(app: FastAPI) -> None:
    """The browser's list and this one are of the same pages."""
    paths = {path.partition("?")[0] for path in PAGES.values()} - {"/nothing-here"}
    plain = {path for path in paths if "{" not in path and not any(part.isdecimal() for part in path.split("/"))}
    known = TWINS.keys() | WITHOUT.keys()
    assert {path for path in plain if path not in known and not path.startswith("/patterns/")} == set()


@pytest.mark.parametrize("role", list(Role))
def test_what_needs_no_number_answers_each_role_as_its_permissions_say(
    app: FastAPI, signed_in: Callable[[str], TestClient], role: Role
) -> None:
    client = signed_in(role)
    _, api = routes_by_path(app)
    words: dict[str, dict[str, Any]] = {
        "trend": {"workflow": "sync-build"},
        "preflight": {"from": "0.12.9", "to": "0.13.8"},
        "workflows/after": {"pattern": "venv-python"},
    }
    for path in sorted({twin for twins in TWINS.values() for twin in twins if "{" not in twin}):
        (guard,) = guards_of(api[path].dependant)
        if path == "blocked":
            answer = client.post("/api/v1/blocked", json={"text": "error: Failed to spawn (os error 1260)"})
        else:
            answer = client.get(f"/api/v1/{path}", params=words.get(path))
        wanted = 200 if guard.permission in PERMISSIONS[role] else 403
        assert answer.status_code == wanted, (path, answer.text)
