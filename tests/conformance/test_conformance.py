"""The conformance kit: its cases are the engine's own, its script parses, and its answers come back as cases."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell
from click.testing import CliRunner

from agent.canary import (
    LIBRARY_SHA256,
    SCRIPT_SHA256,
    WINDOWS_CANARY,
    WINDOWS_LIBRARY,
    WINDOWS_SCRIPT,
    WINDOWS_SHA256,
)
from app.applocker.cases import judge_cases
from app.applocker.doubts import ALL
from app.applocker.model import AppLockerError
from app.cli.policy_judge import judge

KIT = Path(__file__).resolve().parents[2] / "conformance"
CASES: dict[str, Any] = json.loads((KIT / "cases.json").read_text(encoding="utf-8"))
SCRIPT = (KIT / "Test-WayleaveAssumptions.ps1").read_bytes()


def errors_in(script: bytes) -> list[str]:
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    found: list[str] = []

    def visit(node: tree_sitter.Node) -> None:
        if node.type == "ERROR" or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {(node.text or b'')[:80]!r}")
        for child in node.children:
            visit(child)

    visit(parser.parse(script).root_node)
    return found


def test_the_cases_are_what_the_engine_says_today() -> None:
    spec = importlib.util.spec_from_file_location("make_cases", KIT / "make_cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (KIT / "cases.json").read_text(encoding="utf-8") == module.make_cases(), "python conformance/make_cases.py"


def test_every_case_lies_in_the_kits_folder_and_asks_a_known_question() -> None:
    names = [case["id"] for case in CASES["cases"]]
    assert len(names) == len(set(names)) > 15
    hows = set(re.findall(r"\$how -eq '(\w+)'", SCRIPT.decode())) | {"plain"}
    for case in CASES["cases"]:
        assert case["file"]["path"].startswith(CASES["root"] + "\\")
        assert case["make"]["how"] in hows
        assert {doubt["code"] for doubt in case["doubts"]} <= set(ALL)
    asked = {doubt["code"] for case in CASES["cases"] for doubt in case["doubts"]}
    assert {"rule-question-mark", "rule-folder-without-star", "file-link-target", "rule-flat-hash"} <= asked
    assert "token-linked" in asked
    assert {case["make"]["how"] for case in CASES["cases"]} >= hows - {"plain"}, "every way of asking is used"
    assert {case["collection"] for case in CASES["cases"]} == {"Exe", "Dll", "Script"}


def test_the_kits_library_and_script_are_the_published_ones() -> None:
    for name, content, digest in (
        ("library", WINDOWS_LIBRARY, LIBRARY_SHA256),
        ("script", WINDOWS_SCRIPT, SCRIPT_SHA256),
    ):
        assert base64.b64decode(CASES[name]["base64"]) == content
        assert CASES[name]["sha256"] == digest == hashlib.sha256(content).hexdigest()


def test_policies_beside_each_other_are_anded() -> None:
    (case,) = [case for case in CASES["cases"] if case["id"] == "device-management-and-group-policy"]
    (both,) = judge_cases(json.dumps([case]))
    assert both.decision.verdict.value == "DeniedByDefault"
    assert both.differences == ()
    (alone,) = judge_cases(json.dumps([{**case, "also_policies_xml": []}]))
    assert alone.decision.verdict.value == "Allowed"
    for wrong in ("x", [5], ["<a/>"] * 21):
        with pytest.raises(AppLockerError):
            judge_cases(json.dumps([{**case, "also_policies_xml": wrong}]))


def test_the_specimen_is_the_published_canary() -> None:
    content = base64.b64decode(CASES["specimen"]["base64"])
    assert content == WINDOWS_CANARY
    assert CASES["specimen"]["sha256"] == WINDOWS_SHA256 == hashlib.sha256(content).hexdigest()


def test_the_script_parses_and_says_that_it_was_not_run() -> None:
    assert errors_in(b"if ($x {\n}\n"), "the parser must see an error where there is one"
    assert errors_in(SCRIPT) == []
    assert b"NOT YET RUN ON WINDOWS" in SCRIPT
    assert SCRIPT.isascii()  # Windows PowerShell reads a file without a mark in the system's code page


def test_only_a_second_word_lets_it_change_the_policy() -> None:
    text = SCRIPT.decode()
    before, _, _ = text.partition("Set-AppLockerPolicy -XmlPolicy $policyFile")
    assert before.rindex("if ($StartFiles)") > before.rindex("Test-AppLockerPolicy -XmlPolicy")
    before, _, _ = text.partition("Set-DevicePolicy -Collection $case.make.target")
    assert before.rindex("if ($isDevice -and -not ($StartFiles -and $DeviceManagement))") > before.index(
        "foreach ($case"
    )
    assert text.index("if (-not $IUnderstandThisMachineMayNeedToBeReset)") < text.index("$backup = Get-AppLockerPolicy")
    assert text.index("finally") < text.index("Set-AppLockerPolicy -XmlPolicy $restore")


@pytest.mark.parametrize("agrees", [True, False])
def test_answers_are_read_as_cases_by_the_engine(agrees: bool, tmp_path: Path) -> None:
    case = json.loads(json.dumps(CASES["cases"][0]))
    decision = case["expected"]["decision"] if agrees else "DeniedByDefault"
    assumed, case["expected"] = case["expected"], {"decision": decision, "runtime": {"runs": agrees}}
    answer = {**case, "assumed": assumed, "observed": {"error_suspended": 0 if agrees else 1260}, "confidence": "high"}
    text = json.dumps({"about": "x", "windows": {"build": "26100.1"}, "cases": [answer], "problems": []})
    (judged,) = judge_cases(text)
    assert bool(judged.differences) is not agrees
    file = tmp_path / "observed.json"
    file.write_text(text)
    assert CliRunner().invoke(judge, ["--cases", str(file)]).exit_code == (0 if agrees else 1)
