"""What the registry's policies let one conclude."""

from __future__ import annotations

import pytest

from agent.contract.facts import Why
from agent.policy import PolicyInForce, RegistryCollection, explain_allowed, named_sids, policy_set

RULE = '<FilePathRule Id="{0}" Name="a" Description="" UserOrGroupSid="{1}" Action="Allow"/>'
FIRST = RULE.format("11111111-1111-1111-1111-111111111111", "S-1-1-0")
SECOND = RULE.format("22222222-2222-2222-2222-222222222222", "S-1-5-21-1-2-3-1105")


def in_force(mode: int | None, *rules: str, **more: object) -> PolicyInForce:
    return PolicyInForce(collections={"Exe": RegistryCollection(mode=mode, rules=rules)}, **more)


@pytest.mark.parametrize(
    ("policy", "administrator", "why"),
    [
        (in_force(1, FIRST), False, Why.RULE),
        (in_force(1, FIRST), True, Why.ADMINISTRATOR),
        (in_force(None, FIRST), False, Why.RULE),  # not configured, and enforced all the same
        (in_force(0, FIRST), False, Why.AUDIT_MODE),
        (in_force(0, FIRST), True, Why.AUDIT_MODE),
        (in_force(1), False, Why.NO_RULES),
        (in_force(1, FIRST, service_disabled=True), False, Why.NOT_ENFORCED),
        (PolicyInForce(), False, Why.NO_RULES),
        (PolicyInForce(), True, Why.NO_RULES),
        (PolicyInForce(csp="present-unreadable"), False, Why.UNKNOWN),
        (PolicyInForce(srp=True), False, Why.UNKNOWN),
        (PolicyInForce(collections=None), False, Why.UNKNOWN),
    ],
)
def test_why_a_start_was_allowed(policy: PolicyInForce, administrator: bool, why: Why) -> None:
    assert explain_allowed(policy, "Exe", is_administrator=administrator) is why


def test_rules_that_only_audit_cannot_have_blocked() -> None:
    assert in_force(1, FIRST).has_rules("Exe")
    assert in_force(None, FIRST).has_rules("Exe")
    assert not in_force(0, FIRST).has_rules("Exe")
    assert not in_force(1).has_rules("Exe")
    assert not in_force(1, FIRST).has_rules("Dll")
    assert not PolicyInForce(collections=None).has_rules("Exe")


def test_the_set_does_not_depend_on_the_registrys_order() -> None:
    assert policy_set(in_force(1, FIRST, SECOND)).digest() == policy_set(in_force(1, SECOND, FIRST)).digest()
    assert policy_set(in_force(1, FIRST)).digest() != policy_set(in_force(0, FIRST)).digest()


def test_modes_are_told_as_the_registry_has_them() -> None:
    told = [policy_set(in_force(mode, FIRST)).to_json()["gpo"]["Exe"]["mode"] for mode in (None, 0, 1, 7)]
    assert told == ["NotConfigured", "AuditOnly", "Enabled", "Unknown7"]


def test_unreadable_is_not_empty() -> None:
    assert policy_set(PolicyInForce(collections=None)).to_json()["gpo"] is None
    assert policy_set(PolicyInForce()).to_json()["gpo"] == {}


def test_sids_named_by_rules_are_known() -> None:
    assert named_sids(in_force(1, FIRST, SECOND)) == {"S-1-1-0", "S-1-5-21-1-2-3-1105"}


def test_a_large_policy_loses_its_words_and_a_huge_one_counts_as_unread() -> None:
    rule = '<FilePublisherRule Id="{0}" Name="{1}" Description="{1}"><Conditions ProductName="p"/></FilePublisherRule>'
    large = tuple(rule.format(number, "words " * 100) for number in range(1000))
    told = policy_set(in_force(1, *large))
    assert told.collections is not None
    assert len(told.collections["Exe"].rules) == 1000
    assert "words" not in told.body()
    assert 'ProductName=\\"p\\"' in told.body()
    assert len(told.body()) < 700_000
    huge = tuple(rule.format(number, "") for number in range(20_000))
    assert policy_set(in_force(1, *huge)).collections is None


def test_half_a_character_in_the_registry_stops_nothing() -> None:
    assert "\ufffd" in policy_set(in_force(1, '<a Name="\ud800"/>')).body()


def test_with_a_policy_of_device_management_only_an_enforced_rule_explains_a_start() -> None:
    for csp in ("present-unreadable", "read"):
        assert explain_allowed(in_force(1, FIRST, csp=csp), "Exe", is_administrator=False) is Why.RULE
        assert explain_allowed(in_force(0, FIRST, csp=csp), "Exe", is_administrator=False) is Why.UNKNOWN
        assert explain_allowed(in_force(1, csp=csp), "Exe", is_administrator=False) is Why.UNKNOWN
        disabled = in_force(1, FIRST, csp=csp, service_disabled=True)
        assert explain_allowed(disabled, "Exe", is_administrator=False) is Why.UNKNOWN


def test_the_sets_are_told_apart_and_named_together() -> None:
    grouping = {"Exe": RegistryCollection(mode=1, rules=(SECOND,))}
    policy = in_force(0, FIRST, csp="read", csp_sets=(grouping, {"Dll": RegistryCollection(mode=0)}))
    told = policy_set(policy).to_json()
    assert told["gpo"] == {"Exe": {"mode": "AuditOnly", "rules": [FIRST]}}
    assert told["csp"] == "read"
    assert told["csp_sets"] == [
        {"Exe": {"mode": "Enabled", "rules": [SECOND]}},
        {"Dll": {"mode": "AuditOnly", "rules": []}},
    ]
    assert named_sids(policy) == {"S-1-1-0", "S-1-5-21-1-2-3-1105"}
    assert policy.has_rules("Exe")
    assert "csp_sets" not in policy_set(in_force(1, FIRST)).to_json()


def test_a_policy_of_device_management_that_is_too_large_is_unreadable_and_not_gone() -> None:
    rule = '<FilePublisherRule Id="{0}"/>' + " " * 100
    huge = tuple(rule.format(number) for number in range(20_000))
    grouping = {"Exe": RegistryCollection(mode=1, rules=huge)}
    told = policy_set(in_force(1, FIRST, csp="read", csp_sets=(grouping,)))
    assert (told.csp, told.csp_sets) == ("present-unreadable", ())
    assert told.collections is not None


def test_a_service_that_cannot_start_is_told() -> None:
    assert policy_set(in_force(1, FIRST, service_disabled=True)).to_json()["service_disabled"] is True
    assert "service_disabled" not in policy_set(in_force(1, FIRST)).to_json()
