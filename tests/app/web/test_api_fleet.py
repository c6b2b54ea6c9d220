"""The API's parts of pages, on both databases: the same figures as the pages', and no secret among them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.accounts.manage import invite
from app.accounts.tokens import create_token
from app.audit.record import Actor
from app.db.session import session_scope
from app.fleet.hosts import find_named_hosts
from app.fleet.make import make_fleet
from app.fleet.tags import tag_hosts
from app.ingest.secrets import make_secret
from app.policies.export import plan_export
from app.policies.record_export import record_export
from app.policies.rule_sets import Group, add_to_rule_set, set_terms

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


def program(server: FastAPI, role: str) -> TestClient:
    with session_scope(server.state.engine) as session:
        token = create_token(session, role, "test", None)
    return TestClient(server, base_url="http://wayleave.example", headers={"Authorization": f"Bearer {token}"})


def check_the_parts_of_the_overview(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    with session_scope(fleet) as session:
        number = record_export(session, plan_export(["venv-python=path"], SID), actor=ADA).id
    overview = viewer.get("/api/v1/overview").json()
    apart = viewer.get("/api/v1/overview/apart").json()
    assert apart["standings"]["administrator"] == sum(one["administrators"] for one in overview["groups"]) > 0
    assert {"silent", "with_gaps", "counted_at"} == apart["missing"].keys()
    changes = viewer.get("/api/v1/overview/changes", params={"days": 90}).json()
    assert changes["since_yesterday"]["shifts"]
    assert changes["exports"][0]["id"] == number
    assert viewer.get("/api/v1/overview/changes", params={"group": 9999}).status_code == 404


def check_how_many_hosts_fit_a_filter(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    listed = viewer.get("/api/v1/hosts", params={"pattern": "venv-python", "rows": 500}).json()["hosts"]
    count = viewer.get("/api/v1/hosts/count", params={"pattern": "venv-python"}).json()
    assert (count["hosts"], count["is_at_least"]) == (len(listed), False)
    few = viewer.get("/api/v1/hosts/count", params={"up_to": 5}).json()
    assert (few["hosts"], few["is_at_least"]) == (5, True)
    known = count["hosts"]
    just = viewer.get("/api/v1/hosts/count", params={"pattern": "venv-python", "up_to": known}).json()
    assert (just["hosts"], just["is_at_least"]) == (known, False)
    named = viewer.get("/api/v1/hosts/count", params={"name": listed[0]["name"]}).json()
    assert named["hosts"] == 1


def check_one_host_with_tags_and_what_works_for_each_user(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    (host, *_) = viewer.get("/api/v1/hosts", params={"pattern": "cache-archive-env-python"}).json()["hosts"]
    with session_scope(fleet) as session:
        tag_hosts(session, "ring 1", find_named_hosts(session, [host["name"]]), actor=ADA)
    assert viewer.get(f"/api/v1/hosts/{host['id']}/tags").json() == ["ring 1"]
    users = viewer.get(f"/api/v1/hosts/{host['id']}/workflows").json()
    blocked = [one for user in users for one in user["workflows"] if one["workflow"] == "uvx"]
    assert any(one["verdict"] == "blocked" and one["blocked_by"][0]["pattern"] for one in blocked)
    assert viewer.get("/api/v1/hosts/999999/tags").status_code == 404
    assert viewer.get("/api/v1/hosts/999999/workflows").status_code == 404


def check_what_a_pattern_is(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    about = viewer.get("/api/v1/patterns/venv-python/about").json()
    assert all(about["pattern"][name] for name in ("description", "risk", "sources", "confidence"))
    assert any(one["id"] == "run-python" for one in about["needed_by"])
    moved = viewer.get("/api/v1/patterns/cache-builds-venv-python/about").json()
    assert moved["pattern"]["relocations"]
    seen = viewer.get("/api/v1/sightings").json()["patterns"][0]["pattern"]
    assert viewer.get(f"/api/v1/patterns/{seen}/sightings").json()[0]["times"] > 0
    assert viewer.get("/api/v1/patterns/venv-python/mismatches").json().keys() == {"counts", "sets"}
    for part in ("about", "sightings", "mismatches"):
        assert viewer.get(f"/api/v1/patterns/invented/{part}").status_code == 404


def check_sightings_by_path_and_identity(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    paths = viewer.get("/api/v1/sightings/kinds").json()
    assert paths["of"] >= paths["looked_at"] > 0
    assert all(one["path"] for one in paths["kinds"])
    identities = viewer.get("/api/v1/sightings/kinds", params={"by": "identity"}).json()
    assert all(one["path"] is None for one in identities["kinds"])
    assert viewer.get("/api/v1/sightings/kinds", params={"by": "user"}).status_code == 422
    wrong = viewer.get("/api/v1/sightings/kinds", params={"from": "2026-01-05", "to": "2026-01-03"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "from")


def check_versions_in_use_with_what_each_adds(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    lines = viewer.get("/api/v1/versions/in-use").json()
    overview = {one["version"]: one["subjects"] for one in viewer.get("/api/v1/overview").json()["versions"]}
    assert {one["version"]: one["users"] for one in lines} == overview
    real = [one for one in lines if one["version"]]
    assert [one["before"] for one in real[:-1]] == [one["version"] for one in real[1:]]
    assert not real[0]["is_behind"]
    assert real[-1]["is_behind"]


def check_search_and_the_diagnosis(server: FastAPI, fleet: Engine) -> None:
    viewer, administrator = program(server, "viewer"), program(server, "administrator")
    hits = viewer.get("/api/v1/search", params={"q": "finance"}).json()
    assert {"kind": "Group", "name": "Finance"}.items() <= hits[0].items()
    assert viewer.get("/api/v1/search", params={"q": "audit log"}).json() == []
    assert administrator.get("/api/v1/search", params={"q": "audit log"}).json()[0]["path"] == "/audit"
    text = "error: Failed to spawn: `ruff`\n  Caused by: blockiert (os error 1260)\n"
    answer = viewer.post("/api/v1/blocked", json={"text": text}).json()
    assert (answer["blocked"], answer["error_code"]) == (True, 1260)
    assert viewer.post("/api/v1/blocked", json={"text": ""}).status_code == 422
    assert viewer.post("/api/v1/blocked", json={"text": "x" * 200_001}).status_code == 422


def check_plans_with_their_curve_and_the_ways(server: FastAPI, fleet: Engine) -> None:
    server.state.workers.patience_s = 30
    with session_scope(fleet) as session:
        made = add_to_rule_set(session, patterns=["venv-python", "tool-env-python"], actor=ADA).rule_set_id
        set_terms(
            session, made, base_id=None, groups=[Group(sid=SID, name="Devs")], project_roots=["C:\\src"], actor=ADA
        )
    viewer = program(server, "viewer")
    plan = viewer.get(f"/api/v1/rule-sets/{made}/plan").json()
    assert plan["plans"], plan
    assert [one["slider"] for one in plan["plans"]] == sorted(one["slider"] for one in plan["plans"])
    points = [one["points"] for one in plan["plans"]]
    assert points == sorted(points)
    assert all(rule in plan["rules"] for one in plan["plans"] for rule in one["rules"])
    ways = viewer.get(f"/api/v1/rule-sets/{made}/patterns/venv-python").json()
    assert [one["rank"] for one in ways["ways"]] == sorted(one["rank"] for one in ways["ways"])
    assert any(one["rules"] and one["admits"] for one in ways["ways"])
    assert viewer.get(f"/api/v1/rule-sets/{made}/patterns/uv-exe-standalone").status_code == 404
    assert viewer.get(f"/api/v1/rule-sets/{made}/exports").json() == []
    assert viewer.get("/api/v1/rule-sets/99/plan").status_code == 404


def check_what_an_export_would_do_and_pages_of_exports(server: FastAPI, fleet: Engine) -> None:
    with session_scope(fleet) as session:
        numbers = [record_export(session, plan_export(["venv-python=path"], SID), actor=ADA).id for _ in range(3)]
    viewer = program(server, "viewer")
    judged = viewer.get(f"/api/v1/exports/{numbers[0]}/what-if").json()
    assert judged["result"]["patterns"][0]["pattern"] == "venv-python"
    newest = viewer.get("/api/v1/exports", params={"rows": 2}).json()
    assert [one["id"] for one in newest] == numbers[:0:-1]
    assert all(one["rule_ids"] for one in newest)
    rest = viewer.get("/api/v1/exports", params={"rows": 2, "before": newest[-1]["id"]}).json()
    assert [one["id"] for one in rest][:1] == numbers[:1]


def check_only_the_days_that_were_asked_for(server: FastAPI, fleet: Engine) -> None:
    viewer = program(server, "viewer")
    today = datetime.now(UTC).date().isoformat()
    old = viewer.get("/api/v1/sightings/kinds", params={"from": "2020-01-01", "to": "2020-01-02"}).json()
    assert old == {"kinds": [], "looked_at": 0, "of": 0, "kinds_in_all": 0}
    assert viewer.get("/api/v1/sightings/kinds", params={"from": "2020-01-01", "to": today}).status_code == 422


def test_the_parts_of_pages(server: FastAPI) -> None:
    """One fleet for all of them: making it takes longer than asking."""
    engine: Engine = server.state.engine
    make_fleet(engine, 60, seed=2, story=True)
    for check in (
        check_the_parts_of_the_overview,
        check_how_many_hosts_fit_a_filter,
        check_one_host_with_tags_and_what_works_for_each_user,
        check_what_a_pattern_is,
        check_sightings_by_path_and_identity,
        check_versions_in_use_with_what_each_adds,
        check_search_and_the_diagnosis,
        check_plans_with_their_curve_and_the_ways,
        check_what_an_export_would_do_and_pages_of_exports,
        check_only_the_days_that_were_asked_for,
    ):
        check(server, engine)


def test_no_secret_is_told(server: FastAPI) -> None:
    administrator = program(server, "administrator")
    with session_scope(server.state.engine) as session:
        create_account(session, "eve@example.com", "correct horse battery", "viewer")
        link = invite(session, "new@example.com", "viewer", "http://wayleave.example", actor=ADA)
        token = create_token(session, "viewer", "nightly", None)
        secret = make_secret(
            session, uses=3, expires_at=None, network=None, group="Sales", note="lab", actor=ADA, trial=True
        )
    told = {
        path: administrator.get(f"/api/v1/{path}").json()
        for path in ("accounts", "invitations", "tokens", "agents", "agents/secrets", "settings")
    }
    assert told["accounts"]["accounts"][0]["email"] == "eve@example.com"
    assert told["invitations"]["invitations"][0]["email"] == "new@example.com"
    assert {one["label"] for one in told["tokens"]["tokens"]} == {"nightly", "test"}
    assert (told["tokens"]["working"], told["tokens"]["next_before"]) == (2, None)
    (kept,) = told["agents/secrets"]["secrets"]
    assert (kept["group"], kept["uses_left"], kept["works"], kept["trial"]) == ("Sales", 3, True, True)
    said = json.dumps(told)
    for hidden in (link.rpartition("/")[2], token, secret.split("_", 2)[2], "argon2", "token_hash"):
        assert hidden not in said
    settings = {one["variable"]: one for group in told["settings"] for one in group["settings"]}
    assert settings["WAYLEAVE_RETENTION_DAYS"]["value"].endswith("days")


def test_tokens_and_secrets_come_in_pages(server: FastAPI) -> None:
    administrator = program(server, "administrator")
    with session_scope(server.state.engine) as session:
        for number in range(5):
            create_token(session, "viewer", f"program {number}", None)
            make_secret(session, uses=None, expires_at=None, network=None, group="Sales", note=f"{number}", actor=ADA)
    for path, key, all_of in (("tokens", "tokens", 6), ("agents/secrets", "secrets", 5)):
        ids: list[int] = []
        before: int | None = 2**31 - 1
        while before is not None:
            page = administrator.get(f"/api/v1/{path}", params={"rows": 2, "before": before}).json()
            assert page["total"] == all_of
            ids += [one["id"] for one in page[key]]
            before = page["next_before"]
        assert len(set(ids)) == len(ids) == all_of
        assert ids == sorted(ids, reverse=True)
