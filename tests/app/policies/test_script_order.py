"""The scripts that write: they refuse first, save what is there, write once, and hold the result to what was wanted.

By structure, since no PowerShell runs here: each refusal is an `if` that only throws, on a condition that is named
below, and stands before the only writes. Each of these lines, taken out of the script, is missed.
"""

from __future__ import annotations

import io
import re
import zipfile

import pytest

from app.policies.bundle import Delivery, build_bundle
from app.policies.export import plan_export
from app.policies.target_scripts import removal_script
from tests.app.policies.powershell_source import errors_in, functions_of, steps_of

WRITE = "Set-AppLockerPolicy"
HELD = "(Get-PolicyState -Policy $after) -ne (Get-PolicyState -Policy $wanted)"
BEFORE_APPLY = (
    "$IsSeparate -and $Local",
    "$found -ne $RulesSha256",
    "$changedIds.Count -gt 0",
    "$ExpectedStates.Count -gt 0 -and $ExpectedStates -notcontains $state",
    "$unseen.Count -gt 0",
    "$others.Count -gt 0",
    "(Get-Mode -Collection $collection) -ne 'NotConfigured'",
    "$problems.Count -gt 0",
    "$count -eq 0",
)
BEFORE_ROLLBACK = (
    "$IsSeparate -and $Local",
    "$record.target -ne $target",
    "(Get-PolicyState -Policy $wanted) -ne $record.stateBefore",
    "$state -ne $record.stateAfter",
    "$ExpectedStates.Count -gt 0 -and $ExpectedStates -notcontains $state",
    "$unseen.Count -gt 0",
    "$collection.SelectNodes('*[@Id]').Count -eq 0 -and -not $mayBeEmpty",
)
# What no other test works out again: who changes one of these reads it as a reviewer would, then pins it anew.
PINNED = {
    "Get-LdapPath": "bb416e89c66327ec",
    "Get-TargetName": "92e911616014119d",
    "Read-Policy": "ebb6bb6afecdced5",
    "Get-TargetPolicy": "4c4ef571f9fba7fc",
    "Get-RuleId": "705cf3a3b851e89f",
    "Get-RuleCount": "831b4a398e693ad3",
    "Compare-Mode": "a495a0babacb90c8",
    "Save-Text": "b4ea5b5951eceb37",
    "Save-Backup": "fbf37d94f086aacf",
    "Save-Record": "b71d734b0130644a",
    "Get-Stamp": "6509f2ad4df25a39",
}


@pytest.fixture
def scripts(developers: str, base_policy: str) -> dict[str, bytes]:
    export = plan_export(["venv-python"], developers, base=base_policy)
    with zipfile.ZipFile(io.BytesIO(build_bundle(export, Delivery.SAME_GPO).content)) as archive:
        files = {name: archive.read(name) for name in ("apply.ps1", "rollback.ps1")}
    return {**files, "remove.ps1": removal_script(export.added)}


def complaints(script: bytes, refusals: tuple[str, ...]) -> list[str]:
    """What is wrong with the order of a script that writes."""
    steps = steps_of(script)
    writes = [place for place, step in enumerate(steps) if (step.kind, step.text) == ("command", WRITE)]
    found = []
    if not writes:
        return ["it writes nothing"]
    first, last = writes[0], writes[-1]
    thrown = [step.text for step in steps[:first] if step.kind == "throw"]
    found += [f"does not refuse: {one}" for one in refusals if one not in thrown]
    if thrown != sorted(thrown, key=lambda one: refusals.index(one) if one in refusals else -1):
        found.append("refuses in another order")
    asked = [
        place for place, step in enumerate(steps) if step.kind == "return" and "$PSCmdlet.ShouldProcess(" in step.text
    ]
    saved = [place for place, step in enumerate(steps) if (step.kind, step.text) == ("command", "Save-Backup")]
    recorded = [place for place, step in enumerate(steps) if (step.kind, step.text) == ("command", "Save-Record")]
    held = [place for place, step in enumerate(steps) if (step.kind, step.text) == ("throw", HELD)]
    refused = [place for place, step in enumerate(steps[:first]) if step.kind == "throw"]
    order = [refused[-1] if refused else 0, *asked, *saved, first, last, *recorded, *held]
    if [len(asked), len(saved), len(recorded), len(held)] != [1, 1, 1, 1]:
        found.append("asks, saves, records or holds the result not once")
    elif order != sorted(order):
        found.append("does not ask, save, write, record and hold the result in this order")
    return found


def refusals_of(name: str) -> tuple[str, ...]:
    return BEFORE_APPLY if name == "apply.ps1" else BEFORE_ROLLBACK


@pytest.mark.parametrize("name", ["apply.ps1", "rollback.ps1", "remove.ps1"])
def test_it_refuses_saves_writes_and_holds_the_result(scripts: dict[str, bytes], name: str) -> None:
    assert complaints(scripts[name], refusals_of(name)) == []
    assert errors_in(scripts[name]) == []
    text = scripts[name].decode()
    assert text.count("Save-Backup -Folder $BackupFolder -Stamp $stamp -Policy $before") == 1
    assert text.count("Save-Record -BackupFile $") == 1
    assert text.count("-Before $before -After $after") == (2 if name == "apply.ps1" else 1)  # Compare-Mode, too


@pytest.mark.parametrize("name", ["apply.ps1", "rollback.ps1"])
def test_a_script_without_one_of_these_lines_is_found(scripts: dict[str, bytes], name: str) -> None:
    script = scripts[name].decode().replace("\r\n", "\n")
    body = script.index("if ($IsSeparate -and $Local)")
    for condition in (*refusals_of(name), HELD):
        refusal = rf"^ *if \({re.escape(condition)}\) \{{\n(?:.*\n)*?.*throw .*\n *\}}\n"
        without = re.sub(refusal, "", script, count=1, flags=re.MULTILINE)
        assert without != script, condition
        assert complaints(without.encode(), refusals_of(name)), condition
    for line in ("Save-Backup -Folder", "Save-Record -Backup", "$PSCmdlet.ShouldProcess("):
        assert complaints((script[:body] + script[body:].replace(line, "$x.y(", 1)).encode(), refusals_of(name)), line
    late = script[:body] + "Set-AppLockerPolicy -XmlPolicy $x\n" + script[body:]
    assert complaints(late.encode(), refusals_of(name))


def test_functions_that_are_worked_out_nowhere_are_as_they_were_read(scripts: dict[str, bytes]) -> None:
    found = functions_of(scripts["apply.ps1"])
    assert {name: found[name] for name in PINNED} == PINNED


def test_a_record_names_the_machine_or_the_object_and_both_states(scripts: dict[str, bytes]) -> None:
    text = scripts["rollback.ps1"].decode()
    assert "the local AppLocker policy of $env:COMPUTERNAME" in text
    for line in (
        "        target = Get-TargetName",
        "stateBefore = Get-PolicyState -Policy $Before",
        "stateAfter = Get-PolicyState -Policy $After",
    ):
        assert text.count(line) == 1
    # What was checked is what is written, not the file a second time.
    assert text.count("Save-Text -Path $file -Text $wanted.OuterXml") == 1
    assert "Set-AppLockerPolicy -XmlPolicy $BackupFile" not in text
