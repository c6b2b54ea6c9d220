"""`make demo`: what people did with the made fleet is there, and went the ways that pages go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import aliased
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.attestation import count_unattested
from app.fleet.installs import read_installs
from app.fleet.make import DEPARTMENTS, NEWEST, OLDER, make_fleet
from app.fleet.queries import read_heat_map, read_overview
from app.fleet.standing import HostState
from app.fleet.tables import FactSet, Host, Sighting, Subject
from app.fleet.tags import list_tags
from app.imports.tables import ImportJob
from app.ingest.secrets import page_secrets
from app.main import create_app
from app.notices.made import watch_days
from app.notices.tables import NoticeRow
from app.policies.queries_exports import get_kept_export, page_exports
from app.policies.queries_rule_sets import get_rule_set
from app.policies.review import held_approval
from app.requests.queries import list_groups
from app.settings import Settings
from app.web.pages.overview import headline_of, read_shown_overview, read_shown_trend

PASSWORD = "correct horse battery"
SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "demo_story.py"
SPEC = spec_from_file_location("demo_story", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
story = module_from_spec(SPEC)
SPEC.loader.exec_module(story)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The made fleet, and what people did with it."""
    monkeypatch = pytest.MonkeyPatch()
    tmp_path = tmp_path_factory.mktemp("demo")
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", "")
    monkeypatch.setattr("sys.stdin", StringIO(f"{PASSWORD}\n"))
    engine = open_engine(Settings(data_dir=tmp_path))
    upgrade(engine)
    make_fleet(engine, 200, seed=1, story=True, each_day=watch_days())
    assert story.main(["analyst@example.com", "approver@example.com"]) == 0
    monkeypatch.undo()
    yield engine
    engine.dispose()


