"""What scripts compute of a target, worked out again in Python over the same XML: states, changed rules, the merge.

No PowerShell runs here, so each function is held to the text that was worked out: who changes one changes its other
half below, too, and pins the new text.
"""

from __future__ import annotations

import copy
import hashlib
import io
import re
import zipfile

import pytest
from lxml import etree

from app.applocker.model import PathCondition
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.policies.bundle import Delivery, build_bundle
from app.policies.export import Export, plan_export
from app.policies.target_scripts import policy_state, removal_script, rule_state
from tests.app.policies.powershell_source import functions_of

WORKED_OUT = {
    "Get-RuleLine": "442da3840aceccd0",
    "Get-Digest": "a16d4acc0cc51bc7",
    "Get-PolicyState": "b0224faa32017fba",
    "Get-Mode": "3c089a6381864536",
    "Get-ChangedId": "f8db522115c0f857",
    "Join-Policy": "1503b92019b2c730",
}


@pytest.fixture
def export(developers: str, base_policy: str) -> Export:
    return plan_export(["venv-python", "venv-activation-script"], developers, base=base_policy)


def files_of(export: Export, delivery: Delivery = Delivery.SAME_GPO) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(build_bundle(export, delivery).content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def list_in(script: bytes, name: str) -> list[str]:
    found = re.search(rf"\${name} = @\((.*?)\)", script.decode(), re.DOTALL)
    assert found is not None
    return re.findall(r"'([^']*)'", found[1])


def test_these_are_the_functions_that_are_worked_out_here(export: Export) -> None:
    found = functions_of(files_of(export)["apply.ps1"])
    assert {name: found[name] for name in WORKED_OUT} == WORKED_OUT


def lines_of(rule: etree._Element) -> list[str]:
    """Get-RuleLine."""
    number = rule.get("Id").lower()
    lines = [f"rule|{rule.getparent().get('Type')}|{number}|{rule.get('Action')}|{rule.get('UserOrGroupSid')}"]
    for place in ("Conditions", "Exceptions"):
        for node in rule.xpath(f"{place}/FilePathCondition"):
            lines.append(f"{place}|{number}|path|{node.get('Path')}")
        for node in rule.xpath(f"{place}/FilePublisherCondition"):
            names = "|".join(node.get(name) for name in ("PublisherName", "ProductName", "BinaryName"))
            versions = node.find("BinaryVersionRange")
            low_high = f"{versions.get('LowSection')}|{versions.get('HighSection')}"
            lines.append(f"{place}|{number}|publisher|{names}|{low_high}")
        for node in rule.xpath(f"{place}/FileHashCondition/FileHash"):
            lines.append(f"{place}|{number}|hash|{node.get('Type')}|{node.get('Data').upper()}")
    return lines


def digest(lines: list[str]) -> str:
    """Get-Digest."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def tree_of(xml: str | bytes) -> etree._Element:
    return etree.fromstring(xml.encode() if isinstance(xml, str) else xml)


def state_as_the_script_computes_it(policy: etree._Element) -> str:
    """Get-PolicyState, with Get-Mode."""
    lines = []
    for collection in policy.xpath("/AppLockerPolicy/RuleCollection[*[@Id]]"):
        lines.append(f"collection|{collection.get('Type')}|{collection.get('EnforcementMode') or 'NotConfigured'}")
        for rule in collection.xpath("*[@Id]"):
            lines += lines_of(rule)
    return digest(lines)


def changed_ids(policy: etree._Element, known: list[str]) -> list[str]:
    """Get-ChangedId."""
    ids = {one.split(" ")[0] for one in known}
    rules = [rule for rule in policy.xpath("/AppLockerPolicy/RuleCollection/*[@Id]") if rule.get("Id").lower() in ids]
    return [one.get("Id").lower() for one in rules if f"{one.get('Id').lower()} {digest(lines_of(one))}" not in known]


def joined(before: etree._Element, rules: etree._Element) -> etree._Element:
    """Join-Policy."""
    policy = copy.deepcopy(before)
    ids = {rule.get("Id").lower() for rule in policy.xpath("RuleCollection/*[@Id]")}
    for collection in rules.xpath("RuleCollection[*[@Id]]"):
        places = policy.xpath(f"RuleCollection[@Type='{collection.get('Type')}']")
        place = places[-1] if places else etree.SubElement(policy, "RuleCollection", dict(collection.attrib))
        for rule in collection.xpath("*[@Id]"):
            if rule.get("Id").lower() not in ids:
                place.append(copy.deepcopy(rule))
    return policy


RICH = """<AppLockerPolicy Version="1"><RuleCollection Type="Exe">
  <FilePublisherRule Id="AAAAAAAA-0000-4000-8000-000000000001" Name="n" Description="" UserOrGroupSid="S-1-1-0"
                     Action="Allow">
    <Conditions><FilePublisherCondition PublisherName="O=&quot;A, B&quot;, C=US" ProductName="*" BinaryName="Ä.EXE">
      <BinaryVersionRange LowSection="1.0.0.0" HighSection="*" /></FilePublisherCondition></Conditions>
    <Exceptions><FilePathCondition Path="%WINDIR%\\Temp\\*" /><FileHashCondition>
      <FileHash Type="SHA256" Data="0xabcdef0000000000000000000000000000000000000000000000000000000000"
                SourceFileName="x.exe" SourceFileLength="1" /></FileHashCondition></Exceptions>
  </FilePublisherRule>
  <FileHashRule Id="aaaaaaaa-0000-4000-8000-000000000002" Name="n" Description="d" UserOrGroupSid="S-1-1-0"
                Action="Deny">
    <Conditions><FileHashCondition>
      <FileHash Type="SHA256" Data="0xABCDEF0000000000000000000000000000000000000000000000000000000001"
                SourceFileName="x.exe" SourceFileLength="1" />
      <FileHash Type="SHA256" Data="0xABCDEF0000000000000000000000000000000000000000000000000000000002"
                SourceFileName="y.exe" SourceFileLength="1" /></FileHashCondition></Conditions>
  </FileHashRule>
</RuleCollection><RuleCollection Type="Msi" EnforcementMode="Enabled" /></AppLockerPolicy>"""


def test_the_state_of_a_policy_is_what_it_does(base_policy: str) -> None:
    for xml in (base_policy, RICH):
        policy = parse_policy(xml)
        state = policy_state(policy)
        assert state == state_as_the_script_computes_it(tree_of(xml))
        assert state == policy_state(parse_policy(render_policy(policy)))
        assert state == policy_state(parse_policy(xml.replace(' Name="', ' Name="Renamed ')))
        for kind, rule in policy.rules():
            (node,) = tree_of(xml).xpath(f"RuleCollection/*[@Id='{rule.id}' or @Id='{rule.id.upper()}']")
            assert rule_state(kind, rule) == digest(lines_of(node))
    enabled = parse_policy(base_policy.replace("AuditOnly", "Enabled"))
    other_path = parse_policy(base_policy.replace("%WINDIR%", "%OSDRIVE%"))
    fewer = parse_policy(re.sub(r"<FilePathRule Id=.921.*?</FilePathRule>", "", base_policy, flags=re.DOTALL))
    states = {policy_state(policy) for policy in (parse_policy(base_policy), enabled, other_path, fewer)}
    assert len(states) == 4


def test_after_the_merge_the_target_is_what_it_was_with_these_rules(export: Export, base_policy: str) -> None:
    files = files_of(export)
    base, rules = tree_of(base_policy), tree_of(files["rules.xml"])
    wanted = joined(base, rules)
    assert state_as_the_script_computes_it(wanted) == policy_state(parse_policy(files["whole-policy.xml"]))
    assert state_as_the_script_computes_it(joined(wanted, rules)) == state_as_the_script_computes_it(wanted)
    # Whatever else a merge would do is seen: a mode, another rule's path, a rule that went or came.
    for old, new in (("AuditOnly", "Enabled"), ("%WINDIR%", "%OSDRIVE%"), ('Action="Allow"', 'Action="Deny"')):
        other = etree.tostring(wanted).decode().replace(old, new, 1)
        assert state_as_the_script_computes_it(tree_of(other)) != state_as_the_script_computes_it(wanted), old
    empty = tree_of('<AppLockerPolicy Version="1" />')
    separate = tree_of(files_of(export, Delivery.SEPARATE_GPO)["rules.xml"])
    assert state_as_the_script_computes_it(joined(empty, separate)) == state_as_the_script_computes_it(separate)


def test_a_rule_that_somebody_changed_under_our_id_is_not_there(export: Export) -> None:
    files = files_of(export)
    known = list_in(files["apply.ps1"], "KnownRules")
    assert known == list_in(files["rollback.ps1"], "KnownRules")
    whole = files["whole-policy.xml"].decode()
    assert changed_ids(tree_of(whole), known) == []
    (rule,) = (one for one in export.added if one.kind == "path" and one.collection == "Exe")
    assert isinstance(rule.rule.condition, PathCondition)
    wider = whole.replace(rule.rule.condition.path, "*")
    assert changed_ids(tree_of(wider), known) == [rule.id]
    assert changed_ids(tree_of(wider), list_in(removal_script([rule]), "KnownRules")) == [rule.id]
    # The check stands before the answer that there is nothing to do.
    apply = files["apply.ps1"].decode()
    assert apply.index("if ($changedIds.Count -gt 0)") < apply.index("'Nothing to do")


def test_a_removal_takes_the_target_that_was_reviewed(export: Export, base_policy: str) -> None:
    state = policy_state(parse_policy(base_policy))
    script = removal_script(export.added, states=[state], seen_ids=["b", "a", "b"])
    assert list_in(script, "ExpectedStates") == [state]
    assert list_in(script, "SeenIds") == ["a", "b"]
    assert list_in(script, "RuleIds") == sorted(rule.id for rule in export.added)
    assert b"remove.ps1 -GpoGuid" in script
    assert b"$IsSeparate = 'no' -eq 'yes'" in script
    # A rollback takes the target as it is: others may have added rules since.
    rollback = files_of(export)["rollback.ps1"]
    assert list_in(rollback, "ExpectedStates") == list_in(rollback, "SeenIds") == []


def test_an_object_of_its_own_is_empty_or_ours(export: Export, base_policy: str) -> None:
    files = files_of(export, Delivery.SEPARATE_GPO)
    assert b"$IsSeparate = 'yes' -eq 'yes'" in files["apply.ps1"]
    assert b"$IsSeparate = 'yes' -eq 'yes'" in files["rollback.ps1"]
    # apply.ps1 runs what check-machine.ps1 runs, on the machine where it is.
    assert list_in(files["apply.ps1"], "BaseRules") == list_in(files["check-machine.ps1"], "BaseRules") != []
    checked, told = functions_of(files["check-machine.ps1"]), functions_of(files["apply.ps1"])
    assert checked.items() <= told.items()
    assert list_in(files_of(export)["apply.ps1"], "BaseRules") == []
    # The pilot's rules may be in it already.
    pilot = plan_export(["venv-python"], "S-1-5-21-1-2-3-4", base=base_policy).added
    with zipfile.ZipFile(io.BytesIO(build_bundle(export, Delivery.SEPARATE_GPO, earlier=pilot).content)) as archive:
        known = list_in(archive.read("apply.ps1"), "KnownRules")
    assert f"{pilot[0].id} {rule_state(pilot[0].collection, pilot[0].rule)}" in known
