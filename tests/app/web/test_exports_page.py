"""The pages of exports that were made: the list, one with its rules, its arrival and its simulation, its bundle."""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Callable
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from agent.contract.facts import CollectionInForce, FactSet, PolicySet
from app.applocker.write import render_rule
from app.audit.record import SYSTEM
from app.db.session import session_scope
from app.policies.after_kept import ask_for_after
from app.policies.bundle import build_bundle
from app.policies.export import Export, plan_export
from app.policies.record_export import record_export
from app.work.rows import cancel_work
from app.work.run import do_work

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)

SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
DEFAULT = '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Windows" Description="" UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%WINDIR%\\*"/></Conditions></FilePathRule>'  # noqa: E501 - XML as a policy has it, on one line
BASE = f'<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">{DEFAULT}</RuleCollection></AppLockerPolicy>'  # noqa: E501 - XML as a policy has it, on one line


def ruled(name: str, *, rules: tuple[str, ...] = (), blocked: tuple[str, ...] = ()) -> object:
    """A machine whose Exe policy has the default rule and these besides."""
    machine = small_fleet.Machine(name=name, group="Office", blocked=blocked)
    policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(DEFAULT, *rules))})
    sets: list[FactSet] = [policy if one.kind == "policy" else one for one in machine.sets()]
    machine.sets = lambda: sets
    return machine


def report(app: FastAPI, fleet: list[object]) -> None:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, fleet)


@pytest.fixture
def made(engine: Engine) -> Export:
    """Export 1: two patterns by path."""
    export = plan_export(["venv-python=path", "managed-python-exe=path"], SID)
    with session_scope(engine) as session:
        assert record_export(session, export).id == 1
    return export


def test_the_list_names_maker_sid_patterns_and_digest(made: Export, signed_in: Callable[[str], TestClient]) -> None:
    text = signed_in("viewer").get("/exports").text
    assert "<strong>1 export</strong> was made." in text
    assert 'href="/exports/1"' in text
    assert f'title="{SID}"' in text
    assert f'title="{made.sha256}"' in text
    assert 'title="venv-python">Python launcher in a project/other virtual environment</a>' in text


def test_the_search_answers_a_fragment(made: Export, signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("viewer")
    part = client.get("/exports", params={"q": "venv-"}, headers={"HX-Request": "true"})
    assert "<!doctype html>" not in part.text
    assert part.headers["HX-Push-Url"] == "/exports?q=venv-"
    assert 'href="/exports/1"' in part.text
    assert "No export fits" in client.get("/exports", params={"q": "nothing-like-it"}).text


def test_an_empty_list_says_what_makes_an_export(signed_in: Callable[[str], TestClient]) -> None:
    assert "Exports appear when a file is taken away" in signed_in("viewer").get("/exports").text


def test_one_export_has_its_rules_and_the_file(made: Export, signed_in: Callable[[str], TestClient]) -> None:
    answer = signed_in("viewer").get("/exports/1")
    assert answer.status_code == 200
    text = unescape(answer.text)
    for rule in made.rules:
        assert rule.id in text
        assert rule.reach.admits in text
    assert 'href="/export/1/file"' in text
    for note in made.notes:
        assert note in text
    assert "No counted workstation has told its policy yet" in text


def test_arrival_is_told_with_the_pattern_that_stays_blocked(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient]
) -> None:
    rules = tuple(render_rule(rule.rule) for rule in made.rules)
    client = signed_in("viewer")
    fleet = [
        *(ruled(f"OPEN-{n}", rules=rules) for n in range(3)),
        ruled("SHUT", rules=rules, blocked=("venv-python",)),
        ruled("HALF", rules=rules[:1], blocked=("venv-python",)),
        *(ruled(f"NONE-{n}", blocked=("venv-python",)) for n in range(2)),
    ]
    report(app, fleet)
    text = " ".join(unescape(client.get("/exports/1").text).split())
    assert 'have arrived for <strong><a href="/exports/1/hosts?stage=arrived">4</a></strong> of 7 users' in text
    assert 'open for <strong><a href="/exports/1/hosts?stage=arrived&state=open">3</a></strong>' in text
    assert 'still blocked for <strong><a href="/exports/1/hosts?stage=arrived&state=blocked">1</a></strong>' in text
    assert f"The user’s token does not hold {SID}" in text
    assert "The rules have not arrived" in text
    assert "All rules in force: 4 of 7. Some of the rules: 1 of 7. None of the rules: 2 of 7." in text


