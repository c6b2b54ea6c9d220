"""Everything exported is valid by Microsoft's schema, and the engine judges it to do exactly what the page said.

Random bases, drafts, deliveries and users. Judged is what a machine would have in the end: the bytes of the package,
read again, and merged or put in place as the delivery says. What the page said is the export's own words: the patterns
it opens, the forms of them that stay closed, what it opens besides.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from agent.catalogue import expand, load
from app.applocker.evaluate import CompiledPolicy, collection_of, compile_policy
from app.applocker.merge import merge_gpos, merge_into
from app.applocker.model import (
    STANDARD_USER,
    Action,
    Collection,
    File,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    Rule,
    Token,
    Verdict,
    in_order,
)
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.policies.base_policies import BasePolicy, Origin
from app.policies.baselines import TrustedFile
from app.policies.bundle import Delivery, build_bundle
from app.policies.coverage import example_of, typical_machine
from app.policies.drafts import build_draft
from app.policies.export import Export
from app.policies.plan import PlannedRule
from app.policies.queries_rule_sets import Item, RuleSet
from app.policies.rule_sets import ITEM_KINDS, Group, State
from app.policies.specimens import with_identity
from app.policies.target_scripts import policy_state, rule_state
from tests.app.applocker.strategies import guids
from tests.app.applocker.strategies import rules as rules_of_any_kind

XSD = Path(__file__).resolve().parents[4] / "shared" / "reference" / "applocker-policy.xsd"
OPEN = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)
AT = datetime(2026, 11, 20, tzinfo=UTC)
CATALOGUE = load()
EXECUTED = tuple(one for one in CATALOGUE.patterns if one.is_executed and one.collections)
PATHS = tuple(path for one in EXECUTED for path in one.applocker_paths if not path.startswith("<"))
DEVELOPERS, OTHERS, PILOT = (f"S-1-5-21-1004336348-1177238915-682003330-{number}" for number in (1234, 7777, 4321))
GROUPS = (DEVELOPERS, OTHERS, "S-1-5-32-545", "S-1-1-0")
DELIVERIES = {
    Origin.GPO: (Delivery.SAME_GPO, Delivery.SEPARATE_GPO, Delivery.LOCAL),
    Origin.SEEN: (Delivery.SAME_GPO, Delivery.SEPARATE_GPO, Delivery.LOCAL),
    Origin.INTUNE: (Delivery.INTUNE,),
}


@st.composite
def rules_about_uv(draw: st.DrawFn, rule_id: str) -> Rule:
    """A rule of the base that concerns the same files as the draft: Allow or Deny, with and without an exception."""
    path = st.sampled_from((*PATHS, "%OSDRIVE%\\Users\\*", "%PROGRAMFILES%\\*", "%WINDIR%\\*", "*"))
    exceptions = draw(st.lists(path.map(lambda one: PathCondition(path=one)), max_size=1))
    return PathRule(
        id=rule_id,
        name=draw(st.sampled_from(("Base", "<b>&amp;</b>", "Größe \u202e'x' \"y\""))),
        sid=draw(st.sampled_from(GROUPS)),
        action=draw(st.sampled_from((Action.ALLOW, Action.ALLOW, Action.DENY))),
        condition=PathCondition(path=draw(path)),
        exceptions=tuple(exceptions),
    )


@st.composite
def bases(draw: st.DrawFn) -> Policy:
    """A policy with rules for programs, mostly, and for other things, sometimes."""
    ids = iter(draw(st.lists(guids, unique=True, min_size=24, max_size=24)))
    collections = []
    for kind in draw(
        st.sampled_from((("Exe",), ("Exe", "Script"), ("Exe", "Dll", "Script", "Msi"), ("Script", "Dll")))
    ):
        count = draw(st.integers(0 if collections else 1, 6))
        some = [
            draw(st.one_of(rules_about_uv(one), rules_of_any_kind(one)))
            for _, one in zip(range(count), ids, strict=False)
        ]
        collections.append(Collection(type=kind, mode=draw(st.sampled_from((None, *Mode))), rules=tuple(some)))
    return in_order(Policy(collections=tuple(collections)))


def trusted(number: int, name: str, kind: str = "exe", publisher: str | None = None) -> TrustedFile:
    return TrustedFile(
        id=number,
        name=name,
        size_bytes=number,
        sha256=f"{number:064x}",
        authenticode_sha256=f"{number + 100:064x}",
        kind=kind,
        publisher=publisher,
        product=None,
        binary=None,
        version="3.13.2.0",
        source="the golden image",
        added_at=AT,
        added_by="ada@example.com",
    )


BASELINE = (
    trusted(1, "python.exe"),
    trusted(2, "venvlauncher.exe"),
    trusted(3, "uv.exe", publisher="O=OPENAI OPCO, LLC, L=SAN FRANCISCO, S=CALIFORNIA, C=US"),
    trusted(4, "_ssl.pyd", kind="dll"),
    trusted(5, "ruff.exe", publisher="O=EXAMPLE, C=DE"),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    """A draft for a base of any origin, some groups, some patterns, each to be opened in some way."""
    policy = draw(bases())
    text = render_policy(policy)
    base = BasePolicy(
        id=1,
        name="base",
        origin=draw(st.sampled_from((Origin.GPO, Origin.GPO, Origin.SEEN, Origin.INTUNE))),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        content=text,
        added_at=AT,
        added_by="ada@example.com",
        policy=parse_policy(text),
    )
    chosen = draw(st.lists(st.sampled_from(EXECUTED), unique_by=lambda one: one.id, min_size=1, max_size=5))
    items = [
        Item(
            pattern=one.id,
            kind=draw(st.sampled_from((None, "hash", "path", "publisher", *ITEM_KINDS))),
            files=draw(st.sampled_from((None, None, (5,)))),
            origins=(),
            added_at=AT,
            added_by="ada@example.com",
        )
        for one in chosen
    ]
    sids = draw(st.lists(st.sampled_from(GROUPS), unique=True, min_size=1, max_size=2))
    pilot = draw(st.sampled_from(((PILOT,), (DEVELOPERS,), (PILOT, OTHERS), ())))
    return RuleSet(
        id=1,
        name="Open uv",
        purpose="",
        state=State.DRAFT,
        base=base,
        groups=tuple(Group(sid=sid, name="") for sid in sids),
        pilot=tuple(Group(sid=sid, name="") for sid in pilot),
        project_roots=draw(st.sampled_from(((), ("%OSDRIVE%\\src",), ("%OSDRIVE%\\Users\\*\\src",)))),
        roots=draw(st.sampled_from(({}, {"cache": "%OSDRIVE%\\uv-cache"}))),
        owner="ada@example.com",
        change_number="",
        review_by=None,
        slider=0,
        revision=1,
        authors=("ada@example.com",),
        created_at=AT,
        created_by="ada@example.com",
        updated_at=AT,
        items=tuple(items),
    )


@cache
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(XSD))


def files_of(export: Export, delivery: Delivery, earlier: Sequence[PlannedRule] = ()) -> dict[str, bytes]:
    """The files of a package, which is the same each time."""
    bundle = build_bundle(export, delivery, earlier=earlier)
    assert bundle.content == build_bundle(export, delivery, earlier=earlier).content
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def values_in(script: bytes, name: str) -> list[str]:
    found = re.search(rf"\${name} = @\((.*?)\)", script.decode(), re.DOTALL)
    assert found is not None
    return re.findall(r"'([^']*)'", found[1])


def delivered(
    base: Policy, before: Policy, export: Export, delivery: Delivery, earlier: Sequence[PlannedRule] = ()
) -> Policy:
    """What comes of the package's own bytes, put where the delivery says: into the base, or where the pilot's are."""
    files = files_of(export, delivery, earlier)
    if delivery is Delivery.INTUNE:
        old = {
            one.type: one
            for name, content in files.items()
            if name.startswith("intune-before/")
            for one in parse_policy(f'<AppLockerPolicy Version="1">{content.decode()}</AppLockerPolicy>').collections
        }
        kinds = {rule.collection for rule in export.added}
        assert in_order(Policy(collections=tuple(old.values()))) == in_order(
            Policy(collections=tuple(one for one in base.collections if one.type in kinds))
        )
        new = {
            one.type: one
            for name, content in files.items()
            if name.startswith("intune/")
            for one in parse_policy(f'<AppLockerPolicy Version="1">{content.decode()}</AppLockerPolicy>').collections
        }
        assert set(new) == set(old)
        return replace(base, collections=tuple(new.get(one.type, one) for one in base.collections))
    rules = parse_policy(files["rules.xml"])
    if delivery is Delivery.SEPARATE_GPO:
        assert {one.mode for one in rules.collections} == {Mode.NOT_CONFIGURED}
        assert "whole-policy.xml" not in files
        return merge_gpos([before, rules]).policy
    merged = merge_into(before, rules).policy
    if "whole-policy.xml" in files:
        if not earlier:
            assert parse_policy(files["whole-policy.xml"]).collections == merged.collections
        # apply.ps1 takes this very target; rollback.ps1, which takes the ids out again, leaves it as it was.
        accepted = values_in(files["apply.ps1"], "ExpectedStates")
        assert policy_state(before) in accepted
        assert len(accepted) <= (2 if earlier else 1)
    ours = set(values_in(files["rollback.ps1"], "RuleIds"))
    assert policy_state(without(merged, ours)) == policy_state(without(before, ours))
    known = values_in(files["apply.ps1"], "KnownRules")
    # Nothing that apply.ps1 finds there passes for somebody's change, and all that it added counts as there.
    ids_known = {one.split(" ")[0] for one in known}
    assert ours <= {rule.id for _, rule in merged.rules()}
    for kind, rule in merged.rules():
        assert rule.id not in ids_known or f"{rule.id} {rule_state(kind, rule)}" in known
    return merged


def without(policy: Policy, ids: Set[str]) -> Policy:
    kept = [replace(one, rules=tuple(rule for rule in one.rules if rule.id not in ids)) for one in policy.collections]
    return replace(policy, collections=tuple(kept))


def forms(export: Export) -> Iterator[tuple[str, str, str]]:
    """Every form of every pattern on a workstation as most are: (pattern, collection, path)."""
    machine = typical_machine(export.project_roots, export.roots)
    for pattern in EXECUTED:
        for form in dict.fromkeys(expand(pattern, machine)):
            path = example_of(form)
            collection = collection_of(path)
            if collection is not None and collection in pattern.collections:
                yield pattern.id, collection, path


def opens(policy: CompiledPolicy, file: File, token: Token, collection: str) -> bool:
    return policy.decide(file, token, collection).verdict in OPEN


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(rule_set=rule_sets())
def test_the_engine_finds_exactly_what_the_page_said(rule_set: RuleSet) -> None:
    draft = build_draft(rule_set, BASELINE)
    assert rule_set.base is not None
    base = rule_set.base.policy
    judged: set[tuple[Policy, Policy]] = set()

    def judge(before: Policy, after: Policy, export: Export, groups: Sequence[Group]) -> None:
        key = before, in_order(replace(after, comments=()))
        if key not in judged:
            judged.add(key)
            check(export, before, key[1], [group.sid for group in groups])

    for delivery in DELIVERIES[rule_set.base.origin]:
        piloted = base
        if draft.pilot is not None and draft.pilot.added:
            piloted = delivered(base, base, draft.pilot, delivery)
            judge(base, piloted, draft.pilot, rule_set.pilot)
        if draft.export is None or not draft.export.added:
            continue
        judge(base, delivered(base, base, draft.export, delivery), draft.export, rule_set.groups)
        if draft.pilot is not None and delivery in (Delivery.SAME_GPO, Delivery.LOCAL):
            earlier = draft.pilot.added
            after = delivered(base, piloted, draft.export, delivery, earlier)
            judge(piloted, after, draft.export, rule_set.groups)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(rule_set=rule_sets())
def test_everything_exported_is_valid_by_the_schema(rule_set: RuleSet) -> None:
    if not XSD.exists():
        pytest.skip("shared: needs Microsoft's policy schema")
    draft = build_draft(rule_set, BASELINE)
    assert rule_set.base is not None
    for export in (draft.pilot, draft.export):
        if export is None or not export.added:
            continue
        for delivery in DELIVERIES[rule_set.base.origin]:
            for name, content in files_of(export, delivery).items():
                if name.endswith(".xml"):
                    text = content.decode()
                    whole = text if "/" not in name else f'<AppLockerPolicy Version="1">{text}</AppLockerPolicy>'
                    schema().assertValid(etree.fromstring(whole.encode()))


def check(export: Export, base: Policy, in_force: Policy, sids: list[str]) -> None:
    """Every form of every pattern, for members of each group and for others, before and after."""
    before, after = compile_policy(base), compile_policy(in_force)
    members = [Token(sids=STANDARD_USER.sids | {sid}) for sid in sids]
    others = [one for one in (STANDARD_USER, Token(sids=STANDARD_USER.sids | {OTHERS})) if not one.sids & set(sids)]
    chosen = {pattern for rule in export.rules for pattern in rule.patterns}
    chosen |= {one.id for one in EXECUTED if one.covered_by in chosen}
    by_path = {(pattern, rule.collection) for rule in export.rules if rule.kind == "path" for pattern in rule.patterns}
    said_closed = {(one.pattern, one.collection, one.path) for one in export.stays_closed}
    said_besides = {one.pattern for one in export.also_opens}
    for pattern, collection, path in forms(export):
        file = File(path=path)
        was = [opens(before, file, token, collection) for token in members]
        now = [opens(after, file, token, collection) for token in members]
        if not CATALOGUE.pattern(pattern).covered_by and (pattern, collection) in by_path:
            assert ((pattern, collection, path) in said_closed) is not all(now), (pattern, path)
        if now != was:
            assert pattern in chosen | said_besides, (pattern, path)
        # Nothing that ran is closed, and who is in none of the groups gets nothing.
        assert all(then or not earlier for earlier, then in zip(was, now, strict=True)), (pattern, path)
        for token in others:
            assert opens(before, file, token, collection) is opens(after, file, token, collection), (pattern, path)
    for rule in export.rules:
        check_identity(rule, export, after, before)


def check_identity(rule: PlannedRule, export: Export, after: CompiledPolicy, before: CompiledPolicy) -> None:
    """A rule for an identity opens that file wherever its patterns are, unless something is denied; and no other."""
    if isinstance(rule.rule.condition, PathCondition):
        return
    token = Token(sids=STANDARD_USER.sids | {rule.rule.sid})
    for pattern, collection, path in forms(export):
        if pattern not in rule.patterns or collection != rule.collection:
            continue
        verdict = after.decide(with_identity(rule, path), token, collection).verdict
        assert verdict in (*OPEN, Verdict.DENIED), (rule.name, path)
        if verdict is Verdict.DENIED:
            assert before.decide(with_identity(rule, path), token, collection).verdict is Verdict.DENIED
        stranger = File(path=path, authenticode_sha256="FE" * 32, flat_sha256="FE" * 32, publisher="O=NOBODY")
        if rule.kind == "hash" and {one.kind for one in export.rules} == {"hash"}:
            assert opens(after, stranger, token, collection) is opens(before, stranger, token, collection)
