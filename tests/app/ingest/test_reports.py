"""What becomes of reports: recorded once, asked for bodies, refused with the field, counted."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from agent.contract.facts import HostFacts, PolicySet, TokenSet
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.groups import LINUX_GROUP
from app.fleet.queries import read_overview
from app.fleet.standing import HostState, Standing
from app.fleet.tables import FactSet, Host, HostGroup, Pulse, Sighting, Subject, Transition
from tests.app.ingest.workstation import Workstation, enrolled, probes


def folded(server: FastAPI) -> None:
    """Folds now instead of within a second, and holds that every count is right."""
    with server.state.engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
        assert check_tallies(connection) == []


def count(server: FastAPI, table: type) -> int:
    with session_scope(server.state.engine, writes=False) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def pulse(server: FastAPI) -> Pulse:
    with session_scope(server.state.engine, writes=False) as session:
        return session.scalars(select(Pulse)).one()


def test_bodies_are_asked_for_once_and_then_known(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report(bodies=False)
    answer = workstation.send(report)
    assert answer.status_code == 409
    assert answer.json()["error"] == "missing"
    assert sorted(answer.json()["missing"]) == sorted(report["sets"].values())
    assert (count(server, FactSet), count(server, Subject)) == (0, 0)

    bodies = {one.digest(): one.body() for one in workstation.sets.values()}
    answer = workstation.send({**report, "bodies": bodies})
    assert answer.status_code == 200
    assert answer.json()["report_id"] == report["report_id"]
    assert answer.json()["next_report_s"] == 900
    assert workstation.send(bodies=False).status_code == 200


def test_a_report_sent_twice_counts_once(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report()
    first, second = workstation.send(report), workstation.send(report)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert pulse(server).received == 1
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        assert read_overview(session).counted == 1


def test_what_was_blocked_is_shown_and_then_open(workstation: Workstation, server: FastAPI) -> None:
    workstation.put(probes("blocked", "venv-python", "cache-builds-venv-python"))
    assert workstation.send().status_code == 200
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        overview = read_overview(session)
    assert {one.pattern for one in overview.blocked_patterns} == {"venv-python", "cache-builds-venv-python"}
    assert {one.workflow: one.blocked for one in overview.workflows}["sync-build"] == 1

    workstation.put(probes("allowed", "venv-python", "cache-builds-venv-python"))
    assert workstation.send().status_code == 200
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        overview = read_overview(session)
        assert session.scalars(select(Transition.kind)).all() == [1]
    assert overview.blocked_patterns == ()
    assert {one.workflow: one.open for one in overview.workflows}["sync-build"] == 1


def test_a_pattern_that_the_catalogue_lacks_is_kept_but_not_counted(workstation: Workstation, server: FastAPI) -> None:
    workstation.put(probes("blocked", "venv-python", "from-a-newer-release"))
    assert workstation.send().status_code == 200
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        assert [one.pattern for one in read_overview(session).patterns] == ["venv-python"]


def test_a_clone_is_told_to_begin_anew(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    workstation.sequence -= 1
    answer = workstation.send()
    assert (answer.status_code, answer.json()["error"]) == (409, "sequence_reused")
    workstation.epoch += 1000
    workstation.sequence = 0
    assert workstation.send().status_code == 200
    assert pulse(server).received == 2


def test_a_restored_snapshot_is_told_to_begin_anew(workstation: Workstation) -> None:
    for _ in range(20):
        assert workstation.send().status_code == 200
    workstation.sequence = 2
    answer = workstation.send()
    assert (answer.status_code, answer.json()["error"]) == (409, "sequence_too_old")
    old = workstation.report(epoch=workstation.epoch - 1)
    assert workstation.send(old).json()["error"] == "sequence_too_old"


def test_a_late_report_fills_its_hole_and_changes_no_state(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    late = workstation.report()
    late["sightings"] = [sighting()]
    workstation.put(probes("allowed"))
    assert workstation.send().status_code == 200
    assert pulse(server).missed == 1
    assert workstation.send(late).status_code == 200
    assert workstation.send(late).status_code == 200
    now = pulse(server)
    assert (now.missed, now.received, now.sequence) == (0, 3, 3)
    assert count(server, Sighting) == 1
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        assert read_overview(session).blocked_patterns == ()


def test_sightings_delivered_twice_are_stored_once(workstation: Workstation, server: FastAPI) -> None:
    for _ in range(2):
        assert workstation.send(workstation.report(sightings=[sighting(), sighting(record=8)])).status_code == 200
    assert count(server, Sighting) == 2


def sighting(**changes: Any) -> dict[str, Any]:
    return {
        "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
        "record": 7,
        "event_id": 8004,
        "at": "2026-11-20T08:00:00Z",
        "pattern": "venv-python",
        "path": "%OSDRIVE%\\src\\*\\.venv\\Scripts\\python.exe",
        "sha256": "0x" + "AB" * 32,
        **changes,
    }


def test_hosts_are_one_subject_per_user(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    workstation.subject = "s-1-5-21-1004336348-1177238915-682003330-1002"
    assert workstation.send().status_code == 200
    workstation.subject = workstation.subject.upper()
    assert workstation.send().status_code == 200
    assert count(server, Subject) == 2


def test_the_sid_itself_is_nowhere(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    with session_scope(server.state.engine, writes=False) as session:
        subject = session.scalars(select(Subject)).one()
        bodies = session.scalars(select(FactSet.body)).all()
    assert len(subject.sid_hmac) == 16
    assert not any("1004336348" in body for body in bodies)


@pytest.mark.parametrize(
    ("sets", "standing"),
    [
        ([TokenSet(sids=("S-1-5-32-544",), administrator=True)], Standing.ADMINISTRATOR),
        ([PolicySet(collections={}), probes("allowed")], Standing.NOT_ENFORCING),
        ([PolicySet(collections=None), probes("allowed")], Standing.NOT_ENFORCING),
        ([HostFacts(name="lab", platform="linux", os="Debian")], Standing.TRIAL),
    ],
)
def test_who_counts(workstation: Workstation, server: FastAPI, sets: list[Any], standing: Standing) -> None:
    workstation.put(*sets)
    assert workstation.send().status_code == 200
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        assert session.scalars(select(Subject.standing)).one() == standing
        assert read_overview(session).counted == 0
        if standing is Standing.TRIAL:
            group = session.scalars(select(HostGroup).join(Host)).one()
            assert group.name == LINUX_GROUP
            assert read_overview(session, group.id).counted == 1


def test_hosts_come_into_the_group_of_their_secret(client: TestClient, server: FastAPI) -> None:
    one = enrolled(client, server, group="Finance")
    assert one.send().status_code == 200
    folded(server)
    with session_scope(server.state.engine, writes=False) as session:
        assert [(group.name, group.counted) for group in read_overview(session).groups if group.counted] == [
            ("Finance", 1)
        ]


def test_a_known_host_and_user_with_another_secret_are_401(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    before = pulse(server)
    own = workstation.token
    workstation.token = own[:-1] + ("A" if own[-1] != "A" else "B")
    for answer in (workstation.send(bodies=False), workstation.send()):
        assert (answer.status_code, answer.json()["error"]) == (401, "unknown")
    after = pulse(server)
    assert (after.received, after.sequence, after.last_seen_at) == (1, before.sequence, before.last_seen_at)


def test_an_unknown_token_is_401_and_a_revoked_host_403(workstation: Workstation, server: FastAPI) -> None:
    good = workstation.token
    for bad in ("wl_1_" + "x" * 43, "wl_999_" + good.split("_", 2)[2], "nonsense", "wl_" + "9" * 30 + "_" + "x" * 43):
        workstation.token = bad
        answer = workstation.send()
        assert (answer.status_code, answer.json()["error"]) == (401, "unknown")
    workstation.token = good
    assert workstation.send().status_code == 200
    with session_scope(server.state.engine) as session:
        session.execute(update(Host).values(state=HostState.REVOKED))
    answer = workstation.send()
    assert (answer.status_code, answer.json()["error"]) == (403, "revoked")
    assert pulse(server).received == 1


def test_more_users_or_sets_than_a_day_allows_are_429(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    for number in range(18):
        workstation.put(TokenSet(sids=("S-1-5-32-545", f"S-1-5-21-1-2-3-{number}")))
        answer = workstation.send()
        assert answer.status_code == 200, answer.text
    workstation.put(probes("allowed"), TokenSet(sids=("S-1-5-32-545", "S-1-5-21-1-2-3-99")))
    answer = workstation.send()
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (429, "quota", "bodies")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    workstation.put(TokenSet(sids=("S-1-5-32-545", "S-1-5-21-1-2-3-1")))
    sets = [HostFacts(name="PC-1", platform="windows", os="Windows 11", attested=True), probes()]
    workstation.put(*sets)
    statuses = []
    for number in range(40):
        workstation.subject = f"S-1-5-21-1-2-3-{number + 5000}"
        statuses.append(workstation.send().status_code)
    assert statuses == [200] * 31 + [429] * 9


def test_gzip_is_taken(workstation: Workstation) -> None:
    answer = workstation.client.post(
        "/api/v1/reports",
        content=gzip.compress(json.dumps(workstation.report()).encode()),
        headers={"Authorization": f"Bearer {workstation.token}", "Content-Encoding": "gzip"},
    )
    assert answer.status_code == 200


def test_an_unknown_kind_of_set_is_ignored(workstation: Workstation, server: FastAPI) -> None:
    report = workstation.report()
    report["sets"]["weather"] = "sha256:" + "0" * 64
    report["new_field"] = {"a": [1]}
    assert workstation.send(report).status_code == 200
    assert count(server, FactSet) == 5


def test_what_was_acknowledged_is_committed(workstation: Workstation, server: FastAPI) -> None:
    """A second connection sees the report as soon as its answer is there."""
    for _ in range(5):
        assert workstation.send().status_code == 200
        assert pulse(server).received == workstation.sequence


def test_the_clock_folds_within_seconds(workstation: Workstation, server: FastAPI) -> None:
    assert workstation.send().status_code == 200
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with session_scope(server.state.engine, writes=False) as session:
            if read_overview(session).counted == 1:
                return
        time.sleep(0.1)
    pytest.fail("nothing was folded")
