"""Reviews on both databases: who may approve, and what of the base and its modes a draft changes, by comparing."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from agent.contract.facts import CollectionInForce, PolicySet
from app.accounts.tokens import create_token, find_bearer
from app.applocker.read import parse_policy
from app.applocker.suggest import Suggestion
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import ForbiddenError
from app.policies.base_policies import add_base_policy
from app.policies.kept import kept_rule
from app.policies.outcome import from_kept, to_kept
from app.policies.plan import PlannedRule
from app.policies.queries_rule_sets import RuleSet, get_rule_set
from app.policies.reach import Reach
from app.policies.review import approve, review_of, submit_for_review
from app.policies.rule_sets import Group, add_to_rule_set, remove_rules, set_terms
from app.policies.simulate import simulate
from app.policies.simulations import ask_for_simulation, run_simulation

ADA = Actor(kind="account", name="ada@example.com")
BEN = Actor(kind="account", name="ben@example.com")
CAT = Actor(kind="account", name="cat@example.com")
SID = "S-1-5-21-1004336348-1177238915-682003330-1234"


def submitted(engine: Engine, base_policy: str, author: Actor, second: Actor) -> tuple[int, str]:
    with session_scope(engine) as session:
        made = add_to_rule_set(session, patterns=["venv-python"], actor=author).rule_set_id
        base = add_base_policy(session, base_policy.encode(), name="base", actor=author)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=second)
        asked = ask_for_simulation(session, made, actor=author)
    run_simulation(engine, asked)
    with session_scope(engine) as session:
        submit_for_review(session, made, actor=author)
        digest = review_of(session, get_rule_set(session, made)).digest
    assert digest is not None
    return made, digest


@pytest.mark.parametrize("token_first", [True, False])
def test_whoever_made_the_token_that_drafted_is_an_author(
    database: Engine, base_policy: str, token_first: bool
) -> None:
    with session_scope(database) as session:
        token = create_token(session, "analyst", "pipeline", None, actor=BEN)
    with session_scope(database) as session:
        bearer = find_bearer(session, token)
    assert bearer is not None
    writers = (bearer.actor, ADA) if token_first else (ADA, bearer.actor)
    made, digest = submitted(database, base_policy, *writers)
    with session_scope(database) as session:
        assert set(get_rule_set(session, made).authors) == {"ada@example.com", "ben@example.com", "pipeline"}
    for author in (ADA, BEN, bearer.actor):
        with pytest.raises(ForbiddenError), session_scope(database) as session:
            approve(session, made, digest=digest, actor=author)
    with session_scope(database) as session:
        approve(session, made, digest=digest, actor=CAT)


def test_a_token_approves_nothing_that_its_maker_wrote(database: Engine, base_policy: str) -> None:
    with session_scope(database) as session:
        token = create_token(session, "approver", "signer", None, actor=ADA)
    with session_scope(database) as session:
        bearer = find_bearer(session, token)
    assert bearer is not None
    made, digest = submitted(database, base_policy, ADA, ADA)
    with pytest.raises(ForbiddenError), session_scope(database) as session:
        approve(session, made, digest=digest, actor=bearer.actor)


ONLY_OURS = """<AppLockerPolicy Version="1"><RuleCollection Type="Exe" EnforcementMode="Enabled">{windows}{ours}
</RuleCollection><RuleCollection Type="Script" EnforcementMode="{mode}">{script}</RuleCollection></AppLockerPolicy>"""
RULE = (
    '<FilePathRule Action="Allow" Description="" Id="00000000-0000-4000-8000-{number:012d}" Name="r{number}" '
    'UserOrGroupSid="S-1-1-0"><Conditions><FilePathCondition Path="{path}"/></Conditions></FilePathRule>'
)


def removing(session: Session, base: str, number: int, collection: str, path: str) -> RuleSet:
    """A draft that takes one rule of the base out."""
    (kept,) = parse_policy(
        f'<RuleCollection Type="{collection}">{RULE.format(number=number, path=path)}</RuleCollection>'
    ).collections
    suggestion = Suggestion(collection=collection, rule=kept.rules[0], risk="")
    reach = Reach(admits="", examples=(), users_can_write=False, writable="", lasts="", risk="", narrower=None)
    planned = PlannedRule(
        collection=collection,
        kind="path",
        patterns=("venv-python",),
        suggestion=suggestion,
        reach=reach,
        build=None,
        in_base=False,
    )
    base_id = add_base_policy(session, base.encode(), name="base", actor=ADA).id
    rule = {**kept_rule(planned), "id": planned.id}
    made = remove_rules(session, [rule], name="Take it out", base_id=base_id, actor=ADA)
    return get_rule_set(session, made)


@pytest.mark.parametrize("mode", ["Enabled", "AuditOnly"])
def test_a_removal_that_empties_a_collection_is_told_to_the_reviewer_and_by_the_simulation(
    database: Engine, make_fleet: type, mode: str
) -> None:
    windows, script = RULE.format(number=1, path="%WINDIR%\\*"), RULE.format(number=2, path="%WINDIR%\\*.ps1")
    base = ONLY_OURS.format(windows=windows, ours="", script=script, mode=mode)
    with session_scope(database) as session:
        in_force = {
            "Exe": CollectionInForce(mode="Enabled", rules=(windows,)),
            "Script": CollectionInForce(mode=mode, rules=(script,)),
        }
        make_fleet(session).add(PolicySet(collections=in_force))
        rule_set = removing(session, base, 2, "Script", "%WINDIR%\\*.ps1")
        reviewed = review_of(session, rule_set)
        (ended,) = reviewed.mode_changes
        assert ended.message.startswith("Script has no rules any more")
        assert [one.kind for one in reviewed.base_changes] == ["rule-removed"]
        found = simulate(session, rule_set, reviewed.draft)
        was = "denials are enforced" if mode == "Enabled" else "denials are only logged"
        assert found.mode_changes == ((f"Script: {was} today, everything runs afterwards", 1),)
        assert from_kept(json.loads(json.dumps(to_kept(found)))) == found


def test_first_rules_make_a_collection_stricter_and_others_change_nothing(
    database: Engine, base_policy: str, make_fleet: type
) -> None:
    windows = RULE.format(number=1, path="%WINDIR%\\*")
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=(windows,))}))
        fleet.add(PolicySet(collections={}))
        made = add_to_rule_set(session, patterns=["venv-python"], actor=ADA).rule_set_id
        base = add_base_policy(session, base_policy.encode(), name="base", actor=ADA)
        set_terms(session, made, base_id=base.id, groups=[Group(sid=SID, name="Devs")], actor=ADA)
        rule_set = get_rule_set(session, made)
        reviewed = review_of(session, rule_set)
        assert reviewed.changes
        assert reviewed.mode_changes == reviewed.base_changes == ()
        found = simulate(session, rule_set, reviewed.draft)
        assert found.mode_changes == (("Exe: everything runs today, denials are enforced afterwards", 1),)
