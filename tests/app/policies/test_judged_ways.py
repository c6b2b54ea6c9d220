"""For whom each way would open a pattern, on both databases: judged one by one, not one number for all."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Engine

from agent.catalogue import load
from agent.contract.facts import CollectionInForce, Method, Outcome, PolicySet, Probe, ProbeSet, Specimen, TokenSet
from agent.contract.facts import Engine as Blocker
from app.applocker.model import STANDARD_USER
from app.audit.record import Actor
from app.db.session import session_scope
from app.policies.base_policies import add_base_policy
from app.policies.candidates import rank_candidates
from app.policies.judged_ways import judge_ways
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import Group, add_to_rule_set, set_terms

ADA = Actor(kind="account", name="ada@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"
RULE = (
    '<FilePathRule Action="{action}" Description="" Id="00000000-0000-4000-8000-{number:012d}" Name="r{number}" '
    'UserOrGroupSid="{sid}"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
)
WINDOWS = RULE.format(action="Allow", number=1, sid="S-1-1-0", path="%WINDIR%\\*")
PROGRAMS = RULE.format(action="Allow", number=2, sid="S-1-1-0", path="%PROGRAMFILES%\\*")
NAMES_THEM = RULE.format(action="Allow", number=3, sid=SID, path="%WINDIR%\\*")
NOTHING_OF_PYTHON = RULE.format(action="Deny", number=4, sid="S-1-1-0", path="%OSDRIVE%\\Users\\*\\uv\\python\\*")


def blocked(*rules: str) -> tuple[PolicySet, ProbeSet]:
    probe = Probe(
        pattern="managed-python-exe",
        specimen=Specimen.CANARY,
        method=Method.START,
        outcome=Outcome.BLOCKED,
        engine=Blocker.APPLOCKER,
        error=1260,
        collection="Exe",
    )
    policy = PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(WINDOWS, NAMES_THEM, *rules))})
    return policy, ProbeSet(catalogue=load().etag, probes=(probe,))


def test_each_way_has_its_own_number(database: Engine, base_policy: str, make_fleet: type) -> None:
    member = TokenSet(sids=(*sorted(STANDARD_USER.sids), SID))
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(*blocked(PROGRAMS), member)
        fleet.add(*blocked(), member)
        fleet.add(*blocked(PROGRAMS, NOTHING_OF_PYTHON), member)  # a Deny rule: only elsewhere it can run
        fleet.add(*blocked(PROGRAMS), TokenSet(sids=tuple(sorted(STANDARD_USER.sids))))  # not in the group
        made = add_to_rule_set(session, patterns=["managed-python-exe"], actor=ADA).rule_set_id
        base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
        rule_set = get_rule_set(session, made)
        (item,) = rule_set.items
        ways = rank_candidates(item.pattern, SID, in_force=base.in_force)
        judged = dict(zip([one.kind for one in ways], judge_ways(session, rule_set, item, ways, ()), strict=True))
        assert judged["path"] == judged["broad"] == 2  # the Deny rule wins, and one is no member
        assert judged["hash"] is None  # no trusted file
        assert judged["relocate"] is not None
        assert judged["relocate"] > judged["path"]
        no_group = judge_ways(session, replace(rule_set, groups=()), item, ways, ())
        assert set(no_group) == {None}
