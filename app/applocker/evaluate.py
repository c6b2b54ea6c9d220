"""Judges a file for a token under a policy: what the rules say, what then happens, and how sure that is.

The order of judgement:

1. The collection is the one for the file's kind. No collection: nobody asks AppLocker.
2. No rules in it: everything of that kind runs (but enforced Exe rules without Appx rules block packaged apps).
3. A rule matches if its condition matches, none of its exceptions does, and its SID is in the token.
4. Any Deny that matches: denied. Else any Allow that matches: allowed. Else: denied by default.
5. The mode says what becomes of a denial. Only AuditOnly lets the file run; NotConfigured is enforced.

Where the documentation leaves a question open, the best supported answer counts, and the file is judged again under
the other one: if that changes the verdict, the decision carries the doubt.

A policy is compiled once (`compile_policy`); then a decision costs microseconds, whatever the number of rules.

source: Microsoft, Understanding AppLocker rule behavior, Understanding AppLocker allow and deny actions on rules,
Understanding AppLocker rule exceptions, Working with AppLocker rules, Rule collection extensions
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

from app.applocker import doubts, outcomes
from app.applocker.compile import CompiledRule, compile_index
from app.applocker.conditions import Facts
from app.applocker.facts import facts_of, other_facts
from app.applocker.model import (
    COLLECTION_TYPES,
    Collection,
    Decision,
    Doubt,
    File,
    Machine,
    PathCondition,
    Policy,
    Token,
    Verdict,
)

COLLECTION_OF_EXTENSION = {
    **dict.fromkeys(("exe", "com", "scr"), "Exe"),
    **dict.fromkeys(("dll", "ocx", "pyd", "cpl", "drv"), "Dll"),
    **dict.fromkeys(("ps1", "psm1", "bat", "cmd", "vbs", "js"), "Script"),
    **dict.fromkeys(("msi", "msp", "mst"), "Msi"),
    **dict.fromkeys(("appx", "appxbundle", "msix", "msixbundle"), "Appx"),
}
"""Which collection judges a file, by its extension. Exe and Dll really judge every image, whatever it is called."""

_ORDER = attrgetter("order")

APP_PACKAGES = "S-1-15-2-1"
"""ALL APPLICATION PACKAGES: in the token of every app container."""

NOT_CONTROLLED = "none"
"""Given as the collection: no collection judges this file."""


def evaluate(
    policy: Policy, file: File, token: Token, machine: Machine | None = None, collection: str | None = None
) -> Decision:
    """The decision for one file; `compile_policy` is for more than one.

    >>> from app.applocker.model import STANDARD_USER
    >>> evaluate(Policy(), File(path="C:\\\\x.exe"), STANDARD_USER).verdict.value
    'AllowedByDefault'
    """
    return compile_policy(policy, machine).decide(file, token, collection)


def compile_policy(policy: Policy, machine: Machine | None = None) -> CompiledPolicy:
    """The policy ready to judge many files on that machine (default: Windows on drive C:)."""
    return CompiledPolicy(policy, machine or Machine())


def collection_of(path: str) -> str | None:
    """The collection that judges a file by its extension, or None.

    >>> collection_of("C:\\\\x\\\\_ssl.PYD"), collection_of("C:\\\\x\\\\setup.py")
    ('Dll', None)
    """
    return COLLECTION_OF_EXTENSION.get(path[path.rfind(".") + 1 :].lower())


class CompiledCollection:
    """A collection's rules by what they can match, and the decisions that are the same for every file."""

    def __init__(self, collection: Collection, machine: Machine) -> None:
        self.collection = collection
        self.type = collection.type
        self.rules = tuple(CompiledRule(rule, machine) for rule in collection.rules)
        self.index = compile_index(self.rules, machine)
        self.knows_identity = all(isinstance(rule.rule.condition, PathCondition) for rule in self.rules)
        self.denied_by_default = outcomes.decided(collection, Verdict.DENIED_BY_DEFAULT, ())
        self.denied_unknown = outcomes.decided(collection, Verdict.DENIED_BY_DEFAULT, (), knows_identity=False)
        for order, rule in enumerate(sorted(self.rules, key=_place)):
            rule.order = order
            rule.decision = outcomes.decided(collection, _verdict_of(rule), (rule.rule,))

    def matching(self, facts: Facts) -> tuple[list[CompiledRule], list[CompiledRule]]:
        """The rules whose condition and exceptions match, and those candidates that have other readings."""
        matched: list[CompiledRule] = []
        doubtful: list[CompiledRule] = []
        candidates = self.index.candidates(facts)
        for rule in candidates if len(candidates) < 2 else dict.fromkeys(candidates):
            if rule.match(facts):
                matched.append(rule)
            if rule.others:
                doubtful.append(rule)
        return matched, doubtful

    def decision(self, deciders: Sequence[CompiledRule], facts: Facts) -> Decision:
        """The decision of the rules that decide, or the default's."""
        if not deciders:
            unknown = not self.knows_identity and facts.publisher is None and facts.sha256 is None
            return self.denied_unknown if unknown else self.denied_by_default
        if len(deciders) == 1 and deciders[0].decision is not None:
            return deciders[0].decision
        rules = [rule.rule for rule in sorted(deciders, key=_ORDER)]
        return outcomes.decided(self.collection, _verdict_of(deciders[0]), tuple(rules))


