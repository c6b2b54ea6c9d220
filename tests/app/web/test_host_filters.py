"""The host list by everything else: tag, state, attestation, gaps, when seen, engine, policy; and which columns."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.tokens import create_token
from app.audit.record import COMMAND_LINE
from app.db.base import now
from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.hosts import find_named_hosts, revoke_host
from app.fleet.make import make_fleet
from app.fleet.tables import Host, Pulse, Subject
from app.fleet.tags import tag_hosts
from app.fleet.unseen import list_unseen


@pytest.fixture
def viewer(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    make_fleet(engine, 80, seed=2)
    return signed_in("viewer")


def hosts_and_subjects(engine: Engine) -> list[tuple[int, str, int]]:
    """Id, name and subject of the hosts in the counts."""
    with session_scope(engine, writes=False) as session:
        rows = session.execute(
            select(Host.id, Host.name, Subject.id)
            .join(Subject, Subject.host_id == Host.id)
            .where(Subject.standing.in_((1, 2, 3)))
            .order_by(Host.name)
        )
        return [(host_id, name, subject_id) for host_id, name, subject_id in rows]


def listed(viewer: TestClient, query: str) -> list[str]:
    """The names in the file that the page offers for its filter."""
    page = viewer.get(f"/hosts?{query}")
    assert page.status_code == 200
    return [row["name"] for row in csv.DictReader(io.StringIO(viewer.get(f"/hosts.csv?{query}").text))]


def test_by_tag(viewer: TestClient, engine: Engine) -> None:
    names = [name for _, name, _ in hosts_and_subjects(engine)[:3]]
    with session_scope(engine) as session:
        tag_hosts(session, "ring 1", find_named_hosts(session, names), actor=COMMAND_LINE)
    assert listed(viewer, "tag=Ring 1") == names
    assert listed(viewer, "tag=nothing") == []
    assert "<span>tag ring 1</span>" in viewer.get("/hosts?tag=ring 1").text


def test_by_gap_before_and_after_the_hourly_count(viewer: TestClient, engine: Engine) -> None:
    chosen = hosts_and_subjects(engine)[4:6]
    with session_scope(engine) as session:
        session.execute(update(Pulse).where(Pulse.subject_id.in_([row[2] for row in chosen])).values(missed=2))
    assert listed(viewer, "gap=yes") == [row[1] for row in chosen]
    with engine.connect() as connection:
        count_absent(connection, now())
    assert listed(viewer, "gap=yes") == [row[1] for row in chosen]


@pytest.mark.parametrize(("span", "days"), [("day", 0.5), ("week", 3), ("older", 9)])
def test_by_when_it_was_last_seen(viewer: TestClient, engine: Engine, span: str, days: float) -> None:
    everybody = hosts_and_subjects(engine)
    others = 20 if span != "older" else 2
    with session_scope(engine) as session:
        session.execute(update(Pulse).values(last_seen_at=now() - timedelta(days=others)))
        ids = [row[2] for row in everybody[:5]]
        session.execute(
            update(Pulse).where(Pulse.subject_id.in_(ids)).values(last_seen_at=now() - timedelta(days=days))
        )
    assert listed(viewer, f"seen={span}") == [row[1] for row in everybody[:5]]


def test_by_state_and_attestation(viewer: TestClient, engine: Engine) -> None:
    host_id, name, _ = hosts_and_subjects(engine)[0]
    with session_scope(engine) as session:
        session.execute(update(Host).where(Host.id == host_id).values(attested=False))
    assert listed(viewer, "attested=no") == [name]
    assert name not in listed(viewer, "attested=yes")
    with session_scope(engine) as session:
        revoke_host(session, host_id, actor=COMMAND_LINE)
    assert listed(viewer, "state=revoked") == [name]


def test_by_engine(viewer: TestClient) -> None:
    blocked = listed(viewer, "pattern=cache-builds-venv-python")
    assert blocked
    assert listed(viewer, "pattern=cache-builds-venv-python&engine=applocker") == blocked
    assert listed(viewer, "pattern=cache-builds-venv-python&engine=wdac") == []
    assert set(listed(viewer, "engine=applocker")) >= set(blocked)
    assert listed(viewer, "engine=srp") == []


def test_by_policy(viewer: TestClient, engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        policy = session.scalars(select(Subject.policy_id).where(Subject.standing == 1).limit(1)).one()
        rows = session.execute(
            select(Host.name)
            .join(Subject, Subject.host_id == Host.id)
            .where(Subject.policy_id == policy, Subject.standing.in_((1, 2, 3)))
            .order_by(Host.name)
        )
        expected = [name for (name,) in rows]
    assert listed(viewer, f"policy={policy}") == expected
    assert listed(viewer, "policy=999999") == []


BAD = {
    "seen": "tomorrow",
    "engine": "magic",
    "state": "happy",
    "attested": "maybe",
    "gap": "1",
    "standing": "tall",
    "outcome": "fine",
    "pattern": "no-such-place",
    "workflow": "dance",
    "verdict": "works",
    "seen_from": "yesterday",
    "seen_to": "31.01.2026",
}
"""Words that a field of the filter can't be; a verdict needs a command."""


@pytest.mark.parametrize(("field", "word"), BAD.items())
def test_words_that_are_no_filter_are_refused_by_name(viewer: TestClient, field: str, word: str) -> None:
    for path in ("/hosts.csv", "/hosts.json"):
        answer = viewer.get(path, params={field: word})
        assert answer.status_code == 422
        assert re.search(rf"(There is no|A|The day in) {field} ", answer.text)
    page = viewer.get("/hosts", params={field: word, "q": "R"})
    assert page.status_code == 422
    assert "It is left out of the filter." in page.text
    assert "<span>name begins with “R”</span>" in page.text


