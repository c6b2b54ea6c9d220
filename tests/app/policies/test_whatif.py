"""What an export would do to the fleet, judged against reported policies: who gains, and who stays shut out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from agent.contract.facts import CollectionInForce, PolicySet, TokenSet
from app.applocker.read import parse_policy
from app.applocker.write import render_rule
from app.db.session import session_scope
from app.fleet.standing import Standing
from app.policies.baselines import TrustedFile
from app.policies.export import Export, plan_export
from app.policies.whatif import PatternWhatIf, simulate_export

MakeFleet = Callable[[Session], Any]
Trust = Callable[..., TrustedFile]
DENY = (
    '<FilePathRule Id="00000000-0000-4000-8000-000000000001" Name="No venvs" Description="" UserOrGroupSid="{sid}" '
    'Action="Deny"><Conditions><FilePathCondition Path="*\\.venv\\*" /></Conditions></FilePathRule>'
)


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def in_force(base: str, *more: str, mode: str = "Enabled", csp: str = "none") -> PolicySet:
    """A base policy as the registry of a host has it, with further Exe rules."""
    exe = parse_policy(base).collection("Exe")
    assert exe is not None
    rules = tuple(render_rule(rule) for rule in exe.rules) + more
    return PolicySet(collections={"Exe": CollectionInForce(mode=mode, rules=rules)}, csp=csp)


def only(export: Export, session: Session, **options: Any) -> PatternWhatIf:
    (pattern,) = simulate_export(session, export, **options).patterns
    return pattern


def test_who_gains_and_who_stays_shut_out(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str
) -> None:
    export = plan_export(["venv-python=path"], developers, project_roots=[r"C:\src"])
    fleet = make_fleet(session)
    for _ in range(3):
        fleet.add(in_force(base_policy))
    fleet.add(in_force(base_policy, *(render_rule(rule.rule) for rule in export.rules)))
    fleet.add(in_force(base_policy, DENY.format(sid="S-1-1-0")))
    fleet.add(PolicySet(collections=None))
    fleet.add(in_force(base_policy, csp="present-unreadable"))
    fleet.add(in_force(base_policy, "<FilePathRule nonsense"))
    fleet.add(in_force(base_policy), standing=Standing.ADMINISTRATOR)

    result = simulate_export(session, export)
    assert (result.base, result.unreadable, result.policies) == (8, 3, 3)
    (pattern,) = result.patterns
    assert (pattern.open_already, pattern.newly_open, pattern.still_closed) == (1, 3, 1)
    assert pattern.deny_rules == (("No venvs", 1),)
    assert (result.starts_default_deny, result.only_audited) == ((), ())


def test_a_first_rule_that_would_lock_machines_is_found(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str
) -> None:
    export = plan_export(["venv-python=path"], developers)
    fleet = make_fleet(session)
    fleet.add(PolicySet(collections={"Script": CollectionInForce(mode="Enabled", rules=())}))
    fleet.add(PolicySet(collections={}))
    fleet.add(in_force(base_policy, mode="AuditOnly"))
    result = simulate_export(session, export)
    assert result.starts_default_deny == (("Exe", 2),)
    assert result.only_audited == (("Exe", 1),)
    assert result.patterns[0].open_already == 2  # everything runs there today


def test_tokens_count_where_rules_name_groups(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str
) -> None:
    contractors = "S-1-5-21-1004336348-1177238915-682003330-7777"
    export = plan_export(["venv-python=path"], developers)
    fleet = make_fleet(session)
    policy = in_force(base_policy, DENY.format(sid=contractors))
    fleet.add(policy, None, TokenSet(sids=("S-1-1-0", "S-1-5-32-545")))
    fleet.add(policy, None, TokenSet(sids=("S-1-1-0", "S-1-5-32-545", "S-1-5-32-547")))
    fleet.add(policy, None, TokenSet(sids=("S-1-1-0", "S-1-5-32-545", contractors)))
    result = simulate_export(session, export)
    (pattern,) = result.patterns
    assert (pattern.newly_open, pattern.still_closed) == (2, 1)
    # Two of the three tokens are the same to every rule, so two classes are judged, before and after.
    assert result.judgements == 4


def test_hash_and_publisher_rules_are_judged_by_what_they_name(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str, trust: Trust
) -> None:
    python = trust(1, "python.exe")
    fleet = make_fleet(session)
    fleet.add(in_force(base_policy))
    by_hash = plan_export(["cache-builds-venv-python"], developers, baseline=[python])
    assert [rule.kind for rule in by_hash.rules] == ["hash"]
    assert only(by_hash, session).newly_open == 1
    by_publisher = plan_export(["uv-exe-standalone"], developers)
    assert [rule.kind for rule in by_publisher.rules] == ["publisher"]
    assert only(by_publisher, session).newly_open == 1


def test_moved_folders_and_groups_of_hosts(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str
) -> None:
    export = plan_export(["managed-python-exe=path"], developers, roots={"python": r"D:\Pythons"})
    fleet = make_fleet(session)
    fleet.add(in_force(base_policy), group="Pilot")
    fleet.add(in_force(base_policy), group="Rest")
    fleet.add(in_force(base_policy), group="Rest")
    assert only(export, session).newly_open == 3
    assert only(export, session, group_id=fleet.groups["Pilot"]).newly_open == 1


def test_the_same_id_in_two_collections_is_no_reason_not_to_judge(
    session: Session, make_fleet: MakeFleet, developers: str, base_policy: str
) -> None:
    both = in_force(base_policy).collections
    assert both is not None
    make_fleet(session).add(PolicySet(collections={"Exe": both["Exe"], "Script": both["Exe"]}))
    assert only(plan_export(["venv-python=path"], developers), session).newly_open == 1


def test_an_empty_fleet_says_nothing(session: Session, developers: str) -> None:
    result = simulate_export(session, plan_export(["venv-python"], developers))
    assert (result.base, result.policies, result.judgements) == (0, 0, 0)
    assert [one.newly_open for one in result.patterns] == [0]
