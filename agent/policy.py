"""The policies in force, as the registry holds them, and what they let one conclude. Pure; `_windows` reads them.

source: applocker, merge and prerequisites (the registry form): below SrpV2 one key per collection with
`EnforcementMode` (0 audit, 1 enforce, absent = not configured, whose rules are enforced all the same) and one key per
rule whose `Value` is the rule's XML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.canary import CANARY_HASHES
from agent.contract.facts import CollectionInForce, PolicySet, Why

MODES: Mapping[int | None, str] = {None: "NotConfigured", 0: "AuditOnly", 1: "Enabled"}
_UNKNOWN_MODE = -1


def mode_number(word: str) -> int | None:
    """The registry's number of a mode's word; one that is none of them counts as unknown, which is enforced.

    >>> mode_number("AuditOnly"), mode_number("NotConfigured"), mode_number("Audit")
    (0, None, -1)
    """
    return next((number for number, known in MODES.items() if known == word), _UNKNOWN_MODE)


MAX_RULES_BYTES = 600_000
"""A report holds no more than this of rules; it may be a megabyte in all."""

_CANARY_MARKS = (*sorted(CANARY_HASHES), "wayleave-probe", "wayleaveprobe", ".tmpwlv", ".wlv-probe", "\\tmpwlv")
_WORDS = re.compile(r"""\b(Name|Description)\s*=\s*("[^"]*"|'[^']*')""")
_SID_ATTRIBUTE = re.compile(r"UserOrGroupSid\s*=\s*[\"'](S-1-[0-9-]{1,180})[\"']", re.IGNORECASE)
_RULE_ID = re.compile(r"\bId\s*=\s*[\"']([^\"']{1,64})[\"']")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryCollection:
    """One collection's key: its `EnforcementMode` (None if absent) and the XML of its rules."""

    mode: int | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """What was read: `collections` is None if SrpV2 could not be read, `csp` one of none, read, present-unreadable.

    `csp_sets`: where it could be read, device management's policies, each by itself: a file must be allowed by all of
    them and by `collections`. `service_disabled`: the Application Identity service cannot start, so nothing of SrpV2 is
    enforced.
    """

    collections: Mapping[str, RegistryCollection] | None = field(default_factory=dict)
    csp: str = "none"
    srp: bool = False
    service_disabled: bool = False
    csp_sets: tuple[Mapping[str, RegistryCollection], ...] = ()

    @property
    def all_rules(self) -> tuple[str, ...]:
        """Every rule that was read, of whichever policy."""
        sets = (self.collections or {}, *self.csp_sets)
        return tuple(rule for found in sets for collection in found.values() for rule in collection.rules)

    def has_rules(self, collection: str) -> bool:
        """Whether a policy that was read holds rules for a collection that are not only audited."""
        found = (known.get(collection) for known in (self.collections or {}, *self.csp_sets))
        return any(one is not None and bool(one.rules) and one.mode != 0 for one in found)


def rule_ids(policy: PolicyInForce) -> frozenset[str]:
    """The ids of all rules in force that were read, in small letters."""
    return frozenset(found[1].strip("{}").lower() for rule in policy.all_rules if (found := _RULE_ID.search(rule)))


def names_canary(policy: PolicyInForce) -> bool:
    """Whether a rule in force speaks of the canary itself: by one of its hashes, or by a name it is put down under."""
    texts = [rule.lower() for rule in policy.all_rules]
    return any(mark in text for text in texts for mark in _CANARY_MARKS)


def policy_set(policy: PolicyInForce) -> PolicySet:
    """The fact set of the policies in force. Collections without mode and rules are left out: they say nothing.

    Of a policy too large for a report, names and descriptions of rules are left out, which decide nothing; if it is
    too large even so, it counts as one that could not be read.
    """
    collections = None if policy.collections is None else _told(policy.collections)
    csp_sets = tuple(_told(found) for found in policy.csp_sets)
    csp = policy.csp
    if _size(collections or {}, *csp_sets) > MAX_RULES_BYTES:
        collections = None if collections is None else _shortened(collections)
        csp_sets = tuple(_shortened(found) for found in csp_sets)
    if csp_sets and _size(collections or {}, *csp_sets) > MAX_RULES_BYTES:
        csp_sets, csp = (), "present-unreadable"
    if collections is not None and _size(collections) > MAX_RULES_BYTES:
        collections = None
    return PolicySet(
        collections=collections, csp=csp, srp=policy.srp, csp_sets=csp_sets, service_disabled=policy.service_disabled
    )


def _told(collections: Mapping[str, RegistryCollection]) -> dict[str, CollectionInForce]:
    return {
        name: CollectionInForce(
            mode=MODES.get(found.mode, f"Unknown{found.mode}"),
            rules=sorted_rules(tuple(_well_formed(rule) for rule in found.rules)),
        )
        for name, found in collections.items()
        if found.rules or found.mode is not None
    }


def _shortened(collections: Mapping[str, CollectionInForce]) -> dict[str, CollectionInForce]:
    return {
        name: CollectionInForce(mode=found.mode, rules=tuple(_without_words(rule) for rule in found.rules))
        for name, found in collections.items()
    }


def _size(*sets: Mapping[str, CollectionInForce]) -> int:
    return sum(len(rule.encode()) for collections in sets for found in collections.values() for rule in found.rules)


def _without_words(rule: str) -> str:
    return _WORDS.sub(lambda found: f'{found[1]}=""', rule)


def _well_formed(text: str) -> str:
    # The registry holds any 16-bit units; half a surrogate pair is no text, and could not be sent.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def sorted_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    """Rules by their id, so that two machines under one policy tell the same; the registry's order is no order."""

    def key(rule: str) -> tuple[str, str]:
        found = _RULE_ID.search(rule)
        return (found.group(1).lower() if found else "", rule)

    return tuple(sorted(rules, key=key))


def named_sids(policy: PolicyInForce) -> frozenset[str]:
    """The SIDs that rules in force are written for."""
    return frozenset(sid.upper() for rule in policy.all_rules for sid in _SID_ATTRIBUTE.findall(rule))


def explain_allowed(policy: PolicyInForce, collection: str, *, is_administrator: bool) -> Why:
    """Why a start succeeded, as far as the workstation can tell from the policies in force."""
    if policy.collections is None:
        return Why.UNKNOWN
    found = policy.collections.get(collection)
    if policy.csp != "none" and (found is None or not found.rules or found.mode == 0 or policy.service_disabled):
        # It had to be allowed by device management's policy too, which may have had rules and enforced them.
        return Why.UNKNOWN
    if found is None or not found.rules:
        return Why.UNKNOWN if policy.srp else Why.NO_RULES
    if found.mode == 0:
        return Why.AUDIT_MODE
    if policy.service_disabled:
        return Why.NOT_ENFORCED
    return Why.ADMINISTRATOR if is_administrator else Why.RULE
