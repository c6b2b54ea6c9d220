"""What is wrong or risky about publishers, hashes, SIDs, and rules beside each other.

source: Microsoft, Understanding the publisher/file hash rule condition in AppLocker
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.applocker.compile import CompiledRule, compile_index
from app.applocker.coverage import covers, stand_in
from app.applocker.evaluate import collection_of
from app.applocker.findings import Finding, Severity, finding
from app.applocker.identify import rule_id
from app.applocker.lint_paths import is_for_users
from app.applocker.model import (
    SERVICE_SIDS,
    Action,
    Collection,
    HashCondition,
    Machine,
    PublisherCondition,
    Rule,
)
from app.applocker.paths import upcase

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

_DAMAGED = re.compile("\ufffd|[ÂÃ][\x80-\xbf]|â„¢")
_EMPTY_FILE = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"


def publisher_findings(collection: str, rule: Rule) -> Iterator[Finding]:
    """Everything about the publishers of a rule and of its exceptions."""
    if isinstance(rule.condition, PublisherCondition):
        yield from _texts(collection, rule, rule.condition)
        yield from _reach(collection, rule, rule.condition)
    for exception in rule.exceptions:
        if isinstance(exception, PublisherCondition):
            yield from _texts(collection, rule, exception)


def hash_findings(collection: str, rule: Rule) -> Iterator[Finding]:
    """Everything about the hashes of a rule and of its exceptions."""
    for condition in (rule.condition, *rule.exceptions):
        if isinstance(condition, HashCondition):
            yield from _hashes(collection, rule, condition)


def sid_findings(collection: Collection, rule: Rule, known_sids: frozenset[str] | None) -> Iterator[Finding]:
    """Everything about a rule's SID. `known_sids` None: nobody said which SIDs there are."""
    if rule.sid == "S-1-0-0":
        message = "The rule is for Nobody (S-1-0-0), a SID that no token has."
        yield finding("sid-nobody", _ERROR, collection.type, rule, message, "Choose a user or group.")
    elif rule.sid in SERVICE_SIDS and collection.services == "NotConfigured":
        message = f"The rule is for services ({rule.sid}), which this collection doesn't judge: it has no effect."
        remedy = "Remove it, or extend the collection to services (Exe and Dll only)."
        yield finding("sid-out-of-scope", _INFO, collection.type, rule, message, remedy)
    elif known_sids is not None and rule.sid not in known_sids:
        message = f"No known user or group has the SID {rule.sid}."
        remedy = "Remove the rule, or choose a group that exists; a deleted group's SID never comes back."
        yield finding("sid-unused", _WARNING, collection.type, rule, message, remedy)


def overlap_findings(collection: Collection, machine: Machine) -> Iterator[Finding]:
    """Rules that do what another does already, and Allow rules that a Deny rule takes back whole."""
    compiled = [CompiledRule(rule, machine) for rule in collection.rules]
    index = compile_index(compiled, machine)
    contents: dict[str, Rule] = {}
    for one in compiled:
        rule = one.rule
        content = rule_id(collection.type, rule.action, rule.sid, [rule.condition], rule.exceptions)
        twin = contents.setdefault(content, rule)
        if twin is not rule:
            message = f'The rule does the same as "{twin.name}" ({twin.id}).'
            yield finding("rule-duplicate", _WARNING, collection.type, rule, message, "Remove one of them.")
            continue
        covering = [
            other
            for other in dict.fromkeys(index.candidates(stand_in(rule.condition, machine)))
            if other is not one and covers(other.rule, rule, machine)
        ]
        if rule.action is Action.ALLOW and (deny := next((other for other in covering if other.deny), None)):
            message = f'The Deny rule "{deny.rule.name}" ({deny.rule.id}) covers all that this rule allows.'
            remedy = "Remove the rule, or make an exception in the Deny rule."
            yield finding("rule-denied", _WARNING, collection.type, rule, message, remedy)
        elif same := next((other for other in covering if other.deny == one.deny), None):
            word = "denies" if one.deny else "allows"
            message = f'"{same.rule.name}" ({same.rule.id}) {word} all that this rule {word}.'
            remedy = "Remove this rule, or the wider one if it was not meant to be so wide."
            yield finding("rule-shadowed", _INFO, collection.type, rule, message, remedy)


