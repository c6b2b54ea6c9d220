"""Comparing by what policies do, and merging as Windows does."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from app.applocker.compare import Kind, compare, compare_three
from app.applocker.evaluate import compile_policy
from app.applocker.merge import decide_groupings, merge_gpos, merge_groupings, merge_into
from app.applocker.model import (
    STANDARD_USER,
    Action,
    Collection,
    Confidence,
    File,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    Rule,
    Verdict,
)
from tests.app.applocker.strategies import policies

SETTINGS = settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))


def path(text: str, id: str = "a", name: str = "n", action: Action = Action.ALLOW) -> PathRule:
    return PathRule(id=id, name=name, action=action, condition=PathCondition(path=text))


def policy(*rules: Rule, mode: Mode | None = Mode.ENABLED, type: str = "Exe") -> Policy:
    return Policy(collections=(Collection(type=type, mode=mode, rules=rules),))


def kinds(old: Policy, new: Policy) -> list[str]:
    return [change.kind.value for change in compare(old, new)]


@SETTINGS
@given(one=policies(), other=policies())
def test_a_policy_differs_from_itself_in_nothing(one: Policy, other: Policy) -> None:
    assert compare(one, one) == ()
    forth, back = compare(one, other), compare(other, one)
    assert len(forth) == len(back)
    assert merge_into(one, one).policy == one


def test_only_what_rules_do_counts() -> None:
    old = policy(path("C:\\A\\*"), path("C:\\B\\*", id="b"))
    assert kinds(old, policy(path("C:\\B\\*", id="b"), path("c:\\a\\*"))) == []
    renamed = compare(old, policy(path("C:\\A\\*", name="other"), path("C:\\B\\*", id="c")))
    assert [change.kind for change in renamed] == [Kind.RULE_RENAMED, Kind.RULE_RENAMED]
    assert not any(change.is_semantic for change in renamed)
    assert kinds(old, policy(path("C:\\X\\*"), path("C:\\B\\*", id="b"))) == ["rule-changed"]
    assert kinds(old, policy(path("C:\\A\\*"))) == ["rule-removed"]
    assert kinds(policy(path("C:\\A\\*")), old) == ["rule-added"]


def test_modes_and_collections() -> None:
    one = policy(path("*"))
    assert kinds(policy(path("*"), mode=None), policy(path("*"), mode=Mode.NOT_CONFIGURED)) == []
    (change,) = compare(policy(path("*"), mode=Mode.AUDIT_ONLY), one)
    assert change.message == "Exe goes from AuditOnly to Enabled: what was only logged is blocked now"
    assert kinds(Policy(), policy(path("*"), mode=None)) == ["collection-started", "rule-added"]
    assert kinds(policy(path("*"), mode=None), Policy()) == ["collection-ended", "rule-removed"]


def test_three_ways() -> None:
    base = policy(path("C:\\A\\*"), path("C:\\B\\*", id="b"))
    mine = policy(path("C:\\A1\\*"), path("C:\\B\\*", id="b"), path("C:\\C\\*", id="c"), path("C:\\D\\*", id="d"))
    theirs = policy(path("C:\\A2\\*"), path("C:\\C\\*", id="c"), mode=Mode.AUDIT_ONLY)
    found = compare_three(base, mine, theirs)
    assert [change.key for change in found.mine] == ["d"]
    assert [change.key for change in found.theirs] == ["mode", "b"]
    assert [change.key for change in found.both] == ["c"]
    assert [(conflict.mine.key, conflict.theirs.key) for conflict in found.conflicts] == [("a", "a")]


def test_merge_adds_rules_once_and_keeps_the_targets_mode() -> None:
    target = policy(path("C:\\A\\*"), mode=Mode.AUDIT_ONLY)
    added = policy(path("C:\\A\\*"), path("C:\\B\\*", id="b"))
    merged = merge_into(target, added)
    assert [rule.id for _, rule in merged.policy.rules()] == ["a", "b"]
    assert merged.policy.collections[0].mode is Mode.AUDIT_ONLY
    assert [change.kind for change in merged.changes] == [Kind.RULE_ADDED]
    assert any("more restrictive" in note for note in merged.notes)
    assert merge_into(merged.policy, added).policy == merged.policy


def test_merge_says_what_a_reused_id_means() -> None:
    merged = merge_into(policy(path("C:\\A\\*")), policy(path("C:\\B\\*")))
    assert [rule.condition for _, rule in merged.policy.rules()] == [PathCondition(path="C:\\A\\*")]
    assert any("not documented" in note for note in merged.notes)
    started = merge_into(Policy(), policy(path("*"), type="Dll"))
    assert [change.kind for change in started.changes] == [Kind.STARTED, Kind.MODE, Kind.RULE_ADDED]


def test_group_policy_adds_rules_up_and_takes_the_closest_mode() -> None:
    far = policy(path("C:\\A\\*"), mode=Mode.ENABLED)
    close = policy(path("C:\\B\\*", id="b"), mode=Mode.AUDIT_ONLY)
    unsaid = policy(path("C:\\C\\*", id="c"), mode=Mode.NOT_CONFIGURED)
    merged = merge_gpos([far, close, unsaid])
    assert [rule.id for _, rule in merged.policy.rules()] == ["a", "b", "c"]
    assert merged.policy.collections[0].mode is Mode.AUDIT_ONLY
    assert any("closest" in note for note in merged.notes)
    local = policy(path("C:\\L\\*", id="l"), mode=Mode.ENABLED)
    with_local = merge_gpos([close], local)
    assert {rule.id for _, rule in with_local.policy.rules()} == {"b", "l"}
    assert with_local.policy.collections[0].mode is Mode.AUDIT_ONLY
    assert merge_gpos([unsaid]).policy.collections[0].mode is Mode.NOT_CONFIGURED


def test_groupings_must_all_allow() -> None:
    one = policy(path("C:\\A\\*"), path("D:\\*", id="d"))
    two = policy(path("C:\\*", id="c"), path("D:\\x\\*", id="x", action=Action.DENY))
    compiled = [compile_policy(one), compile_policy(two)]

    def judged(file: str) -> Verdict:
        return decide_groupings(compiled, File(path=file), STANDARD_USER).verdict

    assert judged("C:\\A\\a.exe") is Verdict.ALLOWED
    assert judged("C:\\B\\a.exe") is Verdict.DENIED_BY_DEFAULT
    assert judged("D:\\a.exe") is Verdict.DENIED_BY_DEFAULT
    assert decide_groupings(compiled, File(path="D:\\a.exe"), STANDARD_USER).confidence is Confidence.LOW
    merged = merge_groupings([one, two])
    assert {rule.id for _, rule in merged.policy.rules()} == {"a", "x"}
    assert any("'n' (d)" in note for note in merged.notes)


def test_a_rule_must_be_covered_by_every_other_grouping() -> None:
    covered, free, other = policy(path("C:\\A\\*")), policy(path("C:\\*", id="c")), policy(path("D:\\*", id="d"))
    assert [rule.id for _, rule in merge_groupings([covered, free]).policy.rules()] == ["a"]
    merged = merge_groupings([covered, free, other])
    assert list(merged.policy.rules()) == []
    assert any("nothing is left" in note for note in merged.notes)


def test_an_empty_grouping_allows_nothing() -> None:
    empty = Policy(collections=(Collection(type="Exe", mode=Mode.NOT_CONFIGURED),))
    decision = decide_groupings([compile_policy(empty)], File(path="C:\\a.exe"), STANDARD_USER)
    assert (decision.verdict, decision.confidence) == (Verdict.DENIED_BY_DEFAULT, Confidence.LOW)
    assert any("allows nothing" in note for note in merge_groupings([empty, policy(path("*"))]).notes)


@SETTINGS
@given(one=policies(max_rules=5, with_extensions=False), other=policies(max_rules=5, with_extensions=False))
def test_what_merged_groupings_allow_each_grouping_allows(one: Policy, other: Policy) -> None:
    groupings = [one, other]
    merged = compile_policy(merge_groupings(groupings).policy)
    compiled = [compile_policy(grouping) for grouping in groupings]
    for type, rule in merged.policy.rules():
        if not isinstance(rule, PathRule) or rule.action is Action.DENY:
            continue
        text = (
            rule.condition.path.replace("*", "a")
            .replace("?", "b")
            .replace("%OSDRIVE%", "C:")
            .replace("%WINDIR%", "C:\\Windows")
        )
        file = File(path=text if text[1:2] == ":" else f"C:\\{text}")
        if merged.decide(file, STANDARD_USER, type).verdict is Verdict.ALLOWED:
            present = [each for each in compiled if each.policy.collection(type) and each.policy.collection(type).rules]
            assert all(each.decide(file, STANDARD_USER, type).verdict is Verdict.ALLOWED for each in present)


def test_merging_changes_no_input() -> None:
    target, added = policy(path("C:\\A\\*")), policy(path("C:\\B\\*", id="b"))
    before = replace(target)
    merge_into(target, added)
    assert target == before