def test_a_rule_that_somebody_changed_under_our_id_is_told(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient]
) -> None:
    rules = tuple(render_rule(rule.rule) for rule in made.rules)
    wider = (rules[0].replace('Path="', 'Path="*'), *rules[1:])
    assert wider != rules
    client = signed_in("viewer")
    report(app, [ruled("AS-EXPORTED", rules=rules), ruled("WIDENED", rules=wider, blocked=("venv-python",))])
    text = " ".join(unescape(client.get("/exports/1").text).split())
    assert 'have arrived for <strong><a href="/exports/1/hosts?stage=arrived">1</a></strong> of 2 users' in text
    assert "Changed under our ids: 1 of 2." in text
    assert "For 1 user a rule has an id of this export and does something else than was exported" in text
    listed = client.get("/exports/1/hosts?stage=changed").text
    assert "WIDENED" in listed
    assert "AS-EXPORTED" not in listed
    named = re.search(r'href="/policies/(\d+)"><code>([0-9a-f]{8})</code>', listed)
    assert named is not None, "a policy has the name that the page about policies gives it"
    assert f'href="/policies/{named[1]}"><code>{named[2]}</code>' in client.get("/policies").text
    assert client.get("/api/v1/exports/1/arrival").json()["changed"] == 1


def test_the_simulation_counts_and_is_a_page_and_a_fragment(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient]
) -> None:
    client = signed_in("viewer")
    assert "No counted user has reported yet" in client.get("/exports/1/what-if").text
    report(app, [ruled("A"), ruled("B")])
    page = client.get("/exports/1/what-if")
    assert "<!doctype html>" in page.text
    part = client.get("/exports/1/what-if", headers={"HX-Request": "true"})
    assert "<!doctype html>" not in part.text
    assert '<td data-label="Would open" class="num">2</td>' in part.text
    assert "1 distinct policy, 2 users" in part.text


@pytest.mark.parametrize("delivery", ["same-gpo", "separate-gpo", "local"])
def test_the_bundle_is_that_of_the_export(made: Export, signed_in: Callable[[str], TestClient], delivery: str) -> None:
    answer = signed_in("analyst").get("/exports/1/bundle", params={"delivery": delivery})
    assert answer.status_code == 200
    wanted = build_bundle(made, delivery)
    assert answer.content == wanted.content
    assert answer.headers["content-disposition"] == f'attachment; filename="{wanted.file_name}"'
    assert "rules.xml" in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()


def test_intune_takes_only_a_whole_policy(made: Export, engine: Engine, signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("analyst")
    assert "Needs a whole policy" in client.get("/exports/1").text
    assert client.get("/exports/1/bundle", params={"delivery": "intune"}).status_code == 422
    assert client.get("/exports/1/bundle", params={"delivery": "pigeon"}).status_code == 422
    with session_scope(engine) as session:
        record_export(session, plan_export(["venv-python=path"], SID, base=BASE))
    assert "Needs a whole policy" not in client.get("/exports/2").text
    names = zipfile.ZipFile(io.BytesIO(client.get("/exports/2/bundle?delivery=intune").content)).namelist()
    assert "intune/EXE.xml" in names


@pytest.mark.parametrize("path", ["/exports/7", "/exports/7/what-if", "/exports/7/bundle"])
def test_an_unknown_export_is_not_found(signed_in: Callable[[str], TestClient], path: str) -> None:
    assert signed_in("viewer").get(path).status_code == 404


def test_bad_paging_is_refused(signed_in: Callable[[str], TestClient]) -> None:
    assert signed_in("viewer").get("/exports?before=x").status_code == 422


def test_statements_do_not_grow_with_exports(
    engine: Engine, signed_in: Callable[[str], TestClient], statements: list[str]
) -> None:
    client = signed_in("viewer")
    with session_scope(engine) as session:
        for pattern in ("venv-python=path", "managed-python-exe=path", "uv-exe-standalone"):
            record_export(session, plan_export([pattern], SID))
    statements.clear()
    client.get("/exports")
    assert len(statements) <= 7
    statements.clear()
    client.get("/exports/2")
    assert len(statements) <= 11


def test_each_figure_leads_to_its_hosts(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient], statements: list[str]
) -> None:
    rules = tuple(render_rule(rule.rule) for rule in made.rules)
    client = signed_in("viewer")
    report(
        app,
        [
            ruled("OPEN", rules=rules),
            ruled("SHUT", rules=rules, blocked=("venv-python",)),
            ruled("NONE", blocked=("venv-python",)),
        ],
    )
    statements.clear()
    text = client.get("/exports/1/hosts?stage=arrived&state=blocked").text
    assert len(statements) <= 20
    assert ">SHUT</a>" in text
    assert ">OPEN</a>" not in text
    assert ">NONE</a>" not in text
    assert "all rules in force" in text
    text = client.get("/exports/1/hosts?reason=not-arrived").text
    assert ">NONE</a>" in text
    assert ">SHUT</a>" not in text
    assert "No host fits" in client.get("/exports/1/hosts?state=untold").text
    assert client.get("/exports/1/hosts?pattern=tool-bin-exe").status_code == 422
    assert client.get("/exports/1/hosts?cursor=x").status_code == 422
    assert "Another engine blocks it" in client.get("/exports/1/hosts?reason=other-engine").text
    assert client.get("/exports/2/hosts").status_code == 404