# Publishers


def _texts(collection: str, rule: Rule, condition: PublisherCondition) -> Iterator[Finding]:
    for text in (condition.publisher, condition.product, condition.binary):
        if _DAMAGED.search(text):
            message = f"{text!r} holds a damaged character (a ® or ™ read in the wrong encoding): it never matches."
            remedy = "Take the text anew from the signed file and save the policy as UTF-8."
            yield finding("publisher-damaged", _ERROR, collection, rule, message, remedy)
        elif re.search(r"\((?:R|C|TM)\)", text, re.IGNORECASE):
            message = (
                f"{text!r} has (R), (C) or (TM) in brackets; most files have the sign itself, which is not the same."
            )
            remedy = "Compare it with the signed file's own text."
            yield finding("publisher-sign-in-brackets", _WARNING, collection, rule, message, remedy)
        if len(text) > 1 and re.search(r"[*?]", text):
            message = f"{text!r} mixes a wildcard with text: documentation and kernel disagree on what that matches."
            remedy = "Write the whole text, or * alone."
            yield finding("publisher-partial-wildcard", _ERROR, collection, rule, message, remedy)
    if condition.publisher != "*" and "=" not in condition.publisher:
        message = f"{condition.publisher!r} is no certificate subject (O=…, L=…, S=…, C=…): it never matches."
        remedy = "Take the publisher from the signed file."
        yield finding("publisher-no-subject", _ERROR, collection, rule, message, remedy)
    elif condition.publisher == "?" or condition.product == "?":
        message = "? alone is no wildcard for publisher and product."
        yield finding("publisher-question-mark", _ERROR, collection, rule, message, "Write * for any.")


def _reach(collection: str, rule: Rule, condition: PublisherCondition) -> Iterator[Finding]:
    if rule.action is not Action.ALLOW or not is_for_users(rule):
        return
    if condition.publisher == "*" and collection in ("Exe", "Dll", "Script"):
        message = "The rule allows everything that anybody has signed with a trusted certificate."
        yield finding("publisher-any", _WARNING, collection, rule, message, "Name the publishers you trust.")
    elif condition.publisher != "*" and condition.product == "*" and not rule.exceptions:
        microsoft = upcase(condition.publisher).startswith("O=MICROSOFT CORPORATION,")
        message = "The rule allows everything this publisher has signed or will sign" + (
            ", with every interpreter and compiler of Windows." if microsoft else "."
        )
        remedy = "Name the product, or except what may not run."
        severity = _WARNING if microsoft else _INFO
        yield finding("publisher-all-products", severity, collection, rule, message, remedy)


# Hashes


def _hashes(collection: str, rule: Rule, condition: HashCondition) -> Iterator[Finding]:
    for file in condition.hashes:
        name = file.source_name or f"{file.data[:12]}…"
        if file.type != "SHA256":
            message = f"{name}: nothing is known of AppLocker honouring hashes of the type {file.type}."
            remedy = "Use the type SHA256 (Authenticode for programs and libraries, the whole file for scripts)."
            yield finding("hash-type", _WARNING, collection, rule, message, remedy)
        if file.data == _EMPTY_FILE or file.source_length == 0:
            message = f"{name} is an empty file, which has no hash that AppLocker would match."
            yield finding("hash-of-empty-file", _ERROR, collection, rule, message, "Remove it.")
        belongs = collection_of(file.source_name) if file.source_name else None
        images = ("Exe", "Dll")
        if belongs and belongs != collection and not (belongs in images and collection in images):
            message = (
                f"{name} is judged by {belongs} rules; in {collection} its hash is of the wrong kind or never asked."
            )
            yield finding("hash-wrong-collection", _WARNING, collection, rule, message, f"Move it to {belongs}.")
