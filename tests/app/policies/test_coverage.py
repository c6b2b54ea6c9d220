"""Exported rules judged by the engine: they open what they are for, and nothing that is not uv's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.catalogue import Machine, Pattern, canary_paths, load
from app.applocker.evaluate import collection_of, compile_policy
from app.applocker.model import STANDARD_USER, File, PathCondition, Token, Verdict
from app.applocker.read import parse_policy
from app.policies.baselines import TrustedFile
from app.policies.choices import PatternChoice
from app.policies.coverage import typical_machine
from app.policies.export import plan_export

Trust = Callable[..., TrustedFile]
CATALOGUE = load()
OPENABLE = [
    pattern
    for pattern in CATALOGUE.patterns
    if pattern.is_executed and pattern.applocker_paths and "path" in pattern.rule_kinds
]
UNRELATED = [
    r"C:\Users\anyone\Downloads\setup.exe",
    r"C:\Users\anyone\Desktop\python.exe",
    r"C:\Users\anyone\AppData\Local\Temp\payload.exe",
    r"C:\Users\anyone\AppData\Local\Temp\tmp1234\setup.exe",
    r"C:\Users\anyone\AppData\Local\Programs\Python\Python313\python.exe",
    r"C:\Users\anyone\AppData\Local\uv\payload.exe",
    r"C:\Users\anyone\AppData\Roaming\uv\payload.exe",
    r"C:\Users\anyone\AppData\Local\uv\cache\payload.exe",
    r"C:\ProgramData\payload.exe",
    r"C:\projects\payload.exe",
    r"C:\projects\app\venv\Scripts\python.exe",
    r"C:\tools\uv.exe",
    r"D:\projects\.venv\Scripts\python.exe",
    r"\\server\share\.venv\Scripts\python.exe",
    r"C:\Users\anyone\Downloads\library.dll",
    r"C:\Users\anyone\Downloads\script.ps1",
    r"C:\Users\anyone\Downloads\script.bat",
    r"C:\Users\anyone\Downloads\setup.msi",
]


def token(sid: str) -> Token:
    return Token(sids=STANDARD_USER.sids | {sid})


@pytest.mark.parametrize("pattern", OPENABLE, ids=lambda pattern: pattern.id)
@pytest.mark.parametrize("project_roots", [(), (r"C:\projects",)], ids=["anywhere", "project root"])
def test_path_rules_open_their_pattern_and_nothing_unrelated(
    developers: str, pattern: Pattern, project_roots: tuple[str, ...]
) -> None:
    export = plan_export(
        [f"{pattern.id}=path"], developers, collections=pattern.collections, project_roots=project_roots
    )
    compiled = compile_policy(parse_policy(export.xml))
    collections = {rule.collection for rule in export.rules}

    def allowed(path: str, sid: str = developers) -> bool:
        collection = collection_of(path)
        return collection in collections and compiled.decide(File(path=path), token(sid)).verdict is Verdict.ALLOWED

    machine = typical_machine(project_roots, {})
    places = canary_paths(pattern, machine, "a1B2c3D4e5F6g")
    for place in places:
        assert allowed(place), f"the agent's canary at {place} would still be blocked"
        assert not allowed(place, "S-1-5-21-9-9-9-9"), "only the group may"
    for path in UNRELATED:
        assert not allowed(path), f"{path} has nothing to do with {pattern.id}"
    for rule in export.rules:
        for example in rule.reach.examples:
            decision = compiled.decide(File(path=example), token(developers), rule.collection)
            assert decision.verdict is Verdict.ALLOWED, f"the page says that {example} is admitted"


@pytest.mark.parametrize("pattern", OPENABLE, ids=lambda pattern: pattern.id)
def test_forms_that_stay_closed_are_said(developers: str, pattern: Pattern) -> None:
    export = plan_export([f"{pattern.id}=path"], developers, collections=pattern.collections)
    compiled = compile_policy(parse_policy(export.xml))
    for one in export.stays_closed:
        decision = compiled.decide(File(path=one.path), token(developers), one.collection)
        assert decision.verdict is Verdict.DENIED_BY_DEFAULT
    assert bool(export.stays_closed) == any("stay closed" in note for note in export.notes)


def test_the_usual_python_of_an_environment_does_not_stay_closed(developers: str) -> None:
    export = plan_export(["venv-python", "cache-builds-venv-python", "managed-python-exe"], developers)
    names = {one.path.rpartition("\\")[2] for one in export.stays_closed}
    assert "python.exe" not in names
    assert "pypy.exe" in names


def test_a_deny_rule_of_the_base_is_said(developers: str, base_policy: str) -> None:
    denied = base_policy.replace(
        '<RuleCollection Type="Exe" EnforcementMode="Enabled">',
        """<RuleCollection Type="Exe" EnforcementMode="Enabled">
    <FilePathRule Id="00000000-0000-4000-8000-000000000001" Name="No Python in profiles" Description=""
                  UserOrGroupSid="S-1-1-0" Action="Deny">
      <Conditions><FilePathCondition Path="%OSDRIVE%\\Users\\*\\python.exe" /></Conditions>
    </FilePathRule>""",
    )
    export = plan_export(["cache-builds-venv-python"], developers, base=denied)
    assert any("'No Python in profiles' still blocks cache-builds-venv-python" in note for note in export.notes)
    quiet = plan_export(["cache-builds-venv-python"], developers, base=base_policy)
    assert not any("still blocks" in note for note in quiet.notes)


def test_a_moved_folder_is_opened_where_it_is_now(developers: str) -> None:
    export = plan_export(["managed-python-exe"], developers, roots={"python": r"D:\uv\python"})
    compiled = compile_policy(parse_policy(export.xml))
    now = File(path=r"D:\uv\python\cpython-3.13.2-windows-x86_64-none\python.exe")
    before = File(path=r"C:\Users\ada\AppData\Roaming\uv\python\cpython-3.13.2-windows-x86_64-none\python.exe")
    assert compiled.decide(now, token(developers)).verdict is Verdict.ALLOWED
    assert compiled.decide(before, token(developers)).verdict is Verdict.DENIED_BY_DEFAULT


def test_a_hash_rule_opens_this_file_anywhere_and_no_other(developers: str, trust: Trust) -> None:
    python = trust(1, "python.exe")
    export = plan_export([PatternChoice(pattern="managed-python-exe", kind="hash")], developers, baseline=[python])
    compiled = compile_policy(parse_policy(export.xml))
    same = File(path=r"C:\anywhere\else.exe", authenticode_sha256=python.rule_sha256)
    other = File(path=r"C:\anywhere\python.exe", authenticode_sha256="0" * 64)
    assert compiled.decide(same, token(developers)).verdict is Verdict.ALLOWED
    assert compiled.decide(other, token(developers)).verdict is Verdict.DENIED_BY_DEFAULT


def test_a_publisher_rule_opens_what_is_signed_and_nothing_else(developers: str) -> None:
    export = plan_export(["uv-exe-standalone"], developers)
    compiled = compile_policy(parse_policy(export.xml))
    signed = File(
        path=r"C:\Users\a\Downloads\uv.exe", publisher='O="OPENAI OPCO, LLC", L=SAN FRANCISCO, S=CALIFORNIA, C=US'
    )
    assert compiled.decide(signed, token(developers)).verdict is Verdict.ALLOWED
    for publisher in (None, "O=SOMEBODY ELSE, C=US"):
        file = File(path=r"C:\Users\ada\.local\bin\uv.exe", publisher=publisher)
        assert compiled.decide(file, token(developers)).verdict is Verdict.DENIED_BY_DEFAULT


def test_every_path_rule_stands_alone(developers: str) -> None:
    """Leaving out one rule closes exactly its own pattern, unless a wider rule of another pattern opens it too."""
    machine: Machine = typical_machine((r"C:\projects",), {})
    ids = ["cache-builds-venv-python", "managed-python-exe", "venv-python", "tool-env-python"]
    for missing in ids:
        export = plan_export(
            [f"{one}=path" for one in ids if one != missing], developers, project_roots=[r"C:\projects"]
        )
        compiled = compile_policy(parse_policy(export.xml))
        paths = {rule.rule.condition.path for rule in export.rules if isinstance(rule.rule.condition, PathCondition)}
        assert paths
        for place in canary_paths(CATALOGUE.pattern(missing), machine, "a1B2c3D4e5F6g"):
            assert compiled.decide(File(path=place), token(developers)).verdict is Verdict.DENIED_BY_DEFAULT


def test_what_nobody_asked_for_is_listed(developers: str, base_policy: str) -> None:
    wide = plan_export(["tool-bin-exe=path"], developers)
    assert {"python-bin-shim", "uv-exe-standalone"} <= {one.pattern for one in wide.also_opens}
    assert any("nobody asked for" in note for note in wide.notes)
    compiled = compile_policy(parse_policy(wide.xml))
    for one in wide.also_opens:
        assert compiled.decide(File(path=one.path), token(developers)).verdict is Verdict.ALLOWED
    asked = plan_export(["tool-bin-exe=path", "python-bin-shim=path", "uv-exe-standalone=path"], developers)
    assert not {"python-bin-shim", "uv-exe-standalone"} & {one.pattern for one in asked.also_opens}
    narrow = plan_export(["cache-builds-venv-python", "managed-python-exe"], developers)
    assert narrow.also_opens == ()
    # What the base opens already is not the new rules' doing.
    again = plan_export(
        ["tool-bin-exe=path"], developers, base=plan_export(["tool-bin-exe=path"], developers, base=base_policy).xml
    )
    assert again.also_opens == ()
