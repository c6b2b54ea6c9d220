r"""Turns exported AppLocker XML, and nothing else, into what the bench obeys: the shim's policy and registry keys.

This is a reading of AppLocker XML of its own (the standard library's ElementTree, `applocker.md` in hand): it shares no
code with the product's, so that a mistake there can't hide itself here. Publisher conditions can't be judged on the
bench: they are carried over as conditions that never hold, and counted.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from tests.windows.bench.places import SHIM_POLICY, on_disk
from tests.windows.bench.run import run

ORDINARY_USER_SIDS = frozenset({"S-1-1-0", "S-1-2-0", "S-1-5-4", "S-1-5-11", "S-1-5-32-545"})
"""What the launcher's token holds, its own SIDs aside: Everyone, Local, Interactive, Authenticated Users, Users."""

_SHIM_COLLECTIONS = {"Exe": "exe", "Dll": "dll"}
_REGISTRY_MODES = {"Enabled": 1, "AuditOnly": 0}
_RULES = ("FilePathRule", "FilePublisherRule", "FileHashRule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The shim's policy, and what became of the rules: how many it holds, and how many are for other users."""

    text: str
    rules: int
    for_others: int
    unjudged: int


def translate(xml: str, sids: frozenset[str] = ORDINARY_USER_SIDS) -> Translation:
    """The shim's policy for a user with these SIDs, from the XML of one AppLocker policy.

    raises: ValueError for XML that is not an AppLocker policy, or has characters the shim's form can't hold.
    """
    lines = ["# translated from AppLocker XML"]
    rules = for_others = unjudged = 0
    for collection in _collections(xml):
        word = _SHIM_COLLECTIONS.get(collection.get("Type", ""))
        found = _rules_of(collection)
        if word is None or not found:
            continue  # a collection without rules decides nothing, whatever its mode
        # Rules in a collection that is "not configured" are enforced all the same.
        lines.append(f"{word}\t{'audit' if collection.get('EnforcementMode') == 'AuditOnly' else 'enforced'}")
        for rule in found:
            if rule.attrib["UserOrGroupSid"].upper() not in sids:
                for_others += 1
                continue
            rules += 1
            action = {"Allow": "allow", "Deny": "deny"}[rule.attrib["Action"]]
            conditions = _conditions(rule.find("Conditions"))
            unjudged += sum(kind == "never" for kind, _ in conditions)
            exceptions = _conditions(rule.find("Exceptions"))
            # One hash condition may hold many files: for the shim each is a rule of its own, with the same exceptions.
            for kind, value in conditions:
                lines.append(_line(word, action, kind, value))
                lines += [_line(word, "except", *exception) for exception in exceptions]
    return Translation(text="\n".join(lines) + "\n", rules=rules, for_others=for_others, unjudged=unjudged)


def registry_file(xml: str) -> str:
    r"""A .reg file that puts the policy under SrpV2, where Group Policy would: whatever stood there is removed.

    source: each rule is a value `Value` (its XML) in a key named by its id, below the collection's key.
    """
    root = r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\SrpV2"
    parts = ["REGEDIT4", "", f"[-{root}]", ""]
    for collection in _collections(xml):
        parts.append(f"[{root}\\{collection.attrib['Type']}]")
        mode = _REGISTRY_MODES.get(collection.get("EnforcementMode", ""))
        if mode is not None:
            parts.append(f'"EnforcementMode"=dword:{mode:08x}')
        parts.append("")
        for rule in _rules_of(collection):
            rule.tail = None
            text = ElementTree.tostring(rule, encoding="unicode")
            text = re.sub(r">\s+<", "><", text).replace("\\", "\\\\").replace('"', '\\"')
            parts += [f"[{root}\\{collection.attrib['Type']}\\{rule.attrib['Id'].lower()}]", f'"Value"="{text}"', ""]
    return "\r\n".join(parts) + "\r\n"


def paths_in(xml: str) -> list[str]:
    """Every path that a rule's own condition names, in the order of the file."""
    found = [_conditions(rule.find("Conditions")) for collection in _collections(xml) for rule in _rules_of(collection)]
    return [value for conditions in found for kind, value in conditions if kind == "path"]


def enforce(xml: str) -> Translation:
    """Makes the bench obey a policy from now on: the shim's file and the registry. raises: RuntimeError."""
    translation = translate(xml)
    on_disk(SHIM_POLICY).write_text(translation.text, encoding="utf-8")
    on_disk(r"C:\bench\policy.reg").write_text(registry_file(xml), encoding="utf-8", newline="")
    imported = run(["reg", "import", r"C:\bench\policy.reg"])
    if imported.code:
        raise RuntimeError(f"the registry did not take the policy:\n{imported}")
    return translation


def _collections(xml: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(xml)
    if root.tag != "AppLockerPolicy":
        raise ValueError(f"not an AppLocker policy: the root element is {root.tag}")
    return root.findall("RuleCollection")


def _rules_of(collection: ElementTree.Element) -> list[ElementTree.Element]:
    return [element for element in collection if element.tag in _RULES]


def _conditions(parent: ElementTree.Element | None) -> list[tuple[str, str]]:
    """(kind, value) of each condition, in the shim's words."""
    found: list[tuple[str, str]] = []
    for element in parent if parent is not None else ():
        if element.tag == "FilePathCondition":
            found.append(("path", element.attrib["Path"]))
        elif element.tag == "FileHashCondition":
            hashes = [each for each in element.findall("FileHash") if each.get("Type") == "SHA256"]
            found += [("sha256", each.attrib["Data"].removeprefix("0x").upper()) for each in hashes]
        else:
            found.append(("never", element.get("PublisherName", element.tag)))
    return found


def _line(collection: str, action: str, kind: str, value: str) -> str:
    if re.search(r"[\t\r\n]", value) or not value:
        raise ValueError(f"the shim's policy can't hold this value: {value!r}")
    return f"{collection}\t{action}\t{kind}\t{value}"
