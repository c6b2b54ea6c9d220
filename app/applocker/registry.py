"""AppLocker's part of a `registry.pol` file, in and out.

A policy lies under `Software\\Policies\\Microsoft\\Windows\\SrpV2\\<collection>`: a number for the mode, and one key
per rule, named by the rule's id, whose `Value` is the rule's XML. Everything else in the file is ignored.

source: Microsoft, Registry Policy File Format ([MS-GPREG] 2.2.1); AppLocker's keys as Group Policy writes them
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.applocker.model import (
    COLLECTION_TYPES,
    AppLockerError,
    Collection,
    Element,
    Mode,
    Policy,
    Problem,
    Rule,
    in_order,
)
from app.applocker.read import parse_policy
from app.applocker.read_rules import MAX_PROBLEMS
from app.applocker.write import render_rule
from app.applocker.xmltree import MAX_BYTES

SIGNATURE = b"PReg\x01\x00\x00\x00"
KEY = "Software\\Policies\\Microsoft\\Windows\\SrpV2"
MAX_REGISTRY_BYTES = 2 * MAX_BYTES
"""The same texts in UTF-16."""
MAX_ENTRIES = 100_000
MAX_RULE_BYTES = 4 * 1024 * 1024

T = TypeVar("T")

_SZ, _DWORD = 1, 4
_MODES = {0: Mode.AUDIT_ONLY, 1: Mode.ENABLED}
_SERVICES = ("NotConfigured", "Enabled", "ServicesOnly")
_SYSTEM_APPS = ("NotEnabled", "Enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value of the file: its key, name, registry type and bytes."""

    key: str
    name: str
    type: int
    data: bytes


def parse_registry_pol(data: bytes) -> Policy:
    """The policy in a registry.pol file; empty if the file has nothing of AppLocker's.

    raises: AppLockerError with every problem found.
    """
    found: dict[str, _Found] = {}
    problems: list[Problem] = []
    for number, entry in enumerate(entries(data)):
        if number >= MAX_ENTRIES:
            raise _damaged(f"it holds more than {MAX_ENTRIES} values")
        if len(problems) > MAX_PROBLEMS:
            problems.append(_problem(KEY, f"{MAX_PROBLEMS} problems so far; reading stopped here"))
            break
        type, rule_key = _place(entry.key)
        if type is None:
            continue
        known = next((name for name in COLLECTION_TYPES if name.lower() == type.lower()), None)
        if known is None:
            problems.append(_problem(entry.key, f"there is no rule collection {type!r}"))
            continue
        try:
            found.setdefault(known, _Found()).take(entry, rule_key, known)
        except AppLockerError as error:
            problems += error.problems
    uses = Counter(rule_id for each in found.values() for rule_id in each.rules)
    problems += [_problem(KEY, f"the rule id {rule_id} is used twice") for rule_id, n in sorted(uses.items()) if n > 1]
    if problems:
        raise AppLockerError(tuple(problems))
    return in_order(Policy(collections=tuple(each.collection(type) for type, each in found.items())))


def render_registry_pol(policy: Policy) -> bytes:
    """The policy as a registry.pol file, keys in order. See `left_out` for what this form has no place for.

    raises: AppLockerError for values that XML can't hold.
    """
    parts = [SIGNATURE]
    for collection in in_order(policy).collections:
        key = f"{KEY}\\{collection.type}"
        numbers = {mode: number for number, mode in _MODES.items()}
        if collection.mode in numbers:
            parts.append(_entry(key, "EnforcementMode", _DWORD, struct.pack("<I", numbers[collection.mode])))
        apps = collection.extensions.find("RedstoneExtensions", "SystemApps") if collection.extensions else None
        if apps and (allow := apps.get("Allow")) in _SYSTEM_APPS:
            parts.append(_entry(key, "AllowWindows", _DWORD, struct.pack("<I", _SYSTEM_APPS.index(allow))))
        if collection.services != "NotConfigured":
            number = _SERVICES.index(collection.services)
            parts.append(_entry(key, "ServiceEnforcementMode", _DWORD, struct.pack("<I", number)))
        parts += [
            _entry(f"{key}\\{rule.id}", "Value", _SZ, (render_rule(rule) + "\0").encode("utf-16-le"))
            for rule in sorted(collection.rules, key=lambda rule: rule.id)
        ]
    return b"".join(parts)


def left_out(policy: Policy) -> tuple[str, ...]:
    """What of the policy a registry.pol file can't hold, in sentences."""
    found = ["the comments"] if policy.comments else []
    if policy.extensions:
        found.append("the policy's extensions (PolicyExtensions)")
    known = {"ThresholdExtensions", "Services", "RedstoneExtensions", "SystemApps"}
    found += [
        f"extensions of the collection {collection.type}: {', '.join(sorted(names - known))}"
        for collection in policy.collections
        if collection.extensions and (names := _names(collection.extensions)) - known
    ]
    found += [
        f"the collection {collection.type}, which is empty and not configured"
        for collection in policy.collections
        if not collection.rules and collection.mode not in _MODES.values() and not collection.extensions
    ]
    return tuple(found)


def entries(data: bytes) -> Iterator[Entry]:
    """Every entry of the file. raises: AppLockerError where it is damaged."""
    if len(data) > MAX_REGISTRY_BYTES:
        raise _damaged(f"it is larger than {MAX_REGISTRY_BYTES // 1024 // 1024} MB")
    if not data.startswith(SIGNATURE):
        raise _damaged("it doesn't begin with the signature PReg, version 1")
    place = len(SIGNATURE)
    while place < len(data):
        place = _expect(data, place, "[")
        key, place = _text(data, place)
        place = _expect(data, place, ";")
        name, place = _text(data, place)
        place = _expect(data, place, ";")
        type, place = _number(data, place)
        place = _expect(data, place, ";")
        size, place = _number(data, place)
        place = _expect(data, place, ";")
        if place + size > len(data):
            raise _damaged(f"the value at byte {place} is longer than the file")
        content, place = data[place : place + size], place + size
        place = _expect(data, place, "]")
        yield Entry(key=key, name=name, type=type, data=content)


