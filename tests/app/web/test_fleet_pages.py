"""The pages of the fleet over real reports: the figures are those of the machines, filters fit, words are escaped."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, update
from starlette.testclient import TestClient

from agent.catalogue import load
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, put_setting
from app.fleet.sequence import EMPTY_RECENT, remember
from app.fleet.tables import Pulse

SPEC = spec_from_file_location("small_fleet", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet  # its dataclasses look themselves up
SPEC.loader.exec_module(small_fleet)


@pytest.fixture
def viewer(app: FastAPI, signed_in: Callable[[str], TestClient]) -> TestClient:
    """Somebody who looks at a fleet of 27 machines that have reported."""
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines())
    return signed_in("viewer")


def words(page: str) -> str:
    """A page's text, without tags and runs of spaces."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page))).replace("\u00a0", " ")


def test_the_overview_answers_first(viewer: TestClient) -> None:
    text = words(viewer.get("/").text)
    assert "with a source build (sdist, editable, git) works for 32 % of 25 users" in text
    assert "It is blocked for most of Sales and Engineering ." in text
    assert "3 of 12 uv commands work for everybody" in text
    assert "1 with administrator rights" in text
    assert "1 under no enforced policy" in text


@pytest.mark.parametrize(("counted_to", "sentence"), [(27, "27 hosts are known"), (26, "More than 26 hosts are known")])
def test_a_list_says_more_than_only_where_there_are_more(
    viewer: TestClient, monkeypatch: pytest.MonkeyPatch, counted_to: int, sentence: str
) -> None:
    monkeypatch.setattr("app.web.pages.hosts.COUNT_LIMIT", counted_to)
    assert sentence in words(viewer.get("/hosts").text)


