"""A made fleet: its counts are right, the same seed makes the same one, and it says that it is made."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from agent.contract.canonical import digest
from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.db.base import now, to_ms
from app.db.session import session_scope
from app.db.tables import FLEET_ORIGIN, find_setting
from app.fleet import host_conditions, host_filter, rows_postgresql
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold, rebuild_derived
from app.fleet.groups import make_standard_groups
from app.fleet.hosts import move_host, revoke_host
from app.fleet.incoming import RECORDED
from app.fleet.installs import read_installs
from app.fleet.made_sets import token_set
from app.fleet.make import PROFILES, make_fleet, plan_hosts
from app.fleet.make_bulk import make_fleet_in_bulk
from app.fleet.make_rows import Voices, host_body, is_opened, reported_sets, user_sid
from app.fleet.queries import list_groups, read_overview
from app.fleet.queries_hosts import HostFilter, get_host, list_hosts
from app.fleet.record import record_reports
from app.fleet.retention import drop_old, retire_sets, write_daily
from app.fleet.sets import SetCache
from app.fleet.standing import Standing
from app.fleet.sweep import mark_silent
from app.fleet.tables import KIND_NAMES, Daily, FactSet, Host, HostGroup, Sighting, Subject, Tally, Transition
from app.ingest.decode import decode_report, parse_token
from app.ingest.keys import ServerKeys


def counts_are_right(engine: Engine) -> None:
    with engine.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    with engine.connect() as connection:
        assert check_tallies(connection) == []


def test_a_fleet_of_three_departments(database: Engine) -> None:
    made = make_fleet(database, 300)
    counts_are_right(database)
    with session_scope(database, writes=False) as session:
        assert find_setting(session, FLEET_ORIGIN)
        overview = read_overview(session)
        names = {group.name: group.counted for group in overview.groups}
        workflows = {one.workflow: one for one in overview.workflows}
        transitions = session.scalar(select(func.count()).select_from(Transition))
    assert made.hosts == 300
    assert names["Finance"] > names["Engineering"] > names["Research"] > 0
    assert 200 < overview.counted < 300
    assert workflows["sync-build"].blocked > workflows["sync-build"].open > 0
    assert transitions


def test_the_same_seed_makes_the_same_fleet() -> None:
    assert list(plan_hosts(50, seed=3, profile="diverse")) == list(plan_hosts(50, seed=3, profile="diverse"))
    assert list(plan_hosts(50, seed=3, profile="diverse")) != list(plan_hosts(50, seed=4, profile="diverse"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_counts_right(database: Engine, profile: str) -> None:
    make_fleet(database, 60, profile=profile)
    counts_are_right(database)


@pytest.mark.postgresql
def test_copied_in_bulk_it_is_the_same_fleet(database: Engine) -> None:
    if database.name != "postgresql":
        return
    make_fleet(database, 150, seed=5)
    with session_scope(database, writes=False) as session:
        one = read_overview(session)
        changes = session.scalar(select(func.count()).select_from(Transition)) or 0
    make_fleet_in_bulk(database, 150, seed=5)
    counts_are_right(database)
    with session_scope(database, writes=False) as session:
        both = read_overview(session)
        assert session.scalar(select(func.count()).select_from(Transition)) == 2 * changes
    assert [(g.name, g.counted, g.administrators) for g in both.groups] == [
        (g.name, 2 * g.counted, 2 * g.administrators) for g in one.groups
    ]
    assert {p.pattern: (p.blocked, p.allowed) for p in both.patterns} == {
        p.pattern: (2 * p.blocked, 2 * p.allowed) for p in one.patterns
    }
    assert {v.version: v.subjects for v in both.versions} == {v.version: 2 * v.subjects for v in one.versions}


@pytest.mark.postgresql
@pytest.mark.parametrize("profile", ["diverse", "hostile"])
def test_copied_in_bulk_every_profile_counts_right(database: Engine, profile: str) -> None:
    if database.name != "postgresql":
        return
    make_fleet_in_bulk(database, 150, profile=profile)
    counts_are_right(database)
    with session_scope(database, writes=False) as session:
        assert len(list_hosts(session, HostFilter()).rows) == 50


def test_drift_is_found_and_repaired(database: Engine) -> None:
    make_fleet(database, 40)
    with database.begin() as connection:
        connection.execute(update(Tally).where(Tally.subjects > 3).values(subjects=Tally.subjects + 2))
        connection.execute(text("DELETE FROM pattern_tally WHERE pattern = 'venv-python'"))
    with database.connect() as connection:
        found = check_tallies(connection)
        assert {drift.what.split()[0] for drift in found} >= {"tally", "pattern_tally"}
        assert check_tallies(connection) == found
        check_tallies(connection, repair=True)
    counts_are_right(database)


def test_silent_subjects_leave_the_counts(database: Engine) -> None:
    make_fleet(database, 120)
    with session_scope(database, writes=False) as session:
        before = read_overview(session).counted
    with database.connect() as connection:
        marked = mark_silent(connection, now(), days=10)
        assert mark_silent(connection, now(), days=10) == 0
    counts_are_right(database)
    assert marked > 0
    with session_scope(database, writes=False) as session:
        silent = session.scalar(select(func.count()).where(Subject.standing == Standing.SILENT))
        assert silent == marked
        assert read_overview(session).counted < before


def test_a_host_can_be_moved_and_revoked(database: Engine) -> None:
    make_fleet(database, 30)
    with session_scope(database) as session:
        session.add(HostGroup(name="Lab", source="import", created_at=now()))
        session.flush()
        lab = session.scalars(select(HostGroup.id).where(HostGroup.name == "Lab")).one()
        hosts = session.scalars(select(Subject.host_id).where(Subject.standing == Standing.COUNTED).limit(2)).all()
        for host in hosts:
            move_host(session, host, lab, actor=COMMAND_LINE)
    counts_are_right(database)
    with session_scope(database) as session:
        assert {group.name: group.counted for group in list_groups(session)}["Lab"] == 2
        revoke_host(session, hosts[0], actor=COMMAND_LINE)
    counts_are_right(database)
    with session_scope(database, writes=False) as session:
        assert {group.name: group.counted for group in list_groups(session)}["Lab"] == 1
        actions = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["host.moved", "host.moved", "host.revoked"]


def test_the_host_list_is_paged_and_filtered(database: Engine) -> None:
    make_fleet(database, 130)
    with session_scope(database, writes=False) as session:
        names: list[str] = []
        cursor = None
        while True:
            page = list_hosts(session, HostFilter(), cursor)
            names += [line.name for line in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert names == sorted(session.scalars(select(Host.name)))
        overview = read_overview(session)
        blocked = next(one for one in overview.patterns if one.pattern == "cache-builds-venv-python").blocked
        wanted = HostFilter(pattern="cache-builds-venv-python", standing=Standing.COUNTED)
        found, cursor = 0, None
        while True:
            page = list_hosts(session, wanted, cursor)
            found += len(page.rows)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == blocked > 0
        detail = get_host(session, page.rows[0].id)
        assert detail.subjects[0].patterns


def test_old_history_goes_and_daily_counts_stay(database: Engine) -> None:
    make_fleet(database, 60)
    at = now()
    with database.connect() as connection:
        write_daily(connection, at)
        write_daily(connection, at)
        drop_old(connection, at, days=180)
    with session_scope(database, writes=False) as session:
        kept = session.scalar(select(func.count()).select_from(Transition)) or 0
        daily = session.scalar(select(func.count()).select_from(Daily)) or 0
    assert kept > 0
    assert daily > 50
    with database.connect() as connection:
        drop_old(connection, at + timedelta(days=400), days=180)
    with session_scope(database, writes=False) as session:
        for table in (Transition, Sighting):
            assert session.scalar(select(func.count()).select_from(table)) == 0


def test_a_set_that_nobody_has_is_retired_then_deleted(database: Engine) -> None:
    make_fleet(database, 60)
    with session_scope(database) as session:
        used = session.scalar(select(func.count()).select_from(FactSet))
        for number in range(3):
            session.add(FactSet(kind=1, digest=bytes([number]) * 32, body="{}", flags=0, created_at=now()))
    at = now() + timedelta(days=30)
    with database.connect() as connection:
        assert retire_sets(connection, at) == (3, 0)
        assert retire_sets(connection, at + timedelta(hours=1)) == (0, 0)
        assert retire_sets(connection, at + timedelta(days=2)) == (0, 3)
    with session_scope(database, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(FactSet)) == used
    counts_are_right(database)


def test_rebuilding_changes_nothing(database: Engine) -> None:
    make_fleet(database, 40)
    with session_scope(database, writes=False) as session:
        before = read_overview(session)
    with database.begin() as connection:
        rebuild_derived(connection, ContributionCache())
    with session_scope(database, writes=False) as session:
        assert read_overview(session) == before


@pytest.mark.postgresql
def test_made_hosts_with_voices_say_nothing_new(database: Engine) -> None:
    if database.name != "postgresql":
        return
    keys = ServerKeys(bytes(32))
    make_fleet_in_bulk(database, 40, profile="diverse", voices=Voices(secret="s" * 20, hash_sid=keys.hash_sid))
    with session_scope(database) as session:
        linux_group = make_standard_groups(session)[1]
        ids = session.scalars(select(Host.id).order_by(Host.id)).all()
    for host_id, host in zip(ids, plan_hosts(40, seed=1, profile="diverse"), strict=True):
        sets = reported_sets(host, "engineers" if is_opened(host) else host.policy)[:4]
        named = {KIND_NAMES[one.kind]: f"sha256:{one.digest.hex()}" for one in sets}
        named["token"] = f"sha256:{token_set(host.administrator, host.groups).digest.hex()}"
        named["host"] = digest("host", host_body(host)[5:])
        report = {
            "contract": 1,
            "report_id": f"report-{host_id}",
            "epoch": to_ms(now()),
            "sequence": 1,
            "sent_at": "2026-11-21T08:00:00Z",
            "subject": user_sid(host.number),
            "sets": named,
        }
        _host, secret_hash = parse_token(f"Bearer wl_{host_id}_{'s' * 20}{host.number:010}")
        incoming = decode_report(
            json.dumps(report).encode(), host_id=host_id, secret_hash=secret_hash, keys=keys, now_ms=to_ms(now())
        )
        with database.connect() as connection:
            cursor = connection.connection.cursor()
            _index, pulse = rows_postgresql.lock_pulses(cursor, [incoming.key])[0]
            connection.rollback()
            assert pulse.said == incoming.said
            outcomes = record_reports(
                connection, [incoming], now_ms=to_ms(now()), sets=SetCache(), linux_group=linux_group
            )
        assert outcomes == [RECORDED]
    counts_are_right(database)


def test_both_ways_of_finding_hosts_agree(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fleet(database, 150, seed=9, profile="diverse")
    with session_scope(database, writes=False) as session:
        installs = read_installs(session)
    assert installs.kinds
    filters = [
        HostFilter(pattern="venv-python"),
        HostFilter(pattern="venv-python", outcome="allowed", standing=Standing.ADMINISTRATOR),
        HostFilter(pattern="tool-bin-exe", outcome="error"),
        HostFilter(version="0.13.8"),
        HostFilter(version=""),
        HostFilter(version="0.9.13", pattern="venv-python"),
        HostFilter(version="0.9.13", name="FIN"),
        HostFilter(version="0.9.13", name="fin-000"),
        HostFilter(version="not a version"),
        HostFilter(older_than="0.13.8"),
        HostFilter(older_than="0.9.13", pattern="venv-python"),
        HostFilter(older_than="0.0.1"),
        HostFilter(workflow="sync-build"),
        HostFilter(workflow="sync-build", verdict="works"),
        HostFilter(workflow="sync-build", verdict="told", standing=Standing.COUNTED),
        HostFilter(pattern="venv-python", outcome="tried", standing=Standing.COUNTED),
        *(HostFilter(install=kind, standing=Standing.COUNTED) for kind, _ in installs.kinds),
        HostFilter(standing=Standing.NOT_ENFORCING),
        HostFilter(standing=Standing.TRIAL),
        HostFilter(name="e"),
    ]
    with session_scope(database, writes=False) as session:
        groups = session.scalars(select(Host.group_id).distinct()).all()
    filters += [replace(one, group_id=group) for one in filters for group in groups]
    found = []
    for few, most_groups, most_sets in ((10_000, 40, 5000), (-1, 40, 5000), (-1, 40, 1), (-1, 0, 5000)):
        monkeypatch.setattr(host_filter, "FEW_SUBJECTS", few)
        monkeypatch.setattr(host_filter, "MAX_GROUPS_WALKED", most_groups)
        monkeypatch.setattr(host_conditions, "MAX_SETS_LISTED", most_sets)
        with session_scope(database, writes=False) as session:
            found.append([list_every_host(session, one) for one in filters])
    assert found[0] == found[1] == found[2] == found[3]
    assert sum(len(names) > 0 for names in found[0]) > 30
    assert max(len(names) for names in found[0]) > 50


def list_every_host(session: Session, wanted: HostFilter) -> list[str]:
    names: list[str] = []
    cursor = None
    while True:
        page = list_hosts(session, wanted, cursor)
        names += [line.name for line in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return names
