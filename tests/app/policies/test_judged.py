"""Patterns that nobody tried, judged by the policy in force: the judgement, and what becomes of a subject's counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event, insert, select, text
from starlette.testclient import TestClient

from agent.catalogue import load
from agent.contract.facts import (
    CollectionInForce,
    EnvironmentSet,
    FactSet,
    FoundUv,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
    UvSet,
)
from app.db import writers
from app.db.base import now
from app.db.session import session_scope
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.queries import read_overview
from app.fleet.tables import KIND_NUMBERS, Pulse, Subject, Transition
from app.fleet.tables import FactSet as FactSetRow
from app.policies import judge_fleet
from app.policies.judge_fleet import Judging, judge_untried
from app.policies.judged import judge_probes
from tests.app.ingest.workstation import Workstation, enrolled

CACHE = "cache-builds-venv-python"
MANAGED = "managed-python-exe"
UV = next(pattern.id for pattern in load().patterns if pattern.group == "uv-binary")
ALLOW_PROGRAM_FILES = (
    '<FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="Program Files" Description="" '
    'UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*"/></Conditions>'
    "</FilePathRule>"
)
ADMINISTRATORS_ALL = (
    '<FilePathRule Id="fd686d83-a829-4351-8ff4-27c7de5755d2" Name="All" Description="" '
    'UserOrGroupSid="S-1-5-32-544" Action="Allow"><Conditions><FilePathCondition Path="*"/></Conditions></FilePathRule>'
)
ALLOW_D = (
    '<FilePathRule Id="11111111-2222-4333-8444-555555555555" Name="D" Description="" '
    'UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePathCondition Path="D:\\uv\\*"/></Conditions>'
    "</FilePathRule>"
)
BY_PUBLISHER = (
    '<FilePublisherRule Id="22222222-2222-4333-8444-555555555555" Name="P" Description="" '
    'UserOrGroupSid="S-1-1-0" Action="Allow"><Conditions><FilePublisherCondition PublisherName="O=ASTRAL" '
    'ProductName="*" BinaryName="*"><BinaryVersionRange LowSection="*" HighSection="*"/></FilePublisherCondition>'
    "</Conditions></FilePublisherRule>"
)


def untried(pattern: str = CACHE, specimen: Specimen = Specimen.CANARY, collection: str = "Exe") -> Probe:
    return Probe(
        pattern=pattern, specimen=specimen, method=Method.POLICY, outcome=Outcome.UNKNOWN, collection=collection
    )


def policy(*rules: str, mode: str = "Enabled", **more: object) -> PolicySet:
    return PolicySet(collections={"Exe": CollectionInForce(mode=mode, rules=rules)}, **more)


def judge(
    *probes: Probe,
    policy: PolicySet,
    token: TokenSet | None = None,
    environment: EnvironmentSet | None = None,
    uv: UvSet | None = None,
) -> list[Mapping[str, object]]:
    bodies = [one.body() if one is not None else None for one in (token, environment, uv)]
    before = ProbeSet(catalogue="etag", probes=probes).body()
    found = json.loads(judge_probes(before, policy.body(), *bodies, load()))
    return [{name: one[name] for name in ("outcome", "why", "engine", "method")} for one in found["probes"]]


def said(outcome: str, why: str | None = None, engine: str | None = None) -> list[Mapping[str, object]]:
    return [{"outcome": outcome, "why": why, "engine": engine, "method": "policy"}]


def test_what_no_rule_opens_is_blocked() -> None:
    assert judge(untried(), policy=policy(ALLOW_PROGRAM_FILES)) == said("blocked", engine="applocker")


def test_what_a_rule_opens_is_allowed() -> None:
    environment = EnvironmentSet(answers={"cache_dir": "D:\\uv\\cache"})
    assert judge(untried(), policy=policy(ALLOW_D), environment=environment) == said("allowed", "rule")
    assert judge(untried(), policy=policy(ALLOW_D)) == said("blocked", engine="applocker")


def test_modes_and_the_service_count() -> None:
    assert judge(untried(), policy=policy(ALLOW_PROGRAM_FILES, mode="AuditOnly")) == said("audited", engine="applocker")
    assert judge(untried(), policy=policy(ALLOW_PROGRAM_FILES, mode="NotConfigured")) == said(
        "blocked", engine="applocker"
    )
    assert judge(untried(), policy=policy()) == said("allowed", "no_rules")
    assert judge(untried(), policy=policy(ALLOW_PROGRAM_FILES, service_disabled=True)) == said(
        "allowed", "not_enforced"
    )


def test_a_limited_administrator_counts_for_programs() -> None:
    rules = policy(ALLOW_PROGRAM_FILES, ADMINISTRATORS_ALL)
    assert judge(untried(), policy=rules) == said("blocked", engine="applocker")
    limited = TokenSet(sids=("S-1-5-32-545",), deny_only=("S-1-5-32-544",), administrator=True)
    assert judge(untried(), policy=rules, token=limited) == said("allowed", "administrator")


def test_a_real_file_of_unknown_identity_stays_unknown_where_a_rule_names_identities() -> None:
    real = untried(MANAGED, Specimen.REAL)
    assert judge(real, policy=policy(ALLOW_PROGRAM_FILES, BY_PUBLISHER)) == said("unknown")
    assert judge(real, policy=policy(ALLOW_PROGRAM_FILES)) == said("blocked", engine="applocker")
    canary = untried(CACHE)
    assert judge(canary, policy=policy(ALLOW_PROGRAM_FILES, BY_PUBLISHER)) == said("blocked", engine="applocker")


def test_uv_is_judged_with_the_identity_that_was_told() -> None:
    probe = untried(UV, Specimen.REAL)

    def uv(publisher: str | None, trust: str | None = "trusted") -> UvSet:
        found = FoundUv(
            path="%USERPROFILE%\\.local\\bin\\uv.exe", pattern=UV, version="0.13.8", publisher=publisher, trust=trust
        )
        return UvSet(found=(found,))

    rules = policy(ALLOW_PROGRAM_FILES, BY_PUBLISHER)
    assert judge(probe, policy=rules, uv=uv("O=ASTRAL")) == said("allowed", "rule")
    assert judge(probe, policy=rules, uv=uv(None)) == said("blocked", engine="applocker")
    # To AppLocker a signature whose chain is not trusted is none.
    assert judge(probe, policy=rules, uv=uv("O=ASTRAL", "0x800b0109")) == said("blocked", engine="applocker")


@pytest.mark.parametrize(
    "unreadable",
    [
        PolicySet(collections=None),
        PolicySet(collections={}, csp="present-unreadable"),
        policy("<FilePathRule/>"),
    ],
)
def test_under_a_policy_that_cannot_be_read_all_stays_as_it_was(unreadable: PolicySet) -> None:
    assert judge(untried(), policy=unreadable) == said("unknown")


def test_what_was_tried_is_not_judged_again() -> None:
    tried = Probe(pattern=CACHE, specimen=Specimen.CANARY, method=Method.START, outcome=Outcome.ALLOWED, error=0)
    assert judge(tried, policy=policy(ALLOW_PROGRAM_FILES))[0]["outcome"] == "allowed"
    absent = Probe(pattern=CACHE, specimen=Specimen.NONE, method=Method.NONE, outcome=Outcome.ABSENT)
    assert judge(absent, policy=policy(ALLOW_PROGRAM_FILES))[0]["outcome"] == "absent"


@pytest.mark.parametrize("pattern", ["no-such-pattern", "../../etc"])
def test_a_pattern_that_is_none_stays_unknown(pattern: str) -> None:
    assert judge(untried(pattern), policy=policy(ALLOW_PROGRAM_FILES)) == said("unknown")


def quiet(client: TestClient, server: FastAPI, name: str, *sets: FactSet) -> Workstation:
    workstation = enrolled(client, server, name)
    workstation.put(ProbeSet(catalogue=load().etag, probes=(untried(),)), policy(ALLOW_PROGRAM_FILES), *sets)
    assert workstation.send().status_code == 200
    return workstation


Run = Callable[[], int]


@pytest.fixture
def run(server: FastAPI) -> Run:
    judging = Judging()

    def judge_all() -> int:
        with server.state.engine.connect() as connection:
            moved = judge_untried(connection, now(), judging)
            while fold(connection, ContributionCache()):
                pass
            assert check_tallies(connection) == []
        return moved

    return judge_all


def outcomes(server: FastAPI) -> dict[str, int]:
    with session_scope(server.state.engine, writes=False) as session:
        (row,) = (one for one in read_overview(session).patterns if one.pattern == CACHE)
        return {"blocked": row.blocked}


def test_subjects_are_moved_to_the_judged_outcome_and_counted_with_it(
    client: TestClient, server: FastAPI, run: Run
) -> None:
    first = quiet(client, server, "PC-1")
    quiet(client, server, "PC-2")
    with session_scope(server.state.engine, writes=False) as session:
        raw = session.scalars(select(Subject.probes_id).limit(1)).one()
    assert run() == 2
    with session_scope(server.state.engine, writes=False) as session:
        judged = set(session.scalars(select(Subject.probes_id)))
        assert len(judged) == 1
        assert raw not in judged
        body = session.get_one(FactSetRow, judged.pop()).body
    assert json.loads(body)["probes"][0]["outcome"] == "blocked"
    assert outcomes(server) == {"blocked": 2}
    assert run() == 0, "once"
    # An unchanged report leaves the subject where it is.
    assert first.send(bodies=False).status_code == 200
    assert run() == 0
    assert outcomes(server) == {"blocked": 2}


def test_a_changed_policy_is_judged_anew_and_told_as_one_change(client: TestClient, server: FastAPI, run: Run) -> None:
    workstation = quiet(client, server, "PC-1")
    run()
    workstation.put(policy(ALLOW_PROGRAM_FILES, ALLOW_D), EnvironmentSet(answers={"cache_dir": "D:\\uv\\cache"}))
    assert workstation.send().status_code == 200
    assert run() == 1
    assert outcomes(server) == {"blocked": 0}
    with session_scope(server.state.engine, writes=False) as session:
        changes = session.scalars(select(Transition).where(Transition.kind == 1)).all()
        bodies = [
            json.loads(session.get_one(FactSetRow, number).body)["probes"][0]["outcome"]
            for change in changes
            for number in (change.old_id, change.new_id)
            if number is not None
        ]
    assert bodies == ["blocked", "allowed"]


def test_what_cannot_be_judged_is_looked_at_once(client: TestClient, server: FastAPI, run: Run) -> None:
    workstation = quiet(client, server, "PC-1", PolicySet(collections=None))
    assert run() == 0
    assert run() == 0
    workstation.put(policy(ALLOW_PROGRAM_FILES))
    assert workstation.send().status_code == 200
    assert run() == 1


def test_who_can_never_be_judged_is_read_without_a_lock_and_once(
    client: TestClient, server: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_fleet, "SHORTLY", timedelta(0))
    workstation = quiet(client, server, "PC-1", PolicySet(collections=None))
    quiet(client, server, "PC-2", PolicySet(collections=None))
    judging = Judging()
    said: list[str] = []
    with server.state.engine.connect() as connection:

        def note(asking: Connection, _cursor: object, statement: str, *_more: object) -> None:
            if asking is connection:
                said.append(statement)

        assert judge_untried(connection, now(), judging) == 0
        event.listen(server.state.engine, "before_cursor_execute", note)
        for looked_until in (None, judging.looked_until):
            # Also when they are looked at again, as by a process that is new, or when they changed in something else.
            judging.looked_until = looked_until
            judging.newest_subject = judging.newest_subject if looked_until else 0
            said.clear()
            assert judge_untried(connection, now(), judging) == 0
            assert said
            assert not [one for one in said if "FOR UPDATE" in one or "BEGIN IMMEDIATE" in one]
        assert judge_fleet._read_subjects(connection, judging, None, 0) == []
        workstation.put(policy(ALLOW_PROGRAM_FILES))
        assert workstation.send().status_code == 200
        assert judge_untried(connection, now(), judging) == 1


@pytest.mark.postgresql
def test_who_is_being_written_is_looked_at_again(
    client: TestClient, server: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.state.engine
    if engine.name != "postgresql":
        return
    monkeypatch.setattr(judge_fleet, "SHORTLY", timedelta(0))
    quiet(client, server, "PC-1")
    judging = Judging()
    with engine.connect() as connection:
        with engine.connect() as writing:
            writing.execute(select(Pulse.subject_id).with_for_update())
            assert judge_untried(connection, now(), judging) == 0
        assert judge_untried(connection, now(), judging) == 1


@pytest.mark.postgresql
def test_sets_that_are_committed_late_are_found(
    client: TestClient, server: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.state.engine
    if engine.name != "postgresql":
        return  # there whoever writes holds up all others
    monkeypatch.setattr(writers, "WAITS_S", 0.1)
    quiet(client, server, "PC-1")
    judging = Judging()
    with session_scope(engine, writes=False) as session:
        body = session.scalars(select(FactSetRow.body).where(FactSetRow.body.contains("unknown"))).one()

    def insert_set(connection: Connection, number: int) -> int:
        values = {"kind": KIND_NUMBERS["probes"], "digest": number.to_bytes(32), "flags": 0, "created_at": now()}
        return connection.scalar(insert(FactSetRow).values(body=body, **values).returning(FactSetRow.id)) or 0

    with engine.connect() as connection, engine.connect() as writing:
        late = insert_set(writing, 1)
        for number in (2, 3):
            with connection.begin():
                connection.execute(text("SELECT setval('fact_set_id_seq', nextval('fact_set_id_seq') + 5000)"))
                early = insert_set(connection, number)
            judge_untried(connection, now(), judging)
            assert early in judging.open_sets
            assert late not in judging.open_sets
        writing.commit()
        judge_untried(connection, now(), judging)
        assert late in judging.open_sets
        assert judging.newest >= early, "what was looked at is not read again"
