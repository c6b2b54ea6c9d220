"""Promise 2 against a fleet that lies: forged hashes, crafted paths, ten thousand invented sightings change no rule."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from agent.catalogue import load
from agent.contract.facts import CollectionInForce, Method, Outcome, PolicySet, Probe, ProbeSet, Specimen, TokenSet
from agent.contract.facts import Engine as Blocker
from app.applocker.model import EVERYONE
from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.fleet.tables import FactSet, Sighting, Subject
from app.policies.base_policies import add_base_policy
from app.policies.baselines import list_baseline_files
from app.policies.candidates import rank_candidates
from app.policies.drafts import build_draft
from app.policies.evidence import read_reported_files, untrusted
from app.policies.plans import plan_rule_set
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import Group, add_to_rule_set, set_terms
from app.policies.simulate import simulate
from app.policies.tried import NEWEST_OF_HOST

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
CRAFTED = (
    "%OSDRIVE%\\*",
    "*",
    '%LOCALAPPDATA%\\uv\\cache\\builds-v0\\.tmp*\\Scripts\\"><FilePathRule Path="*"/>.exe',
    "%OSDRIVE%\\src\\\u202eexe.nohtyp\\.venv\\Scripts\\python.exe",
    "%OSDRIVE%\\Users\\'; DROP TABLE rule_set; --\\python.exe",
    "\\\\evil.example\\share\\python.exe",
    "%OSDRIVE%\\PROGRA~1\\x.exe",
)
FQBNS = ("O=OPENAI OPCO, LLC\\*\\*\\0.0.0.0", "O=*\\*\\*\\65535.65535.65535.65535", "no fqbn <&>", "\\\\\\")


@pytest.fixture
def rule_set_id(database: Engine, base_policy: str) -> int:
    with session_scope(database) as session:
        added = add_to_rule_set(
            session, workflows=["sync-build", "uvx"], patterns=["managed-python-exe", "uv-exe-standalone"], actor=ADA
        )
        base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
        set_terms(session, added.rule_set_id, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
        return added.rule_set_id


def all_suggestions(session: Session, rule_set_id: int) -> object:
    """Everything that Wayleave suggests: the draft's digest, all plans, all ways to open each pattern."""
    rule_set = get_rule_set(session, rule_set_id)
    baseline = list_baseline_files(session)
    draft = build_draft(rule_set, baseline)
    ways = [rank_candidates(item.pattern, EVERYONE, baseline=baseline) for item in rule_set.items]
    plans = [plan_rule_set(rule_set, baseline, may_move=may_move).plans for may_move in (False, True)]
    return draft.sha256, [rule.rule for rule in draft.rules], ways, plans


def lie(session: Session, make_fleet: type) -> None:
    """One host's reports: probes that say all is blocked, a policy and a token of nonsense, sightings without end."""
    probes = tuple(
        Probe(
            pattern=one.id,
            specimen=Specimen.CANARY,
            method=Method.START,
            outcome=Outcome.BLOCKED,
            engine=Blocker.APPLOCKER,
            error=1260,
            collection="Exe",
        )
        for one in load().patterns
        if one.is_executed and one.collections
    )
    rules = tuple(f"<FilePathRule Id='{number}'/><!-- {text} -->" for number, text in enumerate(CRAFTED))
    fleet = make_fleet(session)
    fleet.add(
        PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=rules)}),
        ProbeSet(catalogue=load().etag, probes=probes),
        TokenSet(sids=("S-1-1-0", SID, "S-1-5-32-544", "<script>")),
    )
    session.flush()
    subject = session.scalars(select(Subject)).one()
    at = now()
    rows = [
        {
            "host_id": subject.host_id,
            "at": at - timedelta(milliseconds=number),
            "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
            "record": number,
            "subject_id": subject.id,
            "recorded_at": at,
            "event_id": 8004,
            "pattern": ("cache-builds-venv-python", "managed-python-exe", "uv-exe-standalone")[number % 3],
            "path": CRAFTED[number % len(CRAFTED)],
            "collection": ("Exe", None, "Nonsense")[number % 3],
            "rule_id": None,
            "sha256": f"{number:064x}",
            "fqbn": FQBNS[number % len(FQBNS)],
        }
        for number in range(10_000)
    ]
    session.execute(insert(Sighting), rows)
    environment = session.add(
        FactSet(
            kind=3,
            digest=b"e" * 32,
            body='{"answers":{"cache_dir":"%OSDRIVE%\\\\*","tool_dir":"' + "A" * 4000 + '"}}',
            flags=0,
            created_at=at,
        )
    )
    assert environment is None
    session.flush()
    subject.environment_id = session.scalar(select(FactSet.id).where(FactSet.kind == 3))


def test_lies_change_no_suggestion(database: Engine, rule_set_id: int, make_fleet: type) -> None:
    with session_scope(database, writes=False) as session:
        honest = all_suggestions(session, rule_set_id)
    with session_scope(database) as session:
        lie(session, make_fleet)
    with session_scope(database, writes=False) as session:
        assert all_suggestions(session, rule_set_id) == honest
        reported = read_reported_files(session, "managed-python-exe")
        shown = untrusted(reported, list_baseline_files(session))
        rule_set = get_rule_set(session, rule_set_id)
        found = simulate(session, rule_set, build_draft(rule_set, []))
    # They are shown for what they are: one host, no ground.
    assert len(reported) > 1000
    assert len(shown) == 20
    assert {one.hosts for one in shown} == {1}
    assert {one.words for one in shown} == {"seen once"}
    assert found.base == 1
    # Nothing is judged by a policy that is none.
    assert (found.unreadable, found.sightings) == (1, ())
    with session_scope(database) as session:
        policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=())})
        row = FactSet(kind=4, digest=b"p" * 32, body=policy.body(), flags=0, created_at=now())
        session.add(row)
        session.flush()
        session.scalars(select(Subject)).one().policy_id = row.id
        session.flush()
        found = simulate(session, rule_set, build_draft(rule_set, []))
        quiet = simulate(session, rule_set, build_draft(rule_set, []), with_sightings=False)
    # Nor do they fill the reviewer's list or void an approval; how much was heard is told.
    assert found.sha256 == quiet.sha256
    assert found.sighting_counts.of_loud_hosts == 1
    assert 0 < found.sighting_counts.files <= 3 * NEWEST_OF_HOST
    assert {one.hosts for one in found.sightings} == {1}
    assert {one.pattern for one in found.sightings} <= {"", *(pattern.id for pattern in load().patterns)}