class CompiledPolicy:
    """A policy ready to judge. It keeps no memory of files."""

    def __init__(self, policy: Policy, machine: Machine) -> None:
        self.policy = policy
        self.machine = machine
        self.collections = {
            type: CompiledCollection(policy.collection(type) or Collection(type=type), machine)
            for type in COLLECTION_TYPES
        }

    def decide(self, file: File, token: Token, collection: str | None = None) -> Decision:
        """The decision for a file. `collection` None: by the file's extension.

        raises: ValueError for an unknown collection.
        """
        if collection is None:
            collection = collection_of(file.resolves_to or file.path)
            if collection is None:
                return outcomes.no_collection(file.path)
        judge = self.collections.get(collection)
        if judge is None:
            if collection == NOT_CONTROLLED:
                return outcomes.not_controlled()
            raise ValueError(f"there is no collection {collection!r}; there are {', '.join(COLLECTION_TYPES)}")
        if not judge.rules:
            return outcomes.without_rules(judge.collection, self.policy)
        outside = outcomes.out_of_scope(judge.collection, token)
        if outside is not None:
            return outside
        facts = facts_of(file, collection, self.machine)
        matched, doubtful = judge.matching(facts)
        linked = token.linked
        # Unelevated administrators: programs are judged by the linked full token, everything else is not.
        enabled = token.sids | linked if linked and collection == "Exe" else token.sids
        deciders = _deciders(matched, enabled, token.deny_only)
        if not deciders and APP_PACKAGES in token.sids and collection in ("Exe", "Dll"):
            return outcomes.of_app_container(judge.collection)
        decision = judge.decision(deciders, facts)
        if collection == "Appx":
            decision = outcomes.of_installer(decision, facts.path)
        if doubtful or linked or token.deny_only or facts.is_odd:
            found = _doubts(judge, file, facts, token, matched, doubtful)
            if found:
                return replace(decision, doubts=(*decision.doubts, *found))
        return decision

    def sids_that_matter(self, file: File, collection: str) -> set[str]:
        """The SIDs of all rules that match a file: of what a token holds, only these can change its decision."""
        judge = self.collections[collection]
        if not judge.rules:
            return set()
        matched, _ = judge.matching(facts_of(file, collection, self.machine))
        return {rule.sid for rule in matched}

    def decide_each(self, file: File, tokens: Sequence[Token], collection: str) -> list[Decision]:
        """The decision for one file and several tokens; what the rules match is found out once.

        Says the same as `decide`, without doubts: for simulations, which ask a million times.
        """
        judge = self.collections[collection]
        if not judge.rules:
            return [outcomes.without_rules(judge.collection, self.policy)] * len(tokens)
        facts = facts_of(file, collection, self.machine)
        matched, _ = judge.matching(facts)
        found = []
        for token in tokens:
            outside = outcomes.out_of_scope(judge.collection, token)
            if outside is not None:
                found.append(outside)
                continue
            enabled = token.sids | token.linked if token.linked and collection == "Exe" else token.sids
            deciders = _deciders(matched, enabled, token.deny_only)
            found.append(judge.decision(deciders, facts))
        return found


