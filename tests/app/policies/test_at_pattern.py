"""Which rule decides a pattern under each policy in force, and the rule sets that hold it, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from agent.catalogue import load as load_catalogue
from agent.contract.facts import CollectionInForce, PolicySet
from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import InvalidError
from app.policies.at_pattern import MOST_POLICIES, read_at_pattern
from app.policies.base_policies import list_base_policies, take_seen_policy
from app.policies.in_force import list_policies
from app.policies.rule_sets import add_to_rule_set, choose_for_item, retire_rule_set

ADA = Actor(kind="account", name="ada@example.com")
PATTERN = "venv-python"


def rule(name: str, path: str, *, action: str = "Allow") -> str:
    return (
        f'<FilePathRule Id="{abs(hash((name, path))) % 10**8:08d}-6e17-4653-8f75-050b80acca20" Name="{name}" '
        f'Description="" UserOrGroupSid="S-1-1-0" Action="{action}"><Conditions>'
        f'<FilePathCondition Path="{path}" /></Conditions></FilePathRule>'
    )


def policy(*rules: str, mode: str = "Enabled") -> PolicySet:
    return PolicySet(collections={"Exe": CollectionInForce(mode=mode, rules=rules)})


def test_each_policy_says_what_and_by_which_rule(database: Engine, make_fleet: type) -> None:
    windows = rule("Windows", "%WINDIR%\\*")
    deny = rule("No programs in projects", "*\\.venv\\*", action="Deny")
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for _ in range(4):
            fleet.add(policy(windows))
        for _ in range(3):
            fleet.add(policy(rule("Everything", "*"), deny))
        for _ in range(2):
            fleet.add(policy(rule("Everything", "*")))
        fleet.add(policy(windows, mode="AuditOnly"))
    with session_scope(database, writes=False) as session:
        found = read_at_pattern(session, load_catalogue().pattern(PATTERN))
    exe = [one for one in found.under if one.collection == "Exe"]
    assert [(one.policy.subjects, one.state, one.words, one.rules) for one in exe] == [
        (4, "blocked", "no rule allows it", ()),
        (3, "blocked", "refused by a Deny rule", ("No programs in projects",)),
        (2, "open", "allowed by a rule", ("Everything",)),
        (1, "open", "no rule allows it (only audited: it runs)", ()),
    ]
    assert found.more == 0


def test_a_rule_for_a_group_is_told_as_that(database: Engine, make_fleet: type) -> None:
    group = rule("For engineers", "*").replace("S-1-1-0", "S-1-5-21-1-2-3-1234")
    administrators = rule("For administrators", "*").replace("S-1-1-0", "S-1-5-32-544")
    with session_scope(database) as session:
        fleet = make_fleet(session)
        fleet.add(policy(group))
        fleet.add(policy(administrators))
    with session_scope(database, writes=False) as session:
        found = read_at_pattern(session, load_catalogue().pattern(PATTERN))
    assert {(one.state, one.words, one.rules) for one in found.under if one.collection == "Exe"} == {
        ("partly", "allowed for a rule’s group alone", ("For engineers",)),
        ("blocked", "no rule allows it", ()),
    }


def test_only_the_policies_of_most_users_are_judged(database: Engine, make_fleet: type) -> None:
    with session_scope(database) as session:
        fleet = make_fleet(session)
        for number in range(MOST_POLICIES + 3):
            fleet.add(policy(rule(f"Folder {number}", f"C:\\{number}\\*")))
    with session_scope(database, writes=False) as session:
        found = read_at_pattern(session, load_catalogue().pattern(PATTERN))
    assert len({one.policy.id for one in found.under}) == MOST_POLICIES
    assert found.more == 3


def test_where_nothing_is_started_nothing_is_judged(database: Engine, make_fleet: type) -> None:
    written = next(one for one in load_catalogue().patterns if not one.is_executed)
    with session_scope(database) as session:
        make_fleet(session).add(policy(rule("Everything", "*")))
    with session_scope(database, writes=False) as session:
        assert read_at_pattern(session, written).under == ()


def test_rule_sets_that_hold_it(database: Engine) -> None:
    with session_scope(database) as session:
        first = add_to_rule_set(session, name="Pythons", patterns=[PATTERN], actor=ADA).rule_set_id
        second = add_to_rule_set(session, name="Closed", patterns=[PATTERN], actor=ADA).rule_set_id
        third = add_to_rule_set(session, name="Gone", patterns=[PATTERN], actor=ADA).rule_set_id
        add_to_rule_set(session, name="Other", patterns=["cache-builds-venv-python"], actor=ADA)
        choose_for_item(session, second, PATTERN, kind="leave", actor=ADA)
        retire_rule_set(session, third, actor=ADA)
    with session_scope(database, writes=False) as session:
        found = read_at_pattern(session, load_catalogue().pattern(PATTERN)).rule_sets
    assert {(one.id, one.name, one.leaves_it) for one in found} == {(first, "Pythons", False), (second, "Closed", True)}


def test_a_seen_policy_that_makes_no_valid_file_is_no_base(database: Engine, make_fleet: type) -> None:
    """A registry may hold one rule id in two collections; a rule set on such a base could not be opened again."""
    one = CollectionInForce(mode="Enabled", rules=(rule("Windows", "%WINDIR%\\*"),))
    with session_scope(database) as session:
        make_fleet(session).add(PolicySet(collections={"Exe": one, "Script": one}))
    with session_scope(database) as session:
        (seen,) = list_policies(session)
        with pytest.raises(InvalidError, match="used twice"):
            take_seen_policy(session, seen.id, actor=ADA)
        assert list_base_policies(session) == ()
