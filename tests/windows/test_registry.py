"""The policy's registry keys, as a Windows program reads them after `reg import`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.windows.bench.places import PYTHON
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run

pytestmark = pytest.mark.windows

READ = r"""
import json, winreg
root = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Policies\Microsoft\Windows\SrpV2")
found = {}
for number in range(winreg.QueryInfoKey(root)[0]):
    name = winreg.EnumKey(root, number)
    key = winreg.OpenKey(root, name)
    rules = [winreg.EnumKey(key, each) for each in range(winreg.QueryInfoKey(key)[0])]
    values = {rule: winreg.QueryValueEx(winreg.OpenKey(key, rule), "Value")[0] for rule in rules}
    modes = [winreg.EnumValue(key, each)[:2] for each in range(winreg.QueryInfoKey(key)[1])]
    found[name] = [modes, values]
print(json.dumps(found))
"""


def test_the_registry_holds_the_policy_and_nothing_of_the_one_before(clean_bench: None, default_rules: str) -> None:
    enforce(default_rules.replace("921cc481-6e17-4653-8f75-050b80acca20", "921cc481-0000-4653-8f75-050b80acca20"))
    enforce(default_rules)
    finished = run([PYTHON, "-c", READ])
    found = json.loads(finished.output)
    expected = {}
    for collection in ElementTree.fromstring(default_rules).findall("RuleCollection"):
        mode = {"Enabled": [["EnforcementMode", 1]], "NotConfigured": []}[collection.attrib["EnforcementMode"]]
        expected[collection.attrib["Type"]] = [mode, {rule.attrib["Id"] for rule in collection}]
    assert {name: [modes, set(values)] for name, (modes, values) in found.items()} == expected
    rule = ElementTree.fromstring(found["Exe"][1]["a61c8b2c-a319-4cd0-9690-d2177cad7b51"])
    assert rule.tag == "FilePathRule"
    assert rule.find("Conditions/FilePathCondition").attrib == {"Path": "%WINDIR%\\*"}