def test_what_people_did(engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        approval = held_approval(session, 1)
        assert approval is not None
        assert approval.approved_by == "approver@example.com"
        assert get_rule_set(session, 2).state == "draft"
        assert len(page_exports(session).lines) == 1
        wanted = {one.rule.id for one in get_kept_export(session, 1).export.rules}
        in_force = select(FactSet.body).join(Subject, Subject.policy_id == FactSet.id)
        arrived = [body for body in session.scalars(in_force) if wanted and all(one in body for one in wanted)]
        assert 1 <= len(arrived) < story.PILOTS
        assert {group.pattern for group in list_groups(session)} == {pattern for pattern, _, _ in story.ASKED}
        assert session.scalars(select(ImportJob.name)).all() == ["laboratory.csv"]
        actions = set(session.scalars(select(AuditEntry.action)))
        assert {"rule_set.approved", "rule_set.exported", "access.asked", "hosts.tagged"} <= actions


def test_the_release_that_broke_the_pilot_is_a_notice_and_a_mark(engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        (notice,) = session.scalars(select(NoticeRow)).all()
        assert notice.kind == "regression"
        assert notice.title.endswith(f"are blocked for {notice.users} users for whom they worked: uv’s version changed")
        assert [group["name"] for group in notice.detail["groups"]] == ["Engineering"]
        change = notice.detail["evidence"]["changes"][0]
        assert (change["what"], change["before"], change["after"]) == ("uv", OLDER, NEWEST)
        assert notice.ended_at is not None, "the engineers' policy mended it"
        assert notice.ended_at - notice.opened_at < timedelta(days=11)
        overview = read_shown_overview(session)
        trend = read_shown_trend(session, overview, headline_of(overview, read_heat_map(session)), "", 30, now())
        assert trend is not None
        assert [one.version for one in trend.versions] == [NEWEST]
        assert abs((trend.versions[0].day - notice.opened_at.date()).days) <= 1, "the mark stands where it got worse"
        assert {"day": trend.versions[0].day.isoformat(), "text": f"uv {NEWEST}"} in trend.data["marks"]
        assert trend.policies, "that which mended it"


def test_the_pages_show_it(engine: Engine) -> None:
    assert engine.url.database is not None
    server = create_app(Settings(data_dir=Path(engine.url.database).parent))
    client = TestClient(server, base_url="http://testserver", follow_redirects=False)
    client.post("/login", data={"email": "approver@example.com", "password": PASSWORD})
    overview = client.get("/").text
    day = (now() - timedelta(days=12)).date()
    marks = re.search(r'<ul class="marks".*?</ul>', overview, re.DOTALL)
    assert marks is not None
    told = re.search(
        rf'(\d{{4}}-\d\d-\d\d) <a href="[^"]*version={NEWEST}">uv {NEWEST}</a> was first reported', marks[0]
    )
    assert told is not None
    assert abs((date.fromisoformat(told[1]) - day).days) <= 1
    assert re.search(r'<a href="/hosts\?attested=no[^"]*">2 hosts</a>\s*are\s*<em>unattested', overview)
    assert re.search(r"standing=quarantined[^>]*>2 in quarantine", overview)
    assert "this host is <strong>in quarantine</strong>" in client.get("/hosts/203").text.lower()
    notices = client.get("/notices").text
    assert "were blocked for" in notices
    assert "uv’s version changed" in notices
    server.state.engine.dispose()


def test_pages_have_several_of_each_thing_to_show(engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        overview = read_overview(session)
        assert {one.name for one in overview.groups if one.counted} == {one.name for one in DEPARTMENTS}
        kinds = dict(read_installs(session).kinds)
        assert {"uv-exe-standalone", "uv-exe-winget", "uv-exe-python-scripts", "uv-exe-custom-dir"} <= set(kinds)
        assert max(kinds.values()) < sum(kinds.values()) / 2
        seen = session.execute(select(Sighting.sha256, Sighting.fqbn)).all()
        assert len({sha256 for sha256, _ in seen}) >= 2
        assert {fqbn is None for _, fqbn in seen} == {True, False}
        hosts = session.execute(
            select(Host.name, Host.state, Host.attested).where(Host.name.regexp_match("^(EXT|FIELD)"))
        )
        states = {name.partition("-")[0]: (HostState(state), attested) for name, state, attested in hosts}
        assert states == {"EXT": (HostState.QUARANTINED, True), "FIELD": (HostState.ACTIVE, False)}
        assert count_unattested(session).hosts == 2
        assert sum(group.quarantined for group in overview.groups) == 2
        assert [(one.trial, one.uses_left) for one in page_secrets(session).secrets] == [(False, 2), (True, 2)]
        tags = {one.tag: one.hosts for one in list_tags(session)}
        assert tags["pilot uv"] <= story.PILOTS
        assert {"loaner", "build machine", "agent by hand", "contractor"} < set(tags)


def test_patterns_are_blocked_since_the_day_when_they_were_reported(engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        since = [one.blocked_since_at for one in read_overview(session).blocked_patterns]
    assert since
    assert all(at is not None and timedelta(days=25) < now() - at < timedelta(days=33) for at in since)


def test_where_uv_lies_is_told_alike(engine: Engine) -> None:
    """Who has uv in a folder of their own is refused uv itself, unless only audited; who has none was not tried."""
    uv, probes = aliased(FactSet), aliased(FactSet)
    with session_scope(engine, writes=False) as session:
        query = select(uv.body, probes.body).select_from(Subject)
        rows = session.execute(query.join(uv, uv.id == Subject.uv_id).join(probes, probes.id == Subject.probes_id))
        told = [(json.loads(one)["found"], json.loads(other)["probes"]) for one, other in rows]
    assert {len(found) for found, _ in told} == {0, 1}
    for found, tried in told:
        ran = {one["pattern"]: one for one in tried if one["pattern"].startswith("uv-exe-")}
        there = {name for name, one in ran.items() if one["outcome"] != "absent"}
        assert there == {one["pattern"] for one in found}
        if found and found[0]["path"].startswith("%ProgramFiles%"):
            assert ran[found[0]["pattern"]]["outcome"] == "allowed"


def test_two_addresses_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert story.main(["analyst@example.com"]) == 2
    assert "Usage" in capsys.readouterr().err
