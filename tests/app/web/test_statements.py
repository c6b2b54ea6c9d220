"""How many SQL statements each page takes, of all that the browser looks at: none may grow with what is listed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import event
from starlette.testclient import TestClient

from app.accounts import passwords
from app.accounts.create import create_account
from app.accounts.tokens import create_token
from app.all_tables import metadata
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.groups import create_group
from app.ingest.secrets import make_secret
from app.main import create_app
from app.policies.export import plan_export
from app.policies.record_export import record_export
from app.policies.rule_sets import add_to_rule_set
from app.settings import Settings
from tests.browser.conftest import make_import, make_notice, make_rule_set
from tests.browser.pages import PAGES

SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
EMAIL, PASSWORD = "ada@example.com", "correct horse battery"
ADA = Actor(kind="account", name=EMAIL)
MANY = 30
"""Of what lists hold: more than any bound, so that a statement for each row is found."""

BOUNDS = {
    "overview": 20,
    "patterns": 9,
    "pattern": 17,
    "pattern-not-run": 16,
    "hosts": 13,
    "hosts-filtered": 18,
    "hosts-none": 9,
    "host": 12,
    "host-tried": 14,
    "host-revoke": 8,
    "host-forget": 8,
    "versions": 11,
    "workflows": 10,
    "workflows-after": 12,
    "relocation": 8,
    "relocation-refused": 5,
    "preflight": 19,
    "sightings": 5,
    "sightings-by-path": 5,
    "groups": 7,
    "search": 13,
    "policies": 8,
    "policy": 17,
    "verified": 6,
    "baseline": 8,
    "trusted-files": 8,
    "export": 12,
    "exports": 6,
    "kept-export": 19,
    "kept-export-what-if": 10,
    "kept-export-after": 12,
    "kept-export-hosts": 13,
    "rule-sets": 6,
    "rule-set-new": 10,
    "rule-set": 20,
    "rule-set-ways": 13,
    "rule-set-plan": 9,
    "rule-set-what-if": 11,
    "rule-set-review": 13,
    "rule-set-export": 18,
    "notices": 10,
    "notice": 6,
    "removals": 11,
    "requests": 6,
    "agents": 11,
    "imports": 5,
    "import": 5,
    "accounts": 7,
    "tokens": 6,
    "work": 6,
    "jobs": 5,
    "settings": 4,
    "audit": 5,
    "health": 6,
    "account": 7,
    "one-time-codes": 7,
    "one-time-codes-remove": 4,
    "not-found": 4,
}
"""A name of the browser's list of pages -> statements, sessions and menus included; two more than were measured."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The fleet that the browser looks at, and thirty of whatever lists hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        passwords._decoy.cache_clear()
        app = create_app(Settings(data_dir=tmp_path_factory.mktemp("statements"), database_url="", base_url=""))
        metadata().create_all(app.state.engine)
        app.state.workers.patience_s = 30
        _fill(app, tmp_path_factory.mktemp("import"))
        yield app
        app.state.workers.stop()
        app.state.engine.dispose()


def _fill(app: FastAPI, folder: Path) -> None:
    spec = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
    assert spec is not None
    assert spec.loader is not None
    small_fleet = module_from_spec(spec)
    sys.modules[spec.name] = small_fleet  # its dataclasses look themselves up
    spec.loader.exec_module(small_fleet)
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines())
    with session_scope(app.state.engine) as session:
        for _ in range(2):
            record_export(session, plan_export(["venv-python", "uv-exe-standalone"], SID), actor=ADA)
    make_rule_set(app)
    make_notice(app)
    make_import(app, folder)
    with session_scope(app.state.engine) as session:
        create_account(session, EMAIL, PASSWORD, "administrator")
        for number in range(MANY):
            create_account(session, f"p{number}@example.com", PASSWORD, "viewer")
            create_token(session, "viewer", f"program {number}", None)
            create_group(session, f"Group {number}", actor=ADA)
            make_secret(session, uses=1, expires_at=None, network=None, group=f"Group {number}", note="", actor=ADA)
            record_export(session, plan_export(["venv-python"], SID), actor=ADA)
            if number < MANY // 2:
                add_to_rule_set(session, name=f"Rules {number}", patterns=["venv-python"], actor=ADA)


@pytest.fixture(scope="module")
def administrator(site: FastAPI) -> TestClient:
    client = TestClient(site, base_url="http://wayleave.example", follow_redirects=False)
    assert client.post("/login", data={"email": EMAIL, "password": PASSWORD}).status_code == 303
    return client


def test_every_page_has_a_bound() -> None:
    assert PAGES.keys() - BOUNDS.keys() == set(), "measure these, and write down how many statements each may take"
    assert BOUNDS.keys() - PAGES.keys() == set(), "these pages are gone"
    assert max(BOUNDS.values()) <= MANY


@pytest.mark.parametrize("name", BOUNDS)
def test_a_page_takes_no_more_statements_than_its_bound(site: FastAPI, administrator: TestClient, name: str) -> None:
    policies = administrator.get("/api/v1/policies").json()
    path = PAGES[name].format(policy=policies[0]["id"])
    administrator.get(path)  # the first time, what a process remembers of the database is read
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    event.listen(site.state.engine, "before_cursor_execute", note)
    try:
        answer = administrator.get(path)
    finally:
        event.remove(site.state.engine, "before_cursor_execute", note)
    assert answer.status_code in (200, 303, 404, 422), answer.text
    assert len(seen) <= BOUNDS[name], "\n".join(seen)
