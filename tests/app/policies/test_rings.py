"""Rings on both databases: the pilot's rules are simulated, linted, compared and approved with those of all groups."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from agent.catalogue import load
from agent.contract.facts import (
    CollectionInForce,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
)
from agent.contract.facts import Engine as Blocker
from app.applocker.model import STANDARD_USER, Policy
from app.applocker.read import parse_policy
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError
from app.fleet.tables import FactSet
from app.policies.base_policies import add_base_policy, take_seen_policy
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.package import export_rule_set, get_package
from app.policies.queries_rule_sets import get_rule_set
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, set_terms
from app.policies.simulate import simulate
from app.policies.simulations import ask_for_simulation, run_simulation
from app.policies.tables_rule_sets import RuleSetRow
from app.policies.target_scripts import policy_state

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
DEVELOPERS = "S-1-5-21-1004336348-1177238915-682003330-1234"
PILOT = "S-1-5-21-1004336348-1177238915-682003330-7777"
# Names both groups, so that agents tell who is in which.
KNOWN = "".join(
    f'<FilePathRule Action="Allow" Description="" Id="00000000-0000-4000-8000-{number:012d}" Name="r" '
    f'UserOrGroupSid="{sid}"><Conditions><FilePathCondition Path="%WINDIR%\\*"/></Conditions></FilePathRule>'
    for number, sid in enumerate((DEVELOPERS, PILOT))
)


def drafted(session: Session, base_policy: str, *, pilot: str | None = PILOT) -> int:
    made = add_to_rule_set(session, patterns=["venv-python"], actor=ADA).rule_set_id
    base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
    set_terms(
        session,
        made,
        base_id=base.id,
        groups=[Group(sid=DEVELOPERS, name="Devs")],
        pilot=[Group(sid=pilot, name="Pilot")] if pilot else [],
        actor=ADA,
    )
    return made


def add_blocked(session: Session, make_fleet: type, *sids: str) -> None:
    """Somebody with these groups whose `.venv` AppLocker blocks, under rules that name both groups."""
    blocked = Probe(
        pattern="venv-python",
        specimen=Specimen.CANARY,
        method=Method.START,
        outcome=Outcome.BLOCKED,
        engine=Blocker.APPLOCKER,
        error=1260,
        collection="Exe",
    )
    make_fleet(session).add(
        PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(KNOWN,))}),
        ProbeSet(catalogue=load().etag, probes=(blocked,)),
        TokenSet(sids=(*sorted(STANDARD_USER.sids), *sids)),
    )


def test_who_is_only_in_the_pilot_is_simulated_too(database: Engine, base_policy: str, make_fleet: type) -> None:
    with session_scope(database) as session:
        made = drafted(session, base_policy)
        add_blocked(session, make_fleet, PILOT)
        rule_set = get_rule_set(session, made)
        draft = build_draft(rule_set, list_baseline_files(session))
        (found,) = (one for one in simulate(session, rule_set, draft).patterns if one.pattern == "venv-python")
        assert (found.opens, found.still) == (1, 0)
        pilots = {rule.id for rule in draft.pilot_added}
        assert {rule_id for rule_id, _, _ in found.opened_by} <= pilots


def test_the_review_compares_and_lints_what_the_pilot_gets(database: Engine, base_policy: str) -> None:
    with session_scope(database) as session:
        made = drafted(session, base_policy)
        reviewed = review_of(session, get_rule_set(session, made))
        added = {change.after.sid for change in reviewed.changes if change.after is not None}
        assert added == {DEVELOPERS, PILOT}
        linted = {one.rule.sid for one in reviewed.findings.new if one.rule is not None}
        assert PILOT in linted
        assert len(reviewed.draft.leaving) == 2 * len(reviewed.draft.added)


def test_another_pilot_voids_what_was_simulated_and_approved(database: Engine, base_policy: str) -> None:
    with session_scope(database) as session:
        made = drafted(session, base_policy)
        asked = ask_for_simulation(session, made, actor=ADA)
    run_simulation(database, asked)
    with session_scope(database) as session:
        submit_for_review(session, made, actor=ADA)
        digest = review_of(session, get_rule_set(session, made)).digest
        assert digest is not None
        row = session.get(RuleSetRow, made)
        assert row is not None
        row.pilot_sids = [[f"{PILOT}1", "Others"]]  # past every verb: the digest alone must tell
        session.flush()
        with pytest.raises(ConflictError):
            approve(session, made, digest=digest, actor=BEN)


@pytest.mark.parametrize("sid", ["S-1-1-0", "S-1-5-11", "S-1-5-32-545", "S-1-5-4", "s-1-5-21-1-2-3-513"])
def test_everybody_is_no_pilot(database: Engine, base_policy: str, sid: str) -> None:
    with session_scope(database) as session, pytest.raises(InvalidError) as refused:
        drafted(session, base_policy, pilot=sid)
    assert refused.value.field == "pilot"
    with session_scope(database) as session:
        made = drafted(session, base_policy)
        row = session.get(RuleSetRow, made)
        assert row is not None
        row.pilot_sids = [[sid.upper(), "kept from before"]]
        session.flush()
        reviewed = review_of(session, get_rule_set(session, made))
        assert reviewed.digest is None
        assert "everybody" in reviewed.missing[0]


def approved(engine: Engine, made: int) -> int:
    with session_scope(engine) as session:
        asked = ask_for_simulation(session, made, actor=ADA)
    run_simulation(engine, asked)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=ADA)
        digest = review_of(session, get_rule_set(session, made)).digest
        assert digest is not None
        approve(session, made, digest=digest, actor=BEN)
    return made


def files_of(engine: Engine, made: int, ring: str, delivery: str) -> dict[str, str]:
    with session_scope(engine) as session:
        export_id = export_rule_set(session, made, delivery=delivery, ring=ring, actor=ADA)
    with session_scope(engine, writes=False) as session:
        content = get_package(session, made, export_id).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def values_in(script: str, name: str) -> set[str]:
    found = re.search(rf"\${name} = @\((.*?)\)", script, re.DOTALL)
    assert found is not None
    return set(re.findall(r"'([^']*)'", found[1]))


def merged(target: Policy, rules_xml: str) -> Policy:
    """What `Set-AppLockerPolicy -Merge` leaves of a target that has these collections already."""
    new = {one.type: one.rules for one in parse_policy(rules_xml).collections}
    return replace(
        target,
        collections=tuple(replace(one, rules=(*one.rules, *new.get(one.type, ()))) for one in target.collections),
    )


@pytest.mark.parametrize("delivery", ["same-gpo", "local"])
def test_all_groups_follow_the_pilot_on_the_same_target(database: Engine, base_policy: str, delivery: str) -> None:
    with session_scope(database) as session:
        made = drafted(session, base_policy)
    approved(database, made)
    pilot = files_of(database, made, "pilot", delivery)
    everybody = files_of(database, made, "all", delivery)
    base = parse_policy(base_policy)
    after_pilot = merged(base, pilot["rules.xml"])
    assert after_pilot != base
    accepted = values_in(everybody["apply.ps1"], "ExpectedStates")
    assert accepted == {policy_state(base), policy_state(after_pilot)}
    assert values_in(pilot["apply.ps1"], "ExpectedStates") == {policy_state(base)}
    # Half a pilot is another policy, and so is what comes after all.
    halved = [one for one in after_pilot.collections if one.type == "Exe"]
    assert (
        policy_state(replace(after_pilot, collections=(replace(halved[0], rules=halved[0].rules[:-1]),)))
        not in accepted
    )
    assert policy_state(merged(after_pilot, everybody["rules.xml"])) not in accepted
    assert "The rollback.ps1 of the pilot's package takes them out." in everybody["README.txt"]
    assert "pilot" not in pilot["README.txt"]


def test_a_target_that_was_seen_may_hold_the_pilots_rules(database: Engine, base_policy: str, make_fleet: type) -> None:
    with session_scope(database) as session:
        made = drafted(session, base_policy)
        add_blocked(session, make_fleet, PILOT)
        seen = session.scalars(select(FactSet.id).where(FactSet.kind == 4)).one()
        rule_set = get_rule_set(session, made)
        base = take_seen_policy(session, seen, actor=ADA)
        set_terms(session, made, base_id=base.id, groups=rule_set.groups, pilot=rule_set.pilot, actor=ADA)
        was = {rule.id for _, rule in base.policy.rules()}
    approved(database, made)
    pilot = files_of(database, made, "pilot", "same-gpo")
    everybody = files_of(database, made, "all", "same-gpo")
    assert values_in(pilot["apply.ps1"], "SeenIds") == was
    assert values_in(everybody["apply.ps1"], "SeenIds") == was | values_in(pilot["apply.ps1"], "RuleIds")
