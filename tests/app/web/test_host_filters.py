"""The host list by everything else: tag, state, attestation, gaps, when seen, engine, policy; and which columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.audit.record import COMMAND_LINE
from app.db.base import now
from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.hosts import find_named_hosts, revoke_host
from app.fleet.make import make_fleet
from app.fleet.tables import Host, Pulse, Subject
from app.fleet.tags import tag_hosts


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


def test_words_that_are_no_filter_filter_nothing(viewer: TestClient) -> None:
    every = listed(viewer, "")
    assert listed(viewer, "seen=tomorrow&engine=magic&state=happy&attested=maybe&gap=1") == every


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
