"""The API about rules, requests and imports, on both databases: the figures and words of the pages."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.accounts.tokens import create_token
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.policies.base_policies import take_seen_policy
from app.policies.export import plan_export
from app.policies.in_force import list_policies
from app.policies.record_export import record_export
from app.policies.rule_sets import Group, add_to_rule_set, set_terms
from app.policies.simulations import ask_for_simulation, run_simulation
from app.requests.record import record_request

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


@pytest.fixture
def fleet(server: FastAPI) -> Engine:
    """A made fleet with two policies, a rule set that was simulated, and an export."""
    engine: Engine = server.state.engine
    make_fleet(engine, 60, seed=2, story=True)
    return engine


def program(server: FastAPI, role: str) -> TestClient:
    with session_scope(server.state.engine) as session:
        token = create_token(session, role, "test", None)
    return TestClient(server, base_url="http://wayleave.example", headers={"Authorization": f"Bearer {token}"})


def test_policies_and_how_two_differ(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    first, second, *_ = viewer.get("/api/v1/policies").json()
    one = viewer.get(f"/api/v1/policies/{first['id']}").json()
    assert one["policy"] == first
    assert len(one["rules"]) == sum(collection["rules"] for collection in first["collections"])
    assert len([found for found in one["findings"] if found["severity"] == "error"]) == first["errors"]
    changes = viewer.get(f"/api/v1/policies/{second['id']}/changes", params={"against": first["id"]}).json()
    assert changes
    assert all(change["message"] for change in changes)
    assert viewer.get(f"/api/v1/policies/{first['id']}/changes", params={"against": first["id"]}).json() == []
    assert viewer.get("/api/v1/policies/987654").status_code == 404
    assert viewer.get(f"/api/v1/policies/{first['id']}/changes").status_code == 422


def test_a_pattern_under_each_policy(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    found = viewer.get("/api/v1/patterns/venv-python/rules").json()
    assert {one["words"] for one in found["under"]}
    assert viewer.get("/api/v1/patterns/invented/rules").status_code == 404


def test_a_rule_set_with_its_simulation(server: FastAPI, fleet: Engine) -> None:
    with session_scope(fleet) as session:
        made = add_to_rule_set(session, name="Pythons", patterns=["venv-python"], actor=ADA).rule_set_id
        seen = next(one for one in list_policies(session) if one.problem is None and one.collections)
        base = take_seen_policy(session, seen.id, actor=ADA)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
        asked = ask_for_simulation(session, made, actor=ADA)
    viewer = program(server, "viewer")
    under_way = viewer.get(f"/api/v1/rule-sets/{made}/simulation").json()
    assert (under_way["result"], under_way["work"]["state"]) == (None, "waiting")
    assert viewer.get(f"/api/v1/rule-sets/{made}").json()["simulating"] == asked.work.id
    run_simulation(fleet, asked)
    one = viewer.get(f"/api/v1/rule-sets/{made}").json()
    assert (one["name"], one["state"], one["simulating"]) == ("Pythons", "draft", None)
    assert [item["pattern"] for item in one["patterns"]] == ["venv-python"]
    assert one["rules"][0]["admits"]
    assert one["simulation"]["result"]["base"] > 0
    assert one["digest"]
    done = viewer.get(f"/api/v1/rule-sets/{made}/simulation").json()
    assert done["is_of_this_draft"] is True
    assert viewer.get("/api/v1/rule-sets").json()["lines"][0]["id"] == made
    assert viewer.get("/api/v1/rule-sets/99").status_code == 404


def test_an_export_and_how_far_it_has_come(server: FastAPI, fleet: Engine) -> None:
    with session_scope(fleet) as session:
        number = record_export(session, plan_export(["venv-python=path"], SID), actor=ADA).id
    viewer = program(server, "viewer")
    one = viewer.get(f"/api/v1/exports/{number}").json()
    assert (one["patterns"], one["sids"]) == (["venv-python"], [SID])
    assert one["arrival"]["base"] == one["arrival"]["missing"] + one["arrival"]["unreadable"] > 0
    assert {rule["id"] for rule in one["rules"]} == {rule["rule_id"] for rule in one["arrival"]["rules"]}
    assert viewer.get("/api/v1/exports/99").status_code == 404


def test_requests_and_imports_need_their_permission(server: FastAPI) -> None:
    with session_scope(server.state.engine) as session:
        record_request(
            session,
            engine="applocker-or-srp",
            patterns=["venv-python"],
            workflow=None,
            contact="eve@example.com",
            message="I need <b>uv</b>",
            asker=b"eve",
            actor=ADA,
        )
    approver, viewer = program(server, "approver"), program(server, "viewer")
    (group,) = approver.get("/api/v1/requests").json()
    assert (group["pattern"], group["asked"][0]["message"]) == ("venv-python", "I need <b>uv</b>")
    assert viewer.get("/api/v1/requests").status_code == 403
    assert viewer.get("/api/v1/imports").status_code == 403
    administrator = program(server, "administrator")
    assert administrator.get("/api/v1/imports").json() == []
    assert administrator.get("/api/v1/imports/7").status_code == 404


def test_hosts_by_every_filter_of_the_page(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")

    def names(**wanted: str) -> set[str]:
        found = viewer.get("/api/v1/hosts", params={"rows": "500", **wanted}).json()
        assert found["next_cursor"] is None
        return {host["name"] for host in found["hosts"]}

    everybody = names()
    policy = str(viewer.get("/api/v1/policies").json()[0]["id"])
    for wanted in (
        {"policy": policy},
        {"workflow": "uvx", "verdict": "blocked"},
        {"seen": "day"},
        {"engine": "applocker"},
        {"attested": "no"},
        {"state": "active"},
        {"gap": "yes"},
        {"tag": "none-has-it"},
        {"q": "FIN"},
    ):
        lines = viewer.get("/api/v1/hosts", params=wanted)
        assert lines.status_code == 200, wanted
        assert names(**wanted) <= everybody
    assert names(tag="none-has-it") == set()
    assert names(policy=policy) < everybody
    some = next(iter(everybody))
    assert names(name=some) == names(q=some) == {some}


def test_health_and_what_was_verified(server: FastAPI, fleet: Engine) -> None:
    viewer, administrator = program(server, "viewer"), program(server, "administrator")
    assert viewer.get("/api/v1/verified").json() == []
    assert viewer.get("/api/v1/health").status_code == 403
    assert administrator.get("/api/v1/health").json() == {
        "sharing": None,
        "waiting": {"changes": 0, "is_many": False},
    }
