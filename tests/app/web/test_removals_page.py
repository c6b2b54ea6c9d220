"""The page of rules that could go, the draft that takes them out, and the same for programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from agent.contract.facts import CollectionInForce, FactSet, PolicySet
from app.applocker.write import render_rule
from app.audit.tables import AuditEntry
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.fleet.rule_uses import DAY_MS
from app.fleet.tables_rule_use import RuleCounted, RuleDay
from app.policies.export import Export, plan_export
from app.policies.record_export import record_export
from app.policies.tables import ExportRow

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)

SignIn = Callable[[str], TestClient]
WINDOWS = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Windows" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%WINDIR%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line


@pytest.fixture
def made(app: FastAPI, engine: Engine) -> Export:
    """An export by path, in force on two hosts for half a year, that nothing used."""
    export = plan_export(["tool-bin-exe=path"], "S-1-1-0")
    with session_scope(engine) as session:
        number = record_export(session, export).id
        session.get_one(ExportRow, number).made_at = now() - timedelta(days=180)
    machines = []
    for name in ("A", "B"):
        machine = small_fleet.Machine(name=name, group="Office")
        texts = tuple(render_rule(rule.rule) for rule in export.rules)
        policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(WINDOWS, *texts))})
        sets: list[FactSet] = [policy if one.kind == "policy" else one for one in machine.sets()]
        machine.sets = lambda sets=sets: sets
        machines.append(machine)
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, machines)
    return export


def count(engine: Engine, export: Export) -> None:
    first = to_ms(now()) // DAY_MS - 150
    with session_scope(engine) as session:
        for rule_id in ("", *(rule.id.lower() for rule in export.rules)):
            session.merge(RuleCounted(rule_id=rule_id, hosts=2))
            session.merge(RuleDay(rule_id=rule_id, day=first, uses=0, hosts=2))


def test_where_nobody_counts_it_says_so(made: Export, signed_in: SignIn) -> None:
    text = unescape(signed_in("viewer").get("/removals").text)
    assert "Nothing speaks against the" in text
    assert "Whether rules are used is not known: counting is off." in text


def test_one_click_drafts_the_removal(made: Export, engine: Engine, signed_in: SignIn, statements: list[str]) -> None:
    count(engine, made)
    client = signed_in("analyst")
    statements.clear()
    text = unescape(client.get("/removals").text)
    assert len(statements) <= 20
    assert "Nothing used it in 90 days on 2 hosts that count uses." in text
    chosen = re.findall(r'name="rule" value="([^"]+)"', text)
    assert chosen == [rule.id for rule in made.rules]
    answer = client.post("/removals", data={"rule": chosen})
    assert (answer.status_code, answer.headers["location"]) == (303, "/rule-sets/1")
    text = unescape(client.get("/rule-sets/1").text)
    assert "This takes out <strong>" in text
    assert "Nothing used it in 90 days" in text
    assert client.post("/rule-sets/1/what-if").status_code == 303
    text = unescape(client.get("/rule-sets/1/what-if").text)
    # What uv puts into that folder besides would be blocked, too.
    assert ">2 patterns</strong></a> would be blocked for up to <strong>2</strong> of 2 users" in text
    assert client.get("/rule-sets/1/review").status_code == 200
    text = unescape(client.get("/removals").text)
    assert "All that could go is on the way out." in text
    assert 'href="/rule-sets/1">a rule set takes it out' in text
    with session_scope(engine, writes=False) as session:
        actions = session.scalars(select(AuditEntry.action).where(AuditEntry.action.startswith("rule_set."))).all()
    assert "rule_set.rules_to_remove" in actions
    answer = client.post(f"/rule-sets/1/removes/{made.rules[0].id}/keep")
    assert answer.status_code == 303
    assert client.post(f"/rule-sets/1/removes/{made.rules[0].id}/keep").status_code == 404


def test_an_empty_page_says_what_makes_an_offer(signed_in: SignIn) -> None:
    assert "Offers appear once exported rules are in force" in signed_in("viewer").get("/removals").text


def test_who_may_not_and_what_is_none(made: Export, signed_in: SignIn, anonymous: TestClient) -> None:
    assert signed_in("viewer").post("/removals", data={"rule": [made.rules[0].id]}).status_code == 403
    assert anonymous.get("/removals").headers["location"].startswith("/login")
    client = signed_in("analyst")
    answer = client.post("/removals", data={})
    assert answer.status_code == 422
    assert "Choose 1 to 200 rules" in answer.text
    answer = client.post("/removals", data={"rule": ["921cc481-6e17-4653-8f75-050b80acca20"]})
    assert answer.status_code == 422
    assert "No export of ours added a rule" in answer.text


def test_programs_read_and_draft(made: Export, engine: Engine, signed_in: SignIn) -> None:
    count(engine, made)
    client = signed_in("analyst")
    found = client.get("/api/v1/removals").json()
    assert (found["days"], found["counting"]) == (90, 2)
    (offer,) = found["offers"]
    assert offer["grounds"] == [["unused", "Nothing used it in 90 days on 2 hosts that count uses."]]
    answer = client.post("/api/v1/removals", json={"rules": [offer["rule_id"]]})
    assert (answer.status_code, answer.json()) == (201, {"rule_set_id": 1})
    assert client.get("/api/v1/removals").json()["offers"][0]["rule_set_id"] == 1
    assert client.post("/api/v1/removals", json={"rules": ["x"]}).status_code == 422
    assert signed_in("viewer").post("/api/v1/removals", json={"rules": [offer["rule_id"]]}).status_code == 403