def test_what_became_of_it_is_a_page_a_fragment_and_an_answer_to_programs(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient]
) -> None:
    rules = tuple(render_rule(rule.rule) for rule in made.rules)
    client = signed_in("viewer")
    report(app, [ruled("SHUT", rules=rules, blocked=("venv-python",)), ruled("NONE")])
    assert "<!doctype html>" in client.get("/exports/1/after").text
    part = client.get("/exports/1/after", headers={"HX-Request": "true"})
    assert part.text.lstrip().startswith('<div id="after">')
    assert "not verified on Windows" in part.text
    answer = client.get("/api/v1/exports/1/after").json()
    after = answer["after"]
    assert (answer["as_of"], answer["work"]) == (None, None)
    assert client.get("/api/v1/exports/1/after?group=999").json()["after"]["base"] == 0
    assert (after["base"], after["open"], after["blocked"], after["arrived"]) == (2, 1, 1, 1)
    assert after["reasons"][0]["because"] == {"reason": "not-in-group", "detail": SID}
    arrival = client.get("/api/v1/exports/1/arrival").json()
    assert (arrival["base"], arrival["arrived"], arrival["missing"]) == (2, 1, 1)
    listed = client.get("/api/v1/exports/1/hosts?reason=not-in-group").json()
    assert [one["name"] for one in listed["hosts"]] == ["SHUT"]
    assert client.get("/api/v1/exports/9/after").status_code == 404


def test_hosts_of_an_export_need_a_login(made: Export, anonymous: TestClient) -> None:
    for path in ("/exports/1/after", "/exports/1/hosts"):
        assert anonymous.get(path).headers["location"].startswith("/login")
    assert anonymous.get("/api/v1/exports/1/hosts").status_code == 401


def test_a_large_fleet_gets_the_page_first(
    app: FastAPI, made: Export, signed_in: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = signed_in("viewer")
    report(app, [ruled("A")])
    monkeypatch.setattr("app.web.pages.exports.AT_ONCE_USERS", 0)
    text = client.get("/exports/1").text
    assert 'hx-get="/exports/1/after" hx-trigger="load"' in text
    assert "By pattern" not in text


def test_a_large_fleet_sees_figures_with_their_time_and_never_waits(
    app: FastAPI,
    made: Export,
    signed_in: Callable[[str], TestClient],
    statements: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, at_once = signed_in("viewer"), {"HX-Request": "true"}
    report(app, [ruled("A", blocked=("venv-python",)), ruled("B")])
    live = client.get("/exports/1/after", headers=at_once).text
    monkeypatch.setattr("app.web.pages.exports_after.AT_ONCE_USERS", -1)
    monkeypatch.setattr(app.state.workers, "start_work", lambda _asked, _do: None)
    page = client.get("/exports/1/after").text
    assert "What became of what export 1 opens, for whom, and why." in page
    assert 'id="after" hx-get="/exports/1/after" hx-trigger="every 2s"' in page
    assert "You may leave this page" in page
    assert "By pattern" not in page
    statements.clear()
    assert "You may leave this page" in client.get("/exports/1/after").text
    assert len(statements) <= 9
    told = client.get("/api/v1/exports/1/after").json()
    assert (told["after"], told["as_of"], told["work"]["state"]) == (None, None, "waiting")
    with session_scope(app.state.engine) as session:
        assert ask_for_after(session, 1, actor=SYSTEM).claim is None, "it is under way already"
        cancel_work(session, 1, actor=SYSTEM)
    page = client.get("/exports/1/after").text
    assert "It was cancelled." in page
    assert 'href="/exports/1/after?again=true"' in page
    monkeypatch.setattr(
        app.state.workers, "start_work", lambda asked, do: do_work(app.state.engine, asked.work.id, asked.claim, do)
    )
    client.get("/exports/1/after?again=true")
    text = client.get("/exports/1/after", headers=at_once).text
    assert "As of <time" in text
    assert "hx-trigger" not in text
    assert "Other policies are in force" not in text
    assert text[text.index("<h3") :] == live[live.index("<h3") :]
    told = client.get("/api/v1/exports/1/after").json()
    assert told["after"]["base"] == 2
    assert told["as_of"] is not None
    assert told["work"]["state"] == "done"
    # Those of a group are kept, too; of one without users there is nothing to be worked out.
    assert client.get("/api/v1/exports/1/after?group=999").json()["after"]["base"] == 0
    group = client.get("/api/v1/groups").json()[0]["id"]
    told = client.get(f"/api/v1/exports/1/after?group={group}").json()
    assert (told["after"], told["work"]["state"]) == (None, "waiting")
    told = client.get(f"/api/v1/exports/1/after?group={group}").json()
    assert (told["after"]["base"], told["as_of"] is None, told["work"]["state"]) == (2, False, "done")
    report(app, [ruled("C", rules=(render_rule(made.rules[0].rule),))])
    statements.clear()
    text = client.get("/exports/1/after").text
    assert len(statements) <= 9
    assert "Other policies are in force by now" in text
    assert '<a class="figure" href="/exports/1/hosts?state=open">1</a>' in text, "figures of two users"
