"""Policies in force: one line for each distinct policy, its lint, its rules, and what differs between two."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from agent.contract.facts import CollectionInForce, PolicySet
from app.accounts.create import create_account
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.fleet.rule_uses import DAY_MS, UseRow, write_uses
from app.policies.rule_counts import count_rule_uses
from app.policies.standing import VerifiedStanding
from app.policies.tables import VerifiedCase

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)

RULE = (
    '<FilePathRule Id="{id}" Name="{name}" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions>'
    '<FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
)
WINDOWS = RULE.format(id="a61c8b2c-a319-4cd0-9690-d2177cad7b51", name="Windows", path="%WINDIR%\\*")
PROGRAMS = RULE.format(id="921cc481-6e17-4653-8f75-050b80acca20", name="Programs", path="%PROGRAMFILES%\\*")
HOLE = RULE.format(
    id="11111111-6e17-4653-8f75-050b80acca20", name="<b>Hole</b>".replace("<", "&lt;"), path="%OSDRIVE%\\Users\\*"
)


class PolicyMachine(small_fleet.Machine):
    """A workstation whose Exe collection has the given rules; None: its policy can't be read."""

    rules: tuple[str, ...] | None = ()

    def sets(self) -> list[object]:
        collections = None
        if self.rules is not None:
            collections = {"Exe": CollectionInForce(mode="Enabled", rules=self.rules)}
        return [one for one in super().sets() if one.kind != "policy"] + [PolicySet(collections=collections)]


def machine(name: str, rules: tuple[str, ...] | None) -> PolicyMachine:
    made = PolicyMachine(name=name, group="Sales", blocked=small_fleet.CACHE)
    made.rules = rules
    return made


FLEET = [
    ("PC-1", (WINDOWS, PROGRAMS)),
    ("PC-2", (WINDOWS, PROGRAMS)),
    ("PC-3", (HOLE, WINDOWS, PROGRAMS)),
    ("PC-4", None),
]


@pytest.fixture
def viewer(app: FastAPI, signed_in: Callable[[str], TestClient]) -> TestClient:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [machine(name, rules) for name, rules in FLEET])
    return signed_in("viewer")


def links(client: TestClient) -> list[str]:
    """The policies' pages, the one of most users first."""
    return re.findall(r'href="(/policies/\d+)"', client.get("/policies").text)


def test_equal_policies_are_one_line(viewer: TestClient) -> None:
    page = viewer.get("/policies").text
    assert "<strong>3 policies</strong> are in force for 4 users" in page
    assert len(links(viewer)) == 3
    assert "The agent could not read the policy." in page
    assert 'Exe <span class="quiet">2 rules, Enabled</span>' in page


def test_one_policy_shows_its_rules_and_findings(viewer: TestClient) -> None:
    pages = [unescape(viewer.get(link).text) for link in links(viewer)]
    hole = next(page for page in pages if "%OSDRIVE%\\Users\\*" in page)
    assert "What is wrong, and what to do" in hole
    assert re.search(
        r'in force for <a href="/hosts\?policy=\d+&state=active"><strong>1 user</strong></a> in Sales', hole
    )
    assert "<b>Hole" not in viewer.get(links(viewer)[1]).text


def test_two_policies_are_compared(viewer: TestClient) -> None:
    first, *rest = links(viewer)
    other = next(link for link in rest if "%OSDRIVE%" in viewer.get(link).text)
    compared = viewer.get(f"{other}?against={first.rpartition('/')[2]}").text
    assert "1 difference against" in compared
    assert "Hole" in compared


def test_what_can_not_be_read_is_not_compared(viewer: TestClient) -> None:
    first, *rest = links(viewer)
    unreadable = next(link for link in rest if "could not read" in viewer.get(link).text)
    answer = viewer.get(f"{first}?against={unreadable.rpartition('/')[2]}")
    assert answer.status_code == 422
    assert "could not be read as a whole" in answer.text


def test_an_unknown_policy_is_not_found(viewer: TestClient) -> None:
    assert viewer.get("/policies/999").status_code == 404
    assert viewer.get(f"{links(viewer)[0]}?against=999").status_code == 404


def test_no_policy_yet(signed_in: Callable[[str], TestClient]) -> None:
    assert "No policy was reported yet" in signed_in("viewer").get("/policies").text


def test_on_both_databases(client: TestClient, server: FastAPI) -> None:
    with session_scope(server.state.engine) as session:
        create_account(session, "ada@example.com", "correct horse battery", "viewer")
    small_fleet.report_all(server, client, [machine(name, rules) for name, rules in FLEET])
    client.post("/login", data={"email": "ada@example.com", "password": "correct horse battery"})
    assert "<strong>3 policies</strong>" in client.get("/policies").text
    for link in links(client):
        assert client.get(link).status_code == 200


