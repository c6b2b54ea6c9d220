"""Finds what is wrong or risky in a policy that reads without error: each finding says where, why, and how to mend it.

Severity: `error` for rules that can't do what their author meant, `warning` for holes and surprises, `info` for what is
worth knowing. Codes are stable.

source: Microsoft, Working with AppLocker rules, Understanding AppLocker default rules, Rule collection extensions
"""

from __future__ import annotations

from collections.abc import Iterator

from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.findings import Finding, Severity, finding
from app.applocker.lint_paths import path_findings
from app.applocker.lint_rules import hash_findings, overlap_findings, publisher_findings, sid_findings
from app.applocker.model import (
    ADMINISTRATORS,
    STANDARD_USER,
    Action,
    Collection,
    File,
    Machine,
    Mode,
    Policy,
    PublisherRule,
    Token,
    Verdict,
)

_ERROR, _WARNING, _INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
_ORDER = {severity: place for place, severity in enumerate(Severity)}

_ADMINISTRATOR = Token(sids=STANDARD_USER.sids | {ADMINISTRATORS})
_WINDOWS_FILES = {"Exe": "explorer.exe", "Dll": "System32\\kernel32.dll", "Script": "System32\\slmgr.vbs"}


def lint(policy: Policy, machine: Machine | None = None, known_sids: frozenset[str] | None = None) -> list[Finding]:
    """Everything found, errors first. `known_sids` are all SIDs that tokens in the fleet have, if anybody knows.

    >>> from app.applocker.read import parse_policy
    >>> [each.code for each in lint(parse_policy('<RuleCollection Type="Exe" EnforcementMode="Enabled" />'))]
    ['collection-enabled-empty']
    """
    machine = machine or Machine()
    compiled = compile_policy(policy, machine)
    found = [each for collection in policy.collections for each in _collection(collection, compiled)]
    for collection in policy.collections:
        for rule in collection.rules:
            found += path_findings(collection.type, rule, machine)
            found += publisher_findings(collection.type, rule)
            found += hash_findings(collection.type, rule)
            found += sid_findings(collection, rule, known_sids)
        found += overlap_findings(collection, machine)
    return sorted(
        found,
        key=lambda each: (_ORDER[each.severity], each.collection, each.rule.place or (0, 0) if each.rule else (0, 0)),
    )


def _collection(collection: Collection, compiled: CompiledPolicy) -> Iterator[Finding]:
    type = collection.type
    if not collection.rules:
        if collection.mode is Mode.ENABLED:
            message = f"{type} is enforced but has no rules, so nothing of its kind is controlled."
            yield finding("collection-enabled-empty", _WARNING, type, None, message, "Add rules, or say NotConfigured.")
        return
    if collection.mode in (None, Mode.NOT_CONFIGURED):
        message = f"{type} is not configured, which doesn't mean off: its rules are enforced."
        yield finding("collection-not-configured", _WARNING, type, None, message, "Say Enabled or AuditOnly.")
    elif collection.is_audited:
        message = f"{type} is only audited: denials are logged and everything runs."
        yield finding("collection-audit-only", _INFO, type, None, message, "Say Enabled once the log is clean.")
    if type in ("Appx", "ManagedInstaller") and not all(isinstance(rule, PublisherRule) for rule in collection.rules):
        message = f"{type} takes publisher rules only; its other rules match nothing."
        yield finding("collection-publisher-only", _ERROR, type, None, message, "Write them as publisher rules.")
    if collection.extensions is not None and type not in ("Exe", "Dll"):
        message = f"{type} has extensions, which are documented for Exe and Dll alone."
        yield finding("collection-extensions", _WARNING, type, None, message, "Remove them.")
    if all(rule.action is Action.DENY for rule in collection.rules):
        message = f"{type} has Deny rules only, and what no rule allows is denied: it blocks everything."
        yield finding("collection-deny-only", _ERROR, type, None, message, "Add an Allow rule for the rest.")
        return
    yield from _defaults(collection, compiled)
    if type == "Exe" and not collection.is_audited and not compiled.collections["Appx"].rules:
        message = (
            "Exe rules are enforced and there are no Appx rules: that blocks every packaged app and its installer."
        )
        remedy = "Add the default rule for packaged apps (everything signed), or your own."
        yield finding("appx-rules-missing", _WARNING, "Appx", None, message, remedy)


def _defaults(collection: Collection, compiled: CompiledPolicy) -> Iterator[Finding]:
    """Whether what Windows itself needs is allowed, judged with unsigned files in its folders."""
    type, machine = collection.type, compiled.machine

    def denies(path: str, token: Token) -> bool:
        verdict = compiled.decide(File(path=path), token, type).verdict
        return verdict in (Verdict.DENIED, Verdict.DENIED_BY_DEFAULT)

    if type in _WINDOWS_FILES:
        example = f"{machine.windows}\\{_WINDOWS_FILES[type]}"
        if denies(example, STANDARD_USER):
            message = f"{type} rules don't allow {machine.windows}: users can't start what Windows itself is made of."
            remedy = "Add the default rule for %WINDIR%\\* (with exceptions for its writable folders)."
            yield finding("default-rule-windows", _ERROR, type, None, message, remedy, example)
        example = f"{machine.program_files[0]}\\Vendor\\app.{'dll' if type == 'Dll' else 'exe'}"
        if denies(example, STANDARD_USER):
            message = (
                f"{type} rules don't allow all of {machine.program_files[0]}: each program there needs its own rule."
            )
            remedy = "Add the default rule for %PROGRAMFILES%\\*, if only administrators install programs."
            yield finding("default-rule-program-files", _INFO, type, None, message, remedy, example)
    if type in (*_WINDOWS_FILES, "Msi"):
        example = f"{machine.os_drive}\\Install\\setup.{'msi' if type == 'Msi' else 'exe'}"
        if denies(example, _ADMINISTRATOR):
            message = f"{type} rules don't allow administrators everything: they are locked down like users."
            remedy = "Add the default rule for Administrators, unless this is meant."
            yield finding("default-rule-administrators", _INFO, type, None, message, remedy, example)
