"""`wayleave policy`: every sub-command, its JSON and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.applocker.defaults import default_collection
from app.applocker.model import Collection, Mode, PathCondition, PathRule, Policy
from app.applocker.read import parse_policy
from app.applocker.registry import parse_registry_pol
from app.applocker.write import render_policy
from app.cli.main import wayleave

GOLDEN = Path(__file__).with_name("golden")
CASES = Path(__file__).with_name("cases.json")


def run(*arguments: str | Path, input: bytes | None = None) -> Result:
    return CliRunner().invoke(wayleave, ["policy", *map(str, arguments)], input=input)


def written(path: Path, policy: Policy) -> Path:
    path.write_text(render_policy(policy), encoding="utf-8")
    return path


@pytest.fixture
def defaults(tmp_path: Path) -> Path:
    collections = tuple(default_collection(type, Mode.ENABLED) for type in ("Exe", "Appx"))
    return written(tmp_path / "defaults.xml", Policy(collections=collections))


@pytest.fixture
def wider(tmp_path: Path, defaults: Path) -> Path:
    policy = parse_policy(defaults.read_bytes())
    rule = PathRule(
        id="0" * 8 + "-0000-4000-8000-" + "0" * 12,
        name="uv",
        condition=PathCondition(path="%OSDRIVE%\\Users\\*\\uv\\*"),
    )
    exe = Collection(type="Exe", mode=Mode.AUDIT_ONLY, rules=(*default_collection("Exe", Mode.ENABLED).rules, rule))
    return written(tmp_path / "wider.xml", Policy(collections=(exe, policy.collections[0])))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.xml"
    path.write_text('<AppLockerPolicy Version="1">\n<RuleCollection Type="EXE"/>\n<Foo/></AppLockerPolicy>')
    return path


def test_help() -> None:
    result = run("-h")
    assert result.exit_code == 0
    for name in ("show", "lint", "test", "diff", "merge", "convert"):
        assert name in result.output
        # Lines are broken to fit the terminal, wherever that may be.
        assert "Exit codes" in " ".join(run(name, "-h").output.split())


@pytest.mark.parametrize("command", ["show", "lint", "merge", "convert"])
def test_what_is_wrong_with_a_file_is_told_with_its_lines(command: str, broken: Path) -> None:
    result = run(command, broken)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f'{broken}: line 2: the collection type "EXE" must be written "Exe"',
        f"{broken}: line 3: <Foo> doesn't belong in an AppLockerPolicy",
    ]
    result = run(command, broken, "--json")
    assert result.exit_code == 2
    assert [problem["line"] for problem in json.loads(result.stdout)["problems"]] == [2, 3]
    assert run(command, broken.with_name("absent.xml")).exit_code == 2


def test_show(defaults: Path) -> None:
    result = run("show", defaults)
    assert result.exit_code == 0
    assert "Exe (3 rules, enforced)" in result.stdout
    (shown,) = json.loads(run("show", defaults, "--json").stdout)
    assert [(each["type"], len(each["rules"])) for each in shown["collections"]] == [("Appx", 1), ("Exe", 3)]
    assert run("show", "-", input=defaults.read_bytes()).exit_code == 0
    assert "f:New" not in run("show", GOLDEN / "registry.pol").stdout


def test_a_gpo_backup_is_read_by_its_folder(tmp_path: Path) -> None:
    machine = tmp_path / "{1}" / "DomainSysvol" / "GPO" / "Machine"
    machine.mkdir(parents=True)
    assert "no backup of a GPO" in run("show", tmp_path).stderr
    shutil.copy(GOLDEN / "registry.pol", machine / "registry.pol")
    (tmp_path / "{1}" / "Backup.xml").write_text("<GroupPolicyBackupScheme/>")
    result = run("show", tmp_path)
    assert result.exit_code == 0
    assert "Exe (3 rules, enforced)" in result.stdout
    shutil.copytree(tmp_path / "{1}", tmp_path / "{2}")
    assert "holds 2 backups" in run("show", tmp_path).stderr


def judged(*arguments: str | Path) -> dict[str, object]:
    result = run("test", *arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    assert list(found) == ["decision", "rule_id", "collection", "effect", "confidence", "reason"]
    return found


def test_judging_one_file(defaults: Path, wider: Path) -> None:
    found = judged(defaults, "--path", "C:\\Users\\a\\uv.exe")
    assert (found["decision"], found["rule_id"], found["collection"]) == ("DeniedByDefault", None, "Exe")
    assert (found["effect"], found["confidence"]) == ("blocked", "high")
    assert judged(wider, "--path", "C:\\Users\\a\\x.exe")["effect"] == "would be blocked"
    windows = judged(defaults, "--path", "C:\\Windows\\x.exe")
    assert windows["rule_id"] == "a61c8b2c-a319-4cd0-9690-d2177cad7b51"
    assert judged(defaults, "--path", "C:\\x.exe", "--sid", "S-1-5-32-544")["decision"] == "Allowed"
    linked = judged(defaults, "--path", "C:\\x.exe", "--linked-sid", "S-1-5-32-544", "--deny-only-sid", "S-1-5-32-544")
    assert (linked["decision"], linked["confidence"]) == ("Allowed", "medium")
    assert judged(defaults, "--path", "C:\\x.dll")["decision"] == "AllowedByDefault"
    assert judged(defaults, "--path", "C:\\x.dll", "--collection", "exe")["decision"] == "DeniedByDefault"
    assert judged(defaults, "--path", "C:\\x.py")["collection"] is None
    assert judged(defaults, "--path", "C:\\l\\x.exe", "--resolves-to", "C:\\Windows\\x.exe")["decision"] == "Allowed"
    app = (
        "--path",
        "App",
        "--collection",
        "Appx",
        "--publisher",
        "CN=A",
        "--product",
        "A",
        "--binary",
        "APPX",
        "--version",
        "1.0.0.0",
    )
    assert judged(defaults, *app)["decision"] == "Allowed"


def test_judging_by_hash_and_drive(tmp_path: Path) -> None:
    policy = parse_policy((GOLDEN / "policy.xml").read_bytes())
    file = written(tmp_path / "p.xml", policy)
    assert judged(file, "--path", "C:\\x.exe", "--sha256", "ab" * 32)["decision"] == "Allowed"
    assert judged(file, "--path", "C:\\x.exe", "--flat-sha256", "0x" + "AB" * 32)["decision"] == "DeniedByDefault"
    hot = Policy(
        collections=(
            Collection(
                type="Exe",
                rules=(
                    PathRule(
                        id="0" * 8 + "-0000-4000-8000-" + "0" * 12, name="n", condition=PathCondition(path="%HOT%\\*")
                    ),
                ),
            ),
        )
    )
    file = written(tmp_path / "hot.xml", hot)
    assert judged(file, "--path", "E:\\x.exe", "--drive", "hot")["decision"] == "Allowed"


def test_judging_for_people(defaults: Path) -> None:
    result = run("test", defaults, "--path", "C:\\PROGRA~1\\x.exe")
    assert result.exit_code == 0
    assert "DeniedByDefault: blocked (event 8004), low confidence" in result.stdout
    assert "Not settled (file-short-name)" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    ["", "--path=", "--path a --version 1", "--path a --sid Everyone", "--path a --sha256 12",
     "--path a --collection Foo", "--path a --drive soft"],
)  # fmt: skip
def test_invalid_input_ends_with_2(arguments: str, defaults: Path) -> None:
    assert run("test", defaults, *arguments.split()).exit_code == 2


def test_cases(tmp_path: Path) -> None:
    result = run("test", "--cases", CASES)
    assert result.exit_code == 0
    assert " 0 disagree" in result.stdout
    content = json.loads(CASES.read_text())
    changed = next(case for case in content["cases"] if case["confidence"] == "low")
    changed["expected"]["decision"] = "Denied"
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(content))
    assert run("test", "--cases", file).exit_code == 0
    changed["confidence"] = "medium"
    file.write_text(json.dumps(content))
    result = run("test", "--cases", file, "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["disagree"], summary["disagree_at_high_or_medium_confidence"]) == (1, 1)
    file.write_text("[{}]")
    assert run("test", "--cases", file).exit_code == 2


def test_a_judgement_becomes_a_case(defaults: Path, tmp_path: Path) -> None:
    result = run("test", defaults, "--path", "C:\\PROGRA~1\\x.exe", "--as-case")
    file = tmp_path / "case.json"
    file.write_text(result.stdout)
    assert run("test", "--cases", file).exit_code == 0
    assert "file-short-name" in result.stdout


def test_lint(defaults: Path, wider: Path, tmp_path: Path) -> None:
    result = run("lint", wider, "--json")
    assert result.exit_code == 1
    codes = {finding["code"]: finding for finding in json.loads(result.stdout)[0]["findings"]}
    assert codes["path-profile"]["rule_name"] == "uv"
    assert codes["path-profile"]["line"] is not None
    assert "path-profile" in run("lint", wider).stdout
    sound = written(tmp_path / "sound.xml", Policy(collections=(default_collection("Msi", Mode.ENABLED),)))
    assert run("lint", sound).exit_code == 0


def test_diff(defaults: Path, wider: Path) -> None:
    assert run("diff", defaults, defaults).exit_code == 0
    result = run("diff", defaults, wider, "--json")
    assert result.exit_code == 1
    assert {change["kind"] for change in json.loads(result.stdout)["changes"]} == {"mode", "rule-added"}
    three = run("diff", defaults, wider, defaults, "--json")
    assert three.exit_code == 1
    assert len(json.loads(three.stdout)["mine"]) == 2
    assert "mine: mode" in run("diff", defaults, wider, defaults).stdout
    assert run("diff", defaults).exit_code == 2


def test_merge(defaults: Path, wider: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged.xml"
    result = run("merge", defaults, wider, "--out", out)
    assert result.exit_code == 0
    merged = parse_policy(out.read_bytes())
    assert sum(1 for _ in merged.rules()) == 5
    assert merged.collections[1].mode is Mode.ENABLED
    assert "more restrictive" in result.stderr
    gpo = json.loads(run("merge", defaults, wider, "--how", "gpo", "--json").stdout)
    assert parse_policy(gpo["policy_xml"]).collections[1].mode is Mode.AUDIT_ONLY
    intune = run("merge", defaults, wider, "--how", "intune")
    assert sum(1 for _ in parse_policy(intune.stdout).rules()) == 4
    assert run("merge", defaults, "--local", wider).exit_code == 2


def test_convert(defaults: Path, tmp_path: Path) -> None:
    assert run("convert", defaults).stdout == defaults.read_text()
    assert run("convert", defaults, "--to", "oma-uri").exit_code == 2
    bare = run("convert", defaults, "--to", "oma-uri", "--collection", "exe", "--json")
    content = json.loads(bare.stdout)
    assert content["content"].startswith('<RuleCollection Type="Exe"')
    assert content["oma_uri"].endswith("/EXE/Policy")
    pol = tmp_path / "registry.pol"
    assert run("convert", defaults, "--to", "registry-pol", "--out", pol).exit_code == 0
    assert parse_registry_pol(pol.read_bytes()) == parse_policy(defaults.read_bytes())
    supplemental = run("convert", defaults, "--to", "wdac", "--base-policy-id", "a244370e-44c9-4c06-b551-f6016e563076")
    assert supplemental.exit_code == 1
    assert "left out" in supplemental.stderr
    assert run("convert", defaults, "--to", "wdac").exit_code == 2