def test_the_api_names_the_field_too(viewer: TestClient, engine: Engine) -> None:
    with session_scope(engine) as session:
        token = create_token(session, "viewer", "test", None)
    viewer.headers["Authorization"] = f"Bearer {token}"
    for field, word in BAD.items():
        answer = viewer.get("/api/v1/hosts", params={field: word})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert viewer.get("/api/v1/hosts", params={"engine": "applocker"}).json()["hosts"]


def test_days_in_the_wrong_order_are_refused(viewer: TestClient) -> None:
    answer = viewer.get("/hosts.json?seen_from=2026-02-02&seen_to=2026-02-01")
    assert answer.status_code == 422
    assert "The first day (seen_from) comes after the last (seen_to)." in answer.text


def test_by_the_days_on_which_it_was_last_seen(viewer: TestClient, engine: Engine) -> None:
    everybody = hosts_and_subjects(engine)
    with session_scope(engine) as session:
        for number, days in enumerate((0, 3, 3, 5, 8)):
            seen_at = now() - timedelta(days=days)
            session.execute(update(Pulse).where(Pulse.subject_id == everybody[number][2]).values(last_seen_at=seen_at))
        rest = [row[2] for row in everybody[5:]]
        session.execute(update(Pulse).where(Pulse.subject_id.in_(rest)).values(last_seen_at=now()))
    names = [row[1] for row in everybody]
    day = {days: (now() - timedelta(days=days)).date().isoformat() for days in (3, 5, 8)}
    for _ in range(2):
        assert listed(viewer, f"seen_from={day[3]}&seen_to={day[3]}") == names[1:3]
        assert listed(viewer, f"seen_from={day[5]}&seen_to={day[3]}") == names[1:4]
        assert listed(viewer, f"seen_to={day[5]}") == names[3:5]
        assert listed(viewer, f"seen_to={day[8]}") == names[4:5]
        with engine.connect() as connection:
            list_unseen(connection, now())
    page = viewer.get(f"/hosts?seen_from={day[5]}&seen_to={day[3]}").text
    assert f"<span>last seen from {day[5]} to {day[3]} (UTC)</span>" in page
    assert f'name="seen_from" value="{day[5]}"' in page
    assert "Who was away for a day or longer is as of" in page


def test_an_outcome_without_a_pattern_is_one_at_any(viewer: TestClient) -> None:
    everybody = listed(viewer, "")
    blocked = listed(viewer, "outcome=blocked")
    assert blocked
    assert set(blocked) < set(everybody)
    assert set(blocked) == set(listed(viewer, "engine=applocker"))
    assert set(listed(viewer, "pattern=cache-builds-venv-python")) <= set(blocked)
    assert listed(viewer, "outcome=blocked&engine=applocker") == blocked
    assert listed(viewer, "outcome=blocked&engine=wdac") == []
    assert "<span>blocked at any pattern</span>" in viewer.get("/hosts?outcome=blocked").text
    # The form as it is sent without a choice filters nothing.
    assert listed(viewer, "outcome=&pattern=&workflow=&verdict=&uv=&policy=&seen_from=&seen_to=&gap=") == everybody


def test_the_form_chooses_version_policy_and_command(viewer: TestClient, engine: Engine) -> None:
    with session_scope(engine, writes=False) as session:
        policy = session.scalars(select(Subject.policy_id).where(Subject.standing == 1).limit(1)).one()
    page = viewer.get("/hosts").text
    version = re.findall(r'<option value="([^"]+)">uv ', page)[0]
    assert re.search(rf'<option value="{policy}">policy [0-9a-f]{{8}}, [0-9,]+ users?</option>', page)
    assert '<option value="uvx">' in page
    answer = viewer.get(
        f"/hosts?uv={version}&policy={policy}&workflow=uvx&verdict=runs", headers={"HX-Request": "true"}
    )
    address = answer.headers["HX-Push-Url"]
    assert address == f"/hosts?workflow=uvx&verdict=runs&version={version}&policy={policy}"
    again = viewer.get(address).text
    assert f'<option value="{version}" selected>' in again
    assert f'<option value="{policy}" selected>' in again
    assert '<option value="uvx" selected>' in again
    assert '<option value="runs" selected>' in again
    assert listed(viewer, f"uv={version}") == listed(viewer, f"version={version}")
    assert listed(viewer, "uv=none") == listed(viewer, "version=")
    # One that is not among those offered stays chosen all the same.
    assert '<option value="999" selected>policy 999</option>' in viewer.get("/hosts?policy=999").text


def test_columns_are_chosen_and_stay_in_the_address(viewer: TestClient) -> None:
    usual = viewer.get("/hosts").text
    assert 'data-label="Last seen"' in usual
    assert 'data-label="Enrolled"' not in usual
    answer = viewer.get("/hosts?column=enrolled&column=group&group=", headers={"HX-Request": "true"})
    assert 'data-label="Enrolled"' in answer.text
    assert 'data-label="Last seen"' not in answer.text
    address = answer.headers["HX-Push-Url"]
    assert address == "/hosts?columns=group.enrolled"
    assert 'data-label="Enrolled"' in viewer.get(address).text
    assert 'data-label="Last seen"' in viewer.get("/hosts?columns=nonsense").text, "the usual ones, where none is known"