def test_the_heat_map_has_each_groups_own_share(viewer: TestClient) -> None:
    page = viewer.get("/").text
    row = re.search(r'<th scope="row"><a href="/patterns/cache-builds-venv-python">.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert re.findall(r"(\d+ %)", words(row[0])) == ["68 %", "75 %", "100 %", "0 %"]
    assert re.findall(r"heat-(\d)", row[0]) == ["4", "4", "5", "0"]


def test_one_group_alone(viewer: TestClient) -> None:
    page = viewer.get("/").text
    link = re.search(r'href="(/\?group=\d+)"[^>]*>Finance', page)
    assert link is not None
    text = words(viewer.get(link[1]).text)
    assert "group Finance and Controlling" in text
    assert "Every uv command that was tried works for all 5 users" in text
    assert viewer.get("/?group=999").status_code == 404


def test_a_viewer_is_not_offered_rules_to_draft(viewer: TestClient, signed_in: Callable[[str], TestClient]) -> None:
    assert "Draft rules" not in viewer.get("/").text
    offered = signed_in("analyst").get("/").text
    assert "Draft rules for these 8 patterns" in offered
    link = re.search(r'href="(/export\?[^"]+)"', offered)
    assert link is not None
    assert unescape(link[1]).count("pattern=") == 8


def test_hosts_are_filtered_by_what_their_users_met(viewer: TestClient) -> None:
    def hosts(query: str) -> list[str]:
        return re.findall(r'href="/hosts/\d+">([^<]+)</a>', viewer.get(f"/hosts?{query}").text)

    assert len(hosts("")) == 27
    assert hosts("q=eng-01") == ["ENG-010", "ENG-011"]
    assert {name[:3] for name in hosts("pattern=venv-python")} == {"SAL"}
    assert len(hosts("pattern=cache-builds-venv-python")) == 17
    assert len(hosts("pattern=cache-builds-venv-python&outcome=allowed")) == 10
    assert len(hosts("version=0.12.9")) == 5
    assert hosts("version=") == ["FIN-000"]
    assert hosts("standing=administrator") == ["ADMIN-01"]
    assert hosts("q=%25") == []
    assert viewer.get("/hosts?pattern=invented").status_code == 422


def test_a_filter_shows_as_chips_that_take_it_away(viewer: TestClient) -> None:
    page = viewer.get("/hosts?q=SALES&pattern=venv-python&version=0.12.9").text
    assert "<strong>5 hosts</strong> fit the filter" in page
    chips = re.findall(r'<a class="chip" href="([^"]+)"><span>([^<]+)', page)
    assert [(unescape(href), unescape(text)) for href, text in chips] == [
        ("/hosts?pattern=venv-python&outcome=blocked&version=0.12.9", "name begins with “SALES”"),
        ("/hosts?q=SALES&version=0.12.9", "blocked at Python launcher in a project/other virtual environment"),
        ("/hosts?q=SALES&pattern=venv-python&outcome=blocked", "uv 0.12.9"),
    ]


def test_htmx_gets_the_results_alone(viewer: TestClient) -> None:
    for path in ("/hosts", "/patterns"):
        fragment = viewer.get(path, headers={"HX-Request": "true"})
        assert fragment.text.strip().startswith('<div id="results"')
        assert "<html" not in fragment.text


def test_bad_filters_are_refused_by_name(viewer: TestClient) -> None:
    for query in ("cursor=nonsense", "group=abc", "pattern=" + "x" * 81):
        assert viewer.get(f"/hosts?{query}").status_code == 422, query


def test_one_host_tells_what_was_tried_there(viewer: TestClient) -> None:
    page = viewer.get("/hosts?q=ENG-000").text
    link = re.search(r'href="(/hosts/\d+)">ENG-000', page)
    assert link is not None
    text = words(viewer.get(link[1]).text)
    assert "ENG-000 is blocked at 3 patterns" in text
    assert "the canary 1260" in text
    assert "Exe: 1 rule (Enabled)" in text
    assert "The event logs of this host told of 1 file of uv’s patterns" in text
    assert "Who tried what is shown to approvers" in text
    assert "UV_NATIVE_TLS=1" in text
    assert "events were overwritten before they were read" in text
    assert small_fleet.SID.format("")[:-1] not in text
    assert viewer.get("/hosts/999").status_code == 404
    assert viewer.get("/hosts/abc").status_code == 404


def test_patterns_are_found_by_word_place_and_state(viewer: TestClient) -> None:
    def patterns(query: str) -> list[str]:
        return re.findall(r'href="/patterns/([^"?]+)"', viewer.get(f"/patterns?{query}").text)

    assert len(patterns("")) == len(load().patterns)
    assert len(patterns("state=refused")) == 8
    assert patterns("state=open") == ["cache-script-env-python", "uv-exe-standalone"]
    assert patterns("q=builds-v0&state=refused") == ["cache-builds-venv-python"]
    assert set(patterns("place=tools")) == {one.id for one in load().patterns if one.group == "tools"}
    assert "No pattern fits" in viewer.get("/patterns?q=nothing-like-it").text
    assert viewer.get("/patterns?state=wrong").status_code == 422


def test_one_pattern_says_who_and_what_would_open_it(viewer: TestClient) -> None:
    text = words(viewer.get("/patterns/cache-builds-venv-python").text)
    assert "is blocked for 68 % of 25 users who could try it, by AppLocker" in text
    assert "Engineering 75 % 9 of 12" in text
    assert "%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache\\builds-v0\\.tmp*\\Scripts\\python*.exe" in text
    assert "8004" in text
    assert viewer.get("/patterns/invented").status_code == 404


def test_every_pattern_of_the_catalogue_has_a_page(viewer: TestClient) -> None:
    for pattern in load().patterns:
        assert viewer.get(f"/patterns/{pattern.id}").status_code == 200, pattern.id


def test_versions_are_counted_and_compared_with_the_newest(viewer: TestClient) -> None:
    text = words(viewer.get("/versions").text)
    assert "3 versions of uv are in use; 38 % of 24 users are behind" in text
    assert re.search(r"0\.12\.9 released unsigned .{0,200}?20 % 5", text)
    assert re.search(r"0\.13\.8 released signed .{0,200}?60 % 15", text)


def test_a_review_says_what_the_rules_would_change(viewer: TestClient, signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("analyst")
    form = words(client.get("/export").text)
    assert "Blocked on this fleet 8" in form
    assert "blocked for 68 %" in form
    choice = {"pattern": ["cache-builds-venv-python"], "sid": "S-1-5-21-1-2-3-4"}
    text = words(client.post("/export", data=choice).text)
    assert "What it would change" in text
    assert "in force for 25 users" in text


def test_one_host_leads_to_its_policy_and_tells_its_last_report(viewer: TestClient) -> None:
    page = viewer.get("/hosts/1").text
    policy = re.search(r'href="(/policies/\d+)"', page)
    assert policy is not None
    assert "This policy is in force for" in viewer.get(policy[1]).text
    assert re.search(r"last report .{3,60}, number \d+; facts changed .{3,60}\. 1 report arrived since", words(page))


def test_one_host_tells_which_of_its_last_reports_arrived(viewer: TestClient, app: FastAPI) -> None:
    assert re.search(r"Last reports Number \d+ arrived\. The newest came", words(viewer.get("/hosts/1").text))
    recent = EMPTY_RECENT
    for before, number in ((39, 40), (40, 42), (42, 43), (43, 44)):
        recent = remember(recent, before, number, b"told tag")
    with session_scope(app.state.engine) as session:
        session.execute(update(Pulse).values(sequence=44, recent=recent, missed=1))
    page = viewer.get("/hosts/1").text
    assert "Of the last 5 numbers, 4 arrived; 41 did not" in words(page)
    numbers = re.search(r'<ol class="report-numbers".*?</ol>', page, re.DOTALL)
    assert numbers is not None
    assert words(numbers[0]).strip() == "40 arrived 41 missing 42 arrived 43 arrived 44 arrived"
    told = viewer.get("/api/v1/hosts/1").json()["subjects"][0]["last_reports"]
    assert [(one["number"], one["arrived"]) for one in told] == [(n, n != 41) for n in range(40, 45)]


def test_what_hosts_say_is_text(app: FastAPI, signed_in: Callable[[str], TestClient]) -> None:
    hostile = '<img src=x onerror="alert(1)">{{ 7 * 7 }}'
    machine = small_fleet.Machine(name=hostile, group="<b>Lab</b>", version="<i>1</i>", blocked=small_fleet.CACHE)
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, [machine])
    client = signed_in("viewer")
    for path in ("/", "/hosts", "/hosts/1", "/versions", "/patterns/cache-builds-venv-python"):
        page = client.get(path)
        assert page.status_code == 200
        assert "<img src=x" not in page.text, path
        assert "<b>Lab" not in page.text, path
        assert "<i>1" not in page.text, path
        assert "49" not in re.findall(r"onerror[^ ]*", page.text), path
    assert unescape(client.get("/hosts/1").text).count(hostile) >= 1


def test_an_empty_fleet_teaches_how_to_begin(signed_in: Callable[[str], TestClient]) -> None:
    client = signed_in("administrator")
    for path in ("/", "/hosts"):
        page = client.get(path).text
        assert "wayleave-agent enrol --server http://wayleave.example" in page
        assert 'href="/agents"' in page
    assert "No uv was reported yet" in client.get("/versions").text


def test_a_made_fleet_is_marked_on_every_page(signed_in: Callable[[str], TestClient], engine: Engine) -> None:
    client = signed_in("administrator")
    assert "A made fleet" not in client.get("/").text
    with session_scope(engine) as session:
        put_setting(session, FLEET_ORIGIN, "made")
    for path in ("/", "/patterns", "/hosts", "/versions", "/export", "/agents", "/accounts", "/audit", "/account"):
        assert "A made fleet" in client.get(path).text, path


@pytest.mark.parametrize(
    ("path", "most"),
    [("/", 20), ("/patterns", 12), ("/hosts", 14), ("/hosts/1", 10), ("/versions", 10), ("/agents", 9)],
)
def test_the_number_of_statements_is_bounded(
    app: FastAPI, signed_in: Callable[[str], TestClient], statements: list[str], path: str, most: int
) -> None:
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines())
    client = signed_in("administrator")
    statements.clear()
    assert client.get(path).status_code == 200
    asked = [one for one in statements if one.startswith("SELECT")]
    assert len(asked) <= most, "\n".join(asked)