def test_rules_are_marked_until_a_pc_has_answered(viewer: TestClient, app: FastAPI) -> None:
    detail = viewer.get("/policies").text
    link = re.search(r'href="(/policies/\d+)"', detail)
    assert link is not None
    assert "not verified on Windows" in viewer.get(link[1]).text
    page = viewer.get("/verified").text
    assert "checked on a real Windows</strong> yet" in page
    asked = ("path", "hash", "publisher"), ("Exe", "Dll", "Script")
    names = {
        name
        for mark in [VerifiedStanding().of_rule(kind, collection) for kind in asked[0] for collection in asked[1]]
        for name in mark.missing
    }
    assert all(name in page for name in names)
    at = datetime(2026, 11, 20, tzinfo=UTC)
    with session_scope(app.state.engine) as session:
        session.add_all(
            VerifiedCase(
                case_id=name,
                windows="Windows <b>11</b>",
                windows_build="26100.4061",
                observed_at=at,
                decision="Allowed",
                error=0,
                engine_decision="Allowed",
                agrees=name != "osdrive",
                doubts="",
                recorded_at=at,
                recorded_by="test",
            )
            for name in names
        )
    page = viewer.get("/verified").text
    assert "Windows &lt;b&gt;11&lt;/b&gt;" in page
    assert "Windows judged otherwise" in viewer.get(link[1]).text
    assert "verified on Windows" in page


def test_what_was_checked_is_for_those_who_see_the_fleet(anonymous: TestClient) -> None:
    assert anonymous.get("/verified").headers["location"].startswith("/login")


USED, UNUSED_SINCE = "921cc481-6e17-4653-8f75-050b80acca20", "a61c8b2c-a319-4cd0-9690-d2177cad7b51"


def count(engine: Engine, *uses: tuple[int, str, int, int]) -> None:
    """Hosts tell uses: host, rule, days ago, how often. Rules have been counted for forty days."""
    at = now()
    with engine.begin() as connection:
        today = to_ms(at) // DAY_MS
        write_uses(connection, [UseRow(host, today - ago, rule, often) for host, rule, ago, often in uses])
    with engine.connect() as connection:
        count_rule_uses(connection, at - timedelta(days=40))
        count_rule_uses(connection, at)


def test_without_counts_the_page_says_how_to_have_them(viewer: TestClient) -> None:
    page = viewer.get(links(viewer)[0]).text
    assert "count_rule_uses = true" in page
    assert ">Used</th>" not in page


def test_a_page_tells_how_often_rules_were_used_and_which_nothing_used(viewer: TestClient, engine: Engine) -> None:
    count(engine, (1, USED, 2, 1_200), (2, USED, 2, 34), (1, UNUSED_SINCE, 20, 1))
    link = next(link for link in links(viewer) if "HOLE" not in (page := viewer.get(link).text) and "Hole" not in page)
    month = " ".join(unescape(viewer.get(link).text).split())
    assert "2 hosts count how often rules let something start" in month
    assert "1,234 times" in month
    assert "on up to 2 hosts a day" in month
    assert "not used once" not in month
    week = " ".join(unescape(viewer.get(f"{link}?days=7").text).split())
    assert "1 rule was not used once" in week
    assert "not once" in week
    assert "on 2 hosts counting since" in week
    only = unescape(viewer.get(f"{link}?days=7&unused=1").text)
    assert "Shown is only the 1 rule that nothing used in all of the last 7 days." in " ".join(only.split())
    assert "%PROGRAMFILES%" not in only
    assert "%WINDIR%" in only
    assert f'href="{link}?days=90&unused=1"' in only
    assert viewer.get(f"{link}?days=0").status_code == 422


def test_programs_are_told_of_uses_too(viewer: TestClient, engine: Engine) -> None:
    count(engine, (1, USED, 2, 12))
    link = links(viewer)[0]
    rules = {one["id"]: one for one in viewer.get(f"/api/v1{link}/rules", params={"days": 7}).json()}
    assert (rules[USED]["uses"], rules[USED]["hosts"], rules[USED]["unused"]) == (12, 1, False)
    assert rules[USED]["counted_on"] == 1
    assert rules[USED]["last_on"] == (now().date() - timedelta(days=2)).isoformat()
    assert (rules[UNUSED_SINCE]["uses"], rules[UNUSED_SINCE]["unused"]) == (0, True)
    assert viewer.get("/api/v1/policies/999/rules").status_code == 404


def test_a_policy_beside_device_management_is_linted_and_compared(
    app: FastAPI, signed_in: Callable[[str], TestClient]
) -> None:
    class Managed(PolicyMachine):
        def sets(self) -> list[object]:
            rules = CollectionInForce(mode="Enabled", rules=(HOLE, WINDOWS))
            policy = PolicySet(collections={"Exe": rules}, csp="unreadable")
            return [one for one in super().sets() if one.kind != "policy"] + [policy]

    with TestClient(app, base_url="http://wayleave.example") as agents:
        managed = Managed(name="PC-9", group="Sales", blocked=small_fleet.CACHE)
        small_fleet.report_all(app, agents, [machine("PC-1", (WINDOWS,)), machine("PC-2", None), managed])
    viewer = signed_in("viewer")
    pages = {link: viewer.get(link).text for link in links(viewer)}
    beside = next(link for link, page in pages.items() if "A policy from Intune is in force besides" in page)
    unreadable = next(link for link, page in pages.items() if "could not read the policy" in page)
    (plain,) = pages.keys() - {beside, unreadable}
    assert "What changed against" in pages[beside]
    assert "What is wrong, and what to do" in pages[beside]
    assert "What changed against" not in pages[unreadable]
    assert "1 difference against" in viewer.get(f"{beside}?against={plain.rpartition('/')[2]}").text
    line = viewer.get("/policies").text.partition(f'href="{beside}"')[2].partition("</tr>")[0]
    assert re.search(r"\d (error|warning)s?", line)