def _place(rule: CompiledRule) -> tuple[tuple[int, int], str]:
    return rule.rule.place or (0, 0), rule.rule.id


def _verdict_of(rule: CompiledRule) -> Verdict:
    return Verdict.DENIED if rule.deny else Verdict.ALLOWED


def _deciders(
    matched: Iterable[CompiledRule], enabled: frozenset[str], deny_only: frozenset[str]
) -> list[CompiledRule]:
    """The rules that decide: every Deny for one of the token's SIDs, deny-only ones too; else every such Allow."""
    denies: list[CompiledRule] = []
    allows: list[CompiledRule] = []
    for rule in matched:
        if rule.deny:
            if rule.sid in enabled or rule.sid in deny_only:
                denies.append(rule)
        elif rule.sid in enabled:
            allows.append(rule)
    return denies or allows


def _verdict(matched: Iterable[CompiledRule], enabled: frozenset[str], deny_only: frozenset[str]) -> Verdict:
    deciders = _deciders(matched, enabled, deny_only)
    return _verdict_of(deciders[0]) if deciders else Verdict.DENIED_BY_DEFAULT


def _doubts(
    judge: CompiledCollection,
    file: File,
    facts: Facts,
    token: Token,
    matched: list[CompiledRule],
    doubtful: list[CompiledRule],
) -> list[Doubt]:
    """The open questions whose other answer would change the verdict. Each is tried alone."""
    is_exe = judge.type == "Exe"
    full = token.sids | token.linked
    enabled = full if is_exe else token.sids
    verdict = _verdict(matched, enabled, token.deny_only)
    found: dict[str, Doubt] = {}

    def ask(doubt: Doubt, other: Verdict) -> None:
        if other is not verdict:
            found.setdefault(doubt.code, doubt)

    # About the rules: one answer goes for all rules at once.
    changed: dict[tuple[str, int], tuple[Doubt, set[CompiledRule]]] = {}
    for rule in doubtful:
        matches = rule in matched
        answers: dict[str, int] = {}
        for doubt, reading in rule.others:
            answer = answers[doubt.code] = answers.get(doubt.code, 0) + 1
            if reading(facts) != matches:
                changed.setdefault((doubt.code, answer), (doubt, set()))[1].add(rule)
    for doubt, rules in changed.values():
        others = [rule for rule in matched if rule not in rules] + [rule for rule in rules if rule not in matched]
        ask(doubt, _verdict(others, enabled, token.deny_only))
    # About the token.
    if token.linked:
        ask(doubts.LINKED_TOKEN, _verdict(matched, token.sids if is_exe else full, token.deny_only))
    if token.deny_only:
        ask(doubts.DENY_ONLY, _verdict(matched, enabled, frozenset()))
        ask(doubts.DENY_ONLY, _verdict(matched, enabled | token.deny_only, token.deny_only))
    # About the file.
    for doubt, other_values in other_facts(file, facts, judge.type) if facts.is_odd else ():
        others, _ = judge.matching(other_values)
        if doubt is doubts.LINK_TARGET and any(rule not in matched for rule in others):
            doubt = doubts.LINK_PATH
        ask(doubt, _verdict(others, enabled, token.deny_only))
    return list(found.values())