@dataclass(slots=True)
class _Found:
    """What the keys of one collection say."""

    mode: Mode = Mode.NOT_CONFIGURED
    services: str | None = None
    system_apps: str | None = None
    rules: dict[str, Rule] = field(default_factory=dict)

    def take(self, entry: Entry, rule_key: str | None, type: str) -> None:
        name = entry.name.lower()
        if entry.name.startswith("**"):
            return  # An instruction to delete something before; there is nothing before.
        if rule_key is not None:
            if name == "value":
                rule = _rule(entry, rule_key, type)
                self.rules[rule.id] = rule
        elif name == "enforcementmode":
            self.mode = _choice(entry, _MODES)
        elif name == "allowwindows":
            self.system_apps = _choice(entry, dict(enumerate(_SYSTEM_APPS)))
        elif name == "serviceenforcementmode":
            self.services = _choice(entry, dict(enumerate(_SERVICES)))

    def collection(self, type: str) -> Collection:
        extensions = None
        if self.services or self.system_apps:
            services = Element(name="Services", attributes=(("EnforcementMode", self.services or ""),))
            apps = Element(name="SystemApps", attributes=(("Allow", self.system_apps or ""),))
            threshold = Element(name="ThresholdExtensions", children=(services,) if self.services else ())
            redstone = Element(name="RedstoneExtensions", children=(apps,) if self.system_apps else ())
            extensions = Element(name="RuleCollectionExtensions", children=(threshold, redstone))
        return Collection(type=type, mode=self.mode, rules=tuple(self.rules.values()), extensions=extensions)


def _choice(entry: Entry, choices: dict[int, T]) -> T:
    number = struct.unpack("<I", entry.data)[0] if entry.type == _DWORD and len(entry.data) == 4 else None
    if number not in choices:
        raise AppLockerError((_problem(entry.key, f"{entry.name} must be a number: {', '.join(map(str, choices))}"),))
    return choices[number]


def _rule(entry: Entry, rule_key: str, type: str) -> Rule:
    if entry.type != _SZ:
        raise AppLockerError((_problem(entry.key, "a rule's Value must be a text (REG_SZ)"),))
    if len(entry.data) > MAX_RULE_BYTES:
        message = f"the rule's text is larger than {MAX_RULE_BYTES // 1024 // 1024} MB"
        raise AppLockerError((_problem(entry.key, message),))
    try:
        xml = entry.data.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError as error:
        raise AppLockerError((_problem(entry.key, "the rule's text is not valid UTF-16"),)) from error
    try:
        rules = parse_policy(f'<RuleCollection Type="{type}">{xml}</RuleCollection>').collections[0].rules
    except AppLockerError as error:
        found = (replace(problem, line=None, message=f"{entry.key}: {problem.message}") for problem in error.problems)
        raise AppLockerError(tuple(found)) from None
    if len(rules) != 1:
        raise AppLockerError((_problem(entry.key, f"a rule's Value holds exactly one rule, not {len(rules)}"),))
    if rules[0].id != rule_key.strip("{}").lower():
        raise AppLockerError((_problem(entry.key, f"the rule's Id is {rules[0].id}, which is not its key's name"),))
    return replace(rules[0], place=None)


def _place(key: str) -> tuple[str | None, str | None]:
    """The collection and rule that a key belongs to; None, None if it isn't AppLocker's."""
    if not key.lower().startswith(KEY.lower() + "\\"):
        return None, None
    type, _, rule = key[len(KEY) + 1 :].partition("\\")
    return type, rule or None


def _entry(key: str, name: str, type: int, data: bytes) -> bytes:
    head = f"[{key}\0;{name}\0;".encode("utf-16-le")
    separator = ";".encode("utf-16-le")
    size = struct.pack("<I", len(data))
    return head + struct.pack("<I", type) + separator + size + separator + data + "]".encode("utf-16-le")


def _expect(data: bytes, place: int, sign: str) -> int:
    if data[place : place + 2] != sign.encode("utf-16-le"):
        raise _damaged(f"expected {sign!r} at byte {place}")
    return place + 2


def _text(data: bytes, place: int) -> tuple[str, int]:
    end = place
    while (end := data.find(b"\0\0", end)) >= 0 and (end - place) % 2:
        end += 1
    if end < 0:
        raise _damaged(f"the text at byte {place} never ends")
    try:
        return data[place:end].decode("utf-16-le"), end + 2
    except UnicodeDecodeError as error:
        raise _damaged(f"the text at byte {place} is not UTF-16") from error


def _number(data: bytes, place: int) -> tuple[int, int]:
    if place + 4 > len(data):
        raise _damaged(f"the file ends within a number at byte {place}")
    return int.from_bytes(data[place : place + 4], "little"), place + 4


def _names(element: Element) -> set[str]:
    names = {child.name for child in element.children if isinstance(child, Element)}
    return names.union(*(_names(child) for child in element.children if isinstance(child, Element)))


def _problem(key: str, message: str) -> Problem:
    return Problem(line=None, rule=None, message=f"{key}: {message}")


def _damaged(message: str) -> AppLockerError:
    return AppLockerError((Problem(line=None, rule=None, message=f"the registry.pol file is damaged: {message}"),))
