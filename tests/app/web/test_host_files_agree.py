"""The list of hosts, its count and its files say the same, whatever is asked for and however it is found."""

from __future__ import annotations

import csv
import io
import random
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event, select, update
from starlette.testclient import TestClient

from app.accounts.create import create_account
from app.audit.record import COMMAND_LINE
from app.db.base import now
from app.db.session import session_scope
from app.fleet import host_filter
from app.fleet.host_filter import HostFilter, count_fitting
from app.fleet.hosts import NamedHosts
from app.fleet.make import make_fleet
from app.fleet.queries_hosts import list_hosts
from app.fleet.standing import HostState, Standing
from app.fleet.tables import Host, Pulse, Subject, VersionTally
from app.fleet.tags import tag_hosts
from app.fleet.unseen import list_unseen
from app.web.pages import host_files
from app.web.pages.host_filters import filters_of

PASSWORD = "correct horse battery"
FILTERS = 60


@pytest.fixture
def fleet(server: FastAPI) -> Engine:
    """Hosts with tags, of all states, with gaps, some of one name, last seen on any of the last eleven days."""
    engine: Engine = server.state.engine
    make_fleet(engine, 90, seed=3)
    chance = random.Random(4)
    at = now()
    with session_scope(engine) as session:
        hosts = list(session.scalars(select(Host.id).order_by(Host.id)))
        for tag, count in (("ring 1", 30), ("lab", 8)):
            tagged = NamedHosts(ids=tuple(chance.sample(hosts, count)), found=(), unknown=())
            tag_hosts(session, tag, tagged, actor=COMMAND_LINE)
        for values, count in (
            ({"state": HostState.QUARANTINED.value}, 9),
            ({"attested": False}, 20),
            ({"agent_version": "0.2.0"}, 25),
            ({"name": "SAME"}, 12),
        ):
            session.execute(update(Host).where(Host.id.in_(chance.sample(hosts, count))).values(**values))
        subjects = list(session.scalars(select(Subject.id).order_by(Subject.id)))
        for subject in subjects:
            days = chance.choice((0, 0, 0.9, 1.1, 2, 3, 5, 8, 11))
            missed = chance.choice((0, 0, 2))
            session.execute(
                update(Pulse)
                .where(Pulse.subject_id == subject)
                .values(last_seen_at=at - timedelta(days=days), missed=missed)
            )
    with engine.connect() as connection:
        list_unseen(connection, at)
    return engine


def some_filters(engine: Engine) -> list[HostFilter]:
    """One, two or three things asked for together."""
    chance = random.Random(5)
    day = now().date()
    with session_scope(engine, writes=False) as session:
        groups = sorted(set(session.scalars(select(Host.group_id))))
        policies = sorted(one for one in set(session.scalars(select(Subject.policy_id))) if one is not None)
        versions = sorted(set(session.scalars(select(VersionTally.version))))
    choices: dict[str, list[Any]] = {
        "name": ["F", "FIN-0", "fin", "SAME", "nobody"],
        "group_id": groups,
        "standing": [Standing.COUNTED, Standing.ADMINISTRATOR, Standing.SILENT],
        "state": [HostState.ACTIVE, HostState.QUARANTINED],
        "outcome": ["blocked", "tried", "untried"],
        "version": versions,
        "older_than": ["0.12.0"],
        "workflow": ["uvx", "sync-build"],
        "tag": ["ring 1", "lab", "none"],
        "attested": [True, False],
        "has_gap": [True],
        "seen": ["day", "week", "older"],
        "seen_to": [day - timedelta(days=one) for one in (0, 1, 2, 6)],
        "engine": ["applocker", "wdac"],
        "policy_id": policies,
        "agent_version": ["0.2.0", "0.1.0"],
    }
    found = [HostFilter(pattern="venv-python", outcome="tried")]
    for number in range(FILTERS - 1):
        fields = chance.sample(sorted(choices), 1 + number % 3)
        found.append(HostFilter(**{field: chance.choice(choices[field]) for field in fields}))
    return found


def listed(engine: Engine, wanted: HostFilter) -> list[int]:
    """What the pages list."""
    found: list[int] = []
    cursor = None
    while True:
        with session_scope(engine, writes=False) as session:
            page = list_hosts(session, wanted, cursor, 30)
        found += [row.id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_pages_counts_and_files_agree(fleet: Engine, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with session_scope(fleet) as session:
        create_account(session, "ada@example.com", PASSWORD, "viewer")
    client.post("/login", data={"email": "ada@example.com", "password": PASSWORD})
    monkeypatch.setattr(host_files, "ROWS_AT_ONCE", 20)
    lengths = set()
    for number, wanted in enumerate(some_filters(fleet)):
        # Looked up as few, or walked as many.
        monkeypatch.setattr(host_filter, "FEW_SUBJECTS", (4000, 3)[number % 2])
        pages = listed(fleet, wanted)
        with session_scope(fleet, writes=False) as session:
            assert count_fitting(session, wanted) == len(pages), wanted
            assert count_fitting(session, wanted, limit=5) == min(5, len(pages)), wanted
        query = urlencode(filters_of(wanted))
        lines = csv.DictReader(io.StringIO(client.get(f"/hosts.csv?{query}").text))
        assert [int(line["id"]) for line in lines] == pages, wanted
        assert [one["id"] for one in client.get(f"/hosts.json?{query}").json()] == pages, wanted
        lengths.add(len(pages))
    assert len(lengths) > 15
    assert 0 in lengths


@pytest.mark.parametrize(
    "wanted",
    [
        HostFilter(),
        HostFilter(tag="ring 1", seen="week"),
        HostFilter(outcome="tried", standing=Standing.COUNTED),
        HostFilter(name="FIN", has_gap=True),
    ],
    ids=["all", "tag-seen", "outcome", "name-gap"],
)
def test_which_hosts_a_file_has_is_found_once(
    fleet: Engine, wanted: HostFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So each page of the file costs the same, whatever is asked for: it reads some hosts by their numbers."""
    monkeypatch.setattr(host_files, "ROWS_AT_ONCE", 2)
    statements: list[str] = []
    event.listen(fleet, "before_cursor_execute", lambda *args: statements.append(args[2]))
    counts = []
    for _page in host_files._pages(fleet, wanted, host_files.COLUMNS):
        counts.append(len(statements))
        statements.clear()
    assert len(counts) > 2
    assert counts[0] <= 14
    assert max(counts[1:]) <= 5, "of SQLite the beginning; users, what is new of their sets, tags, hosts"
