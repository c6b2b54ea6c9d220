"""The scripts of a package: they refuse machines and targets without the base, and a publisher can sign them.

No PowerShell with the AppLocker module runs here: what the scripts decide is worked out again step by step, from the
values that stand in their own text.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from app.applocker.model import Policy
from app.applocker.read import parse_policy
from app.policies.bundle import Bundle, Delivery, build_bundle
from app.policies.export import Export, plan_export
from tests.app.policies.powershell_source import errors_in, functions_of
from tests.windows.signing import make_signer

PROGRAM_FILES, WINDOWS, SCRIPTS_IN_WINDOWS = (
    "921cc481-6e17-4653-8f75-050b80acca20",
    "a61c8b2c-a319-4cd0-9690-d2177cad7b51",
    "9428c672-5fc3-47f4-808a-a0011f36dd2c",
)


@pytest.fixture
def whole(developers: str, base_policy: str) -> Export:
    return plan_export(["venv-python", "venv-activation-script"], developers, base=base_policy)


@pytest.fixture
def seen(developers: str, base_policy: str) -> Export:
    """Rules for a base that is the sum of several policies."""
    return plan_export(["venv-python"], developers, base=base_policy, added_only=True)


def files_of(bundle: Bundle) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def list_in(script: bytes, name: str) -> list[str]:
    """The values of an array of literals in a script."""
    found = re.search(rf"\${name} = @\((.*?)\)", script.decode(), re.DOTALL)
    assert found is not None, name
    return re.findall(r"'([^']*)'", found[1])


def refusals(script: bytes, in_force: Mapping[str, Iterable[str]]) -> list[str]:
    """Get-Problem of checking.ps1, for each collection: what a machine with these rule ids lacks."""
    problems = []
    ours, base = list_in(script, "RuleIds"), list_in(script, "BaseRules")
    for kind in list_in(script, "Collections"):
        others = [one for one in in_force.get(kind, ()) if one not in ours]
        missing = [one for one in base if one.startswith(f"{kind} ") and one[len(kind) + 1 :] not in others]
        if not others:
            problems.append(f"no other {kind} rules")
        elif missing:
            problems.append(f"{len(missing)} {kind} rules")
    return problems


def ids(policy: Policy) -> dict[str, list[str]]:
    return {one.type: [rule.id.lower() for rule in one.rules] for one in policy.collections}


def test_these_are_the_functions_that_are_worked_out_here(whole: Export) -> None:
    """Who changes one of them changes `refusals`, too, and pins the new text: no PowerShell runs here."""
    found = functions_of(files_of(build_bundle(whole, Delivery.SEPARATE_GPO))["check-machine.ps1"])
    assert found == {"Get-IdOfCollection": "74cb70d7c231469b", "Get-Problem": "cb7d61b7ba007c2f"}


@pytest.mark.parametrize("delivery", [Delivery.SEPARATE_GPO, Delivery.INTUNE])
def test_a_fragments_script_refuses_a_machine_without_its_base(
    whole: Export, base_policy: str, delivery: Delivery
) -> None:
    files = files_of(build_bundle(whole, delivery))
    script = files["check-machine.ps1"]
    base = ids(parse_policy(base_policy))
    assert list_in(script, "Collections") == ["Exe", "Script"]
    assert set(list_in(script, "BaseRules")) == {
        f"Exe {PROGRAM_FILES}",
        f"Exe {WINDOWS}",
        f"Script {SCRIPTS_IN_WINDOWS}",
    }
    assert refusals(script, base) == []
    assert refusals(script, ids(whole.policy)) == []  # it may be there already
    assert refusals(script, {}) == ["no other Exe rules", "no other Script rules"]
    ours = {kind: [rule.id for rule in whole.added if rule.collection == kind] for kind in ("Exe", "Script")}
    assert refusals(script, ours) == ["no other Exe rules", "no other Script rules"]
    assert refusals(script, {**base, "Exe": [WINDOWS]}) == ["1 Exe rules"]
    assert "check-machine.ps1" in files["README.txt"].decode()
    text = script.decode()
    assert text.count("exit 1") == text.count("REFUSED") == 1
    assert text.index("exit 1") < text.index("exit 0")


def test_other_deliveries_need_no_such_script(whole: Export) -> None:
    for delivery in (Delivery.SAME_GPO, Delivery.LOCAL):
        assert "check-machine.ps1" not in files_of(build_bundle(whole, delivery))


def test_without_a_known_base_some_other_rule_must_be_there(developers: str) -> None:
    alone = plan_export(["venv-python"], developers)
    script = files_of(build_bundle(alone, Delivery.SEPARATE_GPO))["check-machine.ps1"]
    assert list_in(script, "BaseRules") == []
    assert refusals(script, {}) == ["no other Exe rules"]
    assert refusals(script, {"Exe": [WINDOWS]}) == []


def test_a_base_that_was_seen_in_force_is_known_by_its_ids(seen: Export, base_policy: str) -> None:
    base = ids(parse_policy(base_policy))
    separate = files_of(build_bundle(seen, Delivery.SEPARATE_GPO, seen_base=base))
    assert refusals(separate["check-machine.ps1"], base) == []
    assert refusals(separate["check-machine.ps1"], {"Exe": [WINDOWS]}) == ["1 Exe rules"]
    assert list_in(separate["apply.ps1"], "SeenIds") == []  # the new object holds nothing yet
    script = files_of(build_bundle(seen, Delivery.SAME_GPO, seen_base=base))["apply.ps1"]
    # The target is one of the objects that were seen: a rule that was not seen makes it another policy.
    assert list_in(script, "SeenIds") == sorted((PROGRAM_FILES, WINDOWS, SCRIPTS_IN_WINDOWS))
    readme = files_of(build_bundle(seen, Delivery.SAME_GPO, seen_base=base))["README.txt"].decode()
    assert "it does not know their content, nor the modes" in readme
    assert "does not know their content" not in separate["README.txt"].decode()
    text = script.decode()
    assert text.index("$SeenIds -notcontains $_") < text.index("ShouldProcess($target")
    assert "$ExpectedStates = @(\r\n\r\n)" in text


@pytest.mark.parametrize("delivery", list(Delivery))
def test_every_script_parses_and_says_that_it_is_unverified(whole: Export, delivery: Delivery) -> None:
    files = files_of(build_bundle(whole, delivery))
    scripts = {name: content for name, content in files.items() if name.endswith(".ps1")}
    assert scripts
    for name, content in scripts.items():
        assert errors_in(content) == [], name
        assert b"@@" not in content, name
        assert content.count(b"\n") == content.count(b"\r\n"), name
        assert b"Not yet verified on a" in content, name
        assert max(map(len, content.decode("ascii").splitlines())) < 300, name


@pytest.mark.parametrize("delivery", [Delivery.SAME_GPO, Delivery.SEPARATE_GPO, Delivery.INTUNE])
def test_a_publisher_can_sign_the_scripts(whole: Export, delivery: Delivery, tmp_path: Path) -> None:
    program = shutil.which("osslsigncode")
    if program is None:
        pytest.skip("needs osslsigncode")
    signer = make_signer(tmp_path)
    for name, content in files_of(build_bundle(whole, delivery)).items():
        if not name.endswith(".ps1"):
            continue
        file = tmp_path / name
        file.write_bytes(content)
        signer.sign(file)
        assert "Signature verification: ok" in signer.verify(file)
        signed = file.read_bytes()
        assert signed.startswith(content)
        assert b"# SIG # Begin signature block" in signed
        assert errors_in(signed) == []
        file.write_bytes(signed.replace(b"exit 1" if b"exit 1" in signed else b"throw", b"return", 1))
        changed = subprocess.run(
            [program, "verify", "-CAfile", str(signer.certificate), "-in", str(file)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert changed.returncode != 0, "a changed script must not verify"
