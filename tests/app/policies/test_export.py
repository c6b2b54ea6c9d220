"""Exports: the right kind of rule, nothing that switches default deny on, the same bytes for the same choices."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.catalogue import load
from app.applocker.identify import rule_id
from app.applocker.model import HashCondition, Mode, PathCondition, PublisherCondition
from app.applocker.read import parse_policy
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import PatternChoice
from app.policies.export import Export, plan_export

Trust = Callable[..., TrustedFile]
CATALOGUE = load()
OPENABLE = [
    pattern
    for pattern in CATALOGUE.patterns
    if pattern.is_executed and pattern.applocker_paths and "path" in pattern.rule_kinds
]
SCHEMA = Path(__file__).parents[3].parent / "shared" / "reference" / "applocker-policy.xsd"


def paths_of(export: Export) -> list[str]:
    return [rule.rule.condition.path for rule in export.rules if isinstance(rule.rule.condition, PathCondition)]


def test_rules_to_add_are_not_configured_and_say_what_they_would_do_alone(developers: str) -> None:
    export = plan_export(["cache-builds-venv-python"], developers)
    (collection,) = parse_policy(export.xml).collections
    assert (collection.type, collection.mode) == ("Exe", Mode.NOT_CONFIGURED)
    (rule,) = collection.rules
    assert rule.sid == developers
    assert rule.condition == PathCondition(
        path=r"%OSDRIVE%\Users\*\AppData\Local\uv\cache\builds-v0\.tmp*\Scripts\python*.exe"
    )
    assert "NotConfigured does not mean off" in export.effect_on_empty_machine
    assert export.effect_on_empty_machine.split(". ")[0] in export.xml  # the file says so itself
    assert any("ARE enforced" in note for note in export.notes)
    assert export.sha256 == hashlib.sha256(export.xml.encode()).hexdigest()
    assert export.file_name == f"wayleave-rules-{export.sha256[:8]}.xml"


def test_the_same_choices_in_any_order_give_the_same_bytes(developers: str) -> None:
    first = plan_export(["venv-python", "uv-exe-winget", "managed-python-exe"], developers)
    again = plan_export(["managed-python-exe", "venv-python", "uv-exe-winget"], developers.lower())
    assert first == again


def test_ids_come_from_content_alone(developers: str) -> None:
    one = plan_export(["uv-exe-winget"], developers)
    two = plan_export(["uv-exe-winget", "uv-exe-standalone", "venv-python=path"], developers)
    (publisher_rule,) = one.rules
    same = next(rule for rule in two.rules if rule.kind == "publisher")
    assert publisher_rule.id == same.id  # the name differs, what it does not
    assert publisher_rule.name != same.name
    assert same.id == rule_id("Exe", "Allow", developers, [same.rule.condition])
    assert one.rules[0].id != plan_export(["uv-exe-winget"], "S-1-1-0").rules[0].id


def test_default_kind_is_what_works_per_the_catalogue(developers: str, trust: Trust) -> None:
    python = trust(1, "python.exe", version="3.13.2.0")
    assert [rule.kind for rule in plan_export(["uv-exe-standalone"], developers).rules] == ["publisher"]
    assert [rule.kind for rule in plan_export(["managed-python-exe"], developers).rules] == ["path"]
    with_baseline = plan_export(["managed-python-exe"], developers, baseline=[python])
    (rule,) = with_baseline.rules
    assert rule.kind == "hash"
    condition = rule.rule.condition
    assert isinstance(condition, HashCondition)
    assert [(file.data, file.source_name, file.source_length) for file in condition.hashes] == [
        (python.rule_sha256.upper(), "python.exe", 1001)
    ]
    chosen = plan_export(["managed-python-exe=path"], developers, baseline=[python])
    assert [rule.kind for rule in chosen.rules] == ["path"]


def test_a_signed_python_is_not_taken_for_one_that_uv_downloads(developers: str, trust: Trust) -> None:
    signed = trust(1, "python.exe", publisher="O=PYTHON SOFTWARE FOUNDATION, C=US", version="3.13.2150.1013")
    assert [rule.kind for rule in plan_export(["managed-python-exe"], developers, baseline=[signed]).rules] == ["path"]
    export = plan_export(["cache-builds-venv-python"], developers, baseline=[signed])
    assert [rule.kind for rule in export.rules] == ["hash"]
    assert any("these builds alone: python.exe 3.13.2150.1013" in note for note in export.notes)


def test_every_publisher_of_a_rule_is_known_to_the_catalogue_or_the_baseline(developers: str, trust: Trust) -> None:
    signer = next(signer for signer in CATALOGUE.signers if signer.id == "openai")
    (rule,) = plan_export(["uv-exe-standalone", "uv-exe-pipx"], developers).rules
    assert rule.rule.condition == PublisherCondition(publisher=signer.publisher)
    assert rule.patterns == ("uv-exe-standalone", "uv-exe-pipx")
    assert rule.reach.admits == signer.admits
    signed = trust(
        7,
        "python.exe",
        publisher="O=EXAMPLE FOUNDATION, C=US",
        product="PYTHON",
        binary="PYTHON.EXE",
        version="3.13.2.0",
    )
    (rule,) = plan_export(["cache-builds-venv-python=publisher"], developers, baseline=[signed]).rules
    assert rule.rule.condition == PublisherCondition(
        publisher="O=EXAMPLE FOUNDATION, C=US", product="PYTHON", binary="PYTHON.EXE"
    )


@pytest.mark.parametrize("values", [{"product": "*"}, {"binary": "*.EXE"}, {"publisher": "O=A?, C=US"}])
def test_a_file_that_calls_itself_a_wildcard_widens_no_rule(
    developers: str, trust: Trust, values: dict[str, str]
) -> None:
    given = {"publisher": "O=A, C=US", "product": "P", "binary": "B.EXE"} | values
    file = trust(1, "python.exe", **given)
    with pytest.raises(InvalidError, match="wildcard") as refused:
        plan_export(["cache-builds-venv-python=publisher"], developers, baseline=[file])
    assert refused.value.field == "files"
    assert plan_export(["cache-builds-venv-python=hash"], developers, baseline=[file]).rules[0].kind == "hash"


def test_a_launcher_is_not_enough(developers: str) -> None:
    def told(*patterns: str) -> bool:
        return any("is a launcher" in note for note in plan_export(patterns, developers).notes)

    assert told("venv-python", "cache-builds-venv-python")
    assert not told("venv-python", "managed-python-exe")
    assert not told("uv-exe-winget")


def test_nothing_that_plans_rules_knows_what_hosts_reported() -> None:
    folder = Path(plan_export.__code__.co_filename).parent
    for name in ("choices", "plan", "reach", "coverage", "export", "candidates", "describe", "bundle"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        imported = {
            module
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for module in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            )
        }
        assert not {module for module in imported if module.startswith(("app.fleet", "app.ingest"))}


def test_one_trusted_file_is_one_rule_for_all_its_patterns(developers: str, trust: Trust) -> None:
    launcher = trust(2, "venvlauncher.exe")  # becomes python.exe in an environment
    library = trust(3, "python313.dll", kind="dll")
    patterns = ["cache-builds-venv-python", "cache-archive-env-python", "tool-env-python"]
    export = plan_export(patterns, developers, baseline=[launcher, library])
    (rule,) = export.rules
    assert rule.kind == "hash"
    assert set(rule.patterns) == set(patterns)


def test_files_can_be_chosen_for_a_pattern_that_names_none(developers: str, trust: Trust) -> None:
    tool = trust(5, "ruff.exe")
    by_name = plan_export(["tool-bin-exe"], developers, baseline=[tool])
    assert [rule.kind for rule in by_name.rules] == ["path"]  # *.exe says nothing about which file
    choice = PatternChoice(pattern="tool-bin-exe", files=(5,))
    (rule,) = plan_export([choice], developers, baseline=[tool]).rules
    assert rule.kind == "hash"
    with pytest.raises(InvalidError, match="No baseline file 6") as refused:
        plan_export([PatternChoice(pattern="tool-bin-exe", files=(6,))], developers, baseline=[tool])
    assert refused.value.field == "files"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("no-cache-temp-root", "UV_CACHE_DIR"),
        ("self-replace-temp-exe", "needs no rule"),
        ("cache-wheel-staging-temp", "needs no rule"),
        ("pip-target-entrypoint-exe", "should not get a rule. Install into an environment"),
        ("no-such-pattern", "no pattern"),
    ],
)
def test_a_pattern_without_a_rule_is_refused_with_what_to_do_instead(developers: str, pattern: str, says: str) -> None:
    for choice in (pattern, f"{pattern}=path"):
        with pytest.raises(InvalidError, match=says) as refused:
            plan_export([choice], developers)
        assert refused.value.field == "patterns"


def test_a_kind_that_cannot_be_is_refused(developers: str) -> None:
    for choice, says in [
        ("managed-python-exe=hash", "baseline add"),
        ("venv-entrypoint-exe=publisher", "No publisher"),
        ("uv-exe-custom-dir=path", "No path rule"),
    ]:
        with pytest.raises(InvalidError, match=says) as refused:
            plan_export([choice], developers)
        assert refused.value.field == "kind"
    for choices in ([], ["venv-python", "venv-python=path"], [PatternChoice(pattern="venv-python", kind="all")]):
        with pytest.raises(InvalidError):
            plan_export(choices, developers)


def test_a_pattern_that_another_covers_gets_the_others_rule(developers: str) -> None:
    export = plan_export(["managed-python-minor-link"], developers)
    assert paths_of(export) == [r"%OSDRIVE%\Users\*\AppData\Roaming\uv\python\cpython-*\python*.exe"]
    assert export.rules[0].patterns == ("managed-python-minor-link",)


def test_project_roots_narrow_the_rules_of_environments(developers: str) -> None:
    wide = plan_export(["venv-python"], developers)
    assert paths_of(wide) == [r"%OSDRIVE%\*\.venv\Scripts\python*.exe"]
    assert "project roots" in (wide.rules[0].reach.narrower or "")
    narrow = plan_export(["venv-python"], developers, project_roots=[r"C:\src", r"%USERPROFILE%\source"])
    assert sorted(paths_of(narrow)) == [
        r"%OSDRIVE%\Users\*\source\*\.venv\Scripts\python*.exe",
        r"%OSDRIVE%\Users\*\source\.venv\Scripts\python*.exe",
        r"%OSDRIVE%\src\*\.venv\Scripts\python*.exe",
        r"%OSDRIVE%\src\.venv\Scripts\python*.exe",
    ]


def test_a_moved_folder_moves_its_rules_and_may_be_out_of_users_reach(developers: str) -> None:
    export = plan_export(
        ["managed-python-exe", "cache-builds-venv-python"], developers, roots={"python": r"%PROGRAMFILES%\Pythons"}
    )
    moved = next(rule for rule in export.rules if rule.patterns == ("managed-python-exe",))
    assert moved.rule.condition == PathCondition(path=r"%PROGRAMFILES%\Pythons\cpython-*\python*.exe")
    assert not moved.reach.users_can_write
    other = next(rule for rule in export.rules if rule is not moved)
    assert other.reach.users_can_write


def test_no_collection_is_switched_on(developers: str, base_policy: str) -> None:
    alone = plan_export(["cache-builds-venv-native-lib"], developers)
    assert {rule.collection for rule in alone.rules} == {"Exe"}
    assert [(left.collection, "Nobody said" in left.reason) for left in alone.left_out] == [("Dll", True)]
    with pytest.raises(InvalidError, match="Dll rules") as refused:
        plan_export(["venv-native-lib"], developers)
    assert refused.value.field == "collections"
    said = plan_export(["venv-native-lib"], developers, collections=["Exe", "Dll"])
    assert {rule.collection for rule in said.rules} == {"Dll"}

    within = plan_export(["cache-builds-venv-native-lib"], developers, base=base_policy)
    assert {rule.collection for rule in within.rules} == {"Exe"}
    assert within.left_out[0].collection == "Dll"
    assert "no Dll rules" in within.left_out[0].reason
    with pytest.raises(InvalidError, match="Nothing is left") as refused:
        plan_export(["venv-native-lib"], developers, base=base_policy)
    assert refused.value.field == "base"


def test_a_whole_policy_keeps_the_base_as_it_is(developers: str, base_policy: str) -> None:
    base = parse_policy(base_policy)
    export = plan_export(["venv-python", "venv-activation-script"], developers, base=base_policy)
    whole = parse_policy(export.xml)
    for collection in base.collections:
        after = whole.collection(collection.type)
        assert after is not None
        assert after.mode == collection.mode
        assert set(collection.rules) <= set(after.rules)
    new = [rule for _, rule in whole.rules() if base.rule(rule.id) is None]
    assert {rule.id for rule in new} == {rule.id for rule in export.added}
    assert {rule.sid for rule in new} == {developers}
    assert "The fleet's own policy" in export.comment
    assert export.base_sha256 == hashlib.sha256(base_policy.encode()).hexdigest()
    assert export.file_name.startswith("wayleave-policy-")
    assert any("only audits Script" in note for note in export.notes)
    assert "Dll, Msi: no rules, everything runs" in export.effect_on_empty_machine


def test_what_the_base_has_is_not_added_again(developers: str, base_policy: str) -> None:
    once = plan_export(["venv-python"], developers, base=base_policy)
    twice = plan_export(["venv-python"], developers, base=once.xml)
    assert twice.xml == once.xml
    assert twice.added == ()
    assert [rule.in_base for rule in twice.rules] == [True]
    # The same rule under an id of somebody else's making is the same rule.
    foreign = once.xml.replace(once.rules[0].id, "11111111-2222-3333-4444-555555555555")
    assert plan_export(["venv-python"], developers, base=foreign).added == ()
    # Our id on another rule would make the file invalid.
    stolen = base_policy.replace("921cc481-6e17-4653-8f75-050b80acca20", once.rules[0].id)
    with pytest.raises(InvalidError, match="another rule with the id"):
        plan_export(["venv-python"], developers, base=stolen)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("", "cannot be read"),
        ("<html/>", "cannot be read"),
        ('<AppLockerPolicy Version="1"><RuleCollection Type="EXE" /></AppLockerPolicy>', "line 1"),
        ('<AppLockerPolicy Version="1" />', "Nothing is left"),
        ("x" * (20 * 1024 * 1024 + 1), "larger than 20 MB"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(developers: str, base: str, says: str) -> None:
    with pytest.raises(InvalidError, match=says) as refused:
        plan_export(["venv-python"], developers, base=base)
    assert refused.value.field == "base"


def test_everyone_is_remarked_upon(developers: str) -> None:
    assert any("Everyone" in note for note in plan_export(["venv-python"], "S-1-1-0").notes)
    assert not any("Everyone" in note for note in plan_export(["venv-python"], developers).notes)


def test_no_rule_hides_its_reach(developers: str) -> None:
    for pattern in OPENABLE:
        export = plan_export([f"{pattern.id}=path"], developers, collections=pattern.collections)
        for rule in export.rules:
            assert all(dataclasses.astuple(rule.reach)[index] not in ("", None) for index in (0, 3, 4, 5)), rule
            if rule.reach.users_can_write:
                assert rule.reach.narrower, f"{pattern.id}: nothing is said about what would be narrower"
            condition = rule.rule.condition
            assert isinstance(condition, PathCondition)
            assert bool(rule.reach.examples) == ("*" in condition.path)
    python = plan_export(["managed-python-exe"], developers).rules[0]
    assert "any Python code" in python.reach.risk


@pytest.mark.parametrize("whole", [False, True])
def test_exports_are_valid_by_microsofts_schema(developers: str, base_policy: str, trust: Trust, whole: bool) -> None:
    if not SCHEMA.exists():
        pytest.skip("shared: needs applocker-policy.xsd")
    etree = pytest.importorskip("lxml.etree", reason="needs lxml")
    choices = [f"{pattern.id}=path" for pattern in OPENABLE] + ["discovered-interpreter"]
    export = plan_export(
        choices,
        developers,
        base=base_policy if whole else None,
        collections=None if whole else ["Exe", "Dll", "Script", "Msi"],
        baseline=[trust(1, "python.exe")],
        project_roots=["C:\\R&D's", r"D:\src"],
    )
    schema = etree.XMLSchema(etree.parse(str(SCHEMA)))
    document = etree.fromstring(export.xml.encode())
    assert schema.validate(document), schema.error_log
    ids = [element.get("Id") for element in document.iter() if element.get("Id")]
    assert len(set(ids)) == len(ids)
    assert all(identifier == identifier.lower() for identifier in ids)
    assert not export.xml.startswith("\ufeff")
