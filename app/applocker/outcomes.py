"""What a verdict means: whether the file runs, what Windows logs, and the reason in one sentence.

source: Microsoft, Working with AppLocker rules (modes, packaged apps), Using Event Viewer with AppLocker (event ids),
Rule collection extensions (services)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from app.applocker import doubts
from app.applocker.model import (
    Collection,
    Decision,
    Doubt,
    Effect,
    Mode,
    Policy,
    Rule,
    Token,
    Verdict,
)

_EVENTS = {
    "Exe": (8002, 8003, 8004),
    "Dll": (8002, 8003, 8004),
    "Script": (8005, 8006, 8007),
    "Msi": (8005, 8006, 8007),
    "Appx": (8020, 8021, 8022),
}
"""Allowed, would be blocked, blocked."""

_INSTALLER_EVENTS = {8020: 8023, 8021: 8024, 8022: 8025}
_NO_APPX_RULES_EVENT = 8027
_INSTALLER = re.compile(r"\.(?:APPX|MSIX)(?:BUNDLE)?")

_NEVER_ASK = frozenset({"py", "pyw", "pyc", "pl", "pm", "rb", "jar", "sh", "lua"})
"""Extensions of interpreters that never ask AppLocker."""


def decided(
    collection: Collection, verdict: Verdict, rules: Sequence[Rule], *, knows_identity: bool = True
) -> Decision:
    """The decision of a collection that has rules."""
    is_denied = verdict in (Verdict.DENIED, Verdict.DENIED_BY_DEFAULT)
    effect = Effect.RUNS if not is_denied else Effect.WOULD_BE_BLOCKED if collection.is_audited else Effect.BLOCKED
    if collection.type == "ManagedInstaller":
        effect = Effect.RUNS
    if rules:
        word = "Denied" if is_denied else "Allowed"
        more = f" and {len(rules) - 1} more" if len(rules) > 1 else ""
        reason = f'{word} by the {rules[0].kind} rule "{rules[0].name}"{more}'
    else:
        reason = f"No {collection.type} rule allows it, and a collection with rules denies everything else"
        if not knows_identity:
            reason += " (neither signer nor hash of the file is known, so publisher and hash rules can't match)"
    if is_denied:
        reason += _consequence(collection)
    found = (doubts.MODE_ABSENT,) if is_denied and collection.mode is None else ()
    return _decision(collection, verdict, effect, f"{reason}.", rules=tuple(rules), found=found)


def without_rules(collection: Collection, policy: Policy) -> Decision:
    """The decision of a collection without rules: all runs, but for packaged apps under enforced Exe rules."""
    exe = policy.collection("Exe")
    if collection.type != "Appx" or exe is None or not exe.rules:
        reason = f"The collection {collection.type} has no rules, so nothing of its kind is controlled."
        return _decision(collection, Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, reason, event=False)
    if exe.is_audited:
        reason = "There are no packaged app (Appx) rules, and the Exe rules are only audited."
        found: tuple[Doubt, ...] = (doubts.APPX_AUDITED,)
        return _decision(collection, Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, reason, event=False, found=found)
    reason = "Exe rules are enforced and there are no packaged app (Appx) rules, which blocks every packaged app."
    effect = Effect.WOULD_BE_BLOCKED if collection.is_audited else Effect.BLOCKED
    found = (doubts.APPX_AUDITED,) if collection.is_audited else ()
    if exe.mode is None:
        found = (*found, doubts.MODE_ABSENT)
    decision = _decision(collection, Verdict.DENIED_BY_DEFAULT, effect, reason, found=found)
    return replace(decision, event_id=_NO_APPX_RULES_EVENT)


def out_of_scope(collection: Collection, token: Token) -> Decision | None:
    """The decision for a token that the collection doesn't judge, or None if it does."""
    is_program = collection.type in ("Exe", "Dll")
    if token.is_service:
        if is_program and collection.extensions is not None and collection.services != "NotConfigured":
            return None
        reason = "Services and SYSTEM are out of AppLocker's scope unless the collection extends it to them."
        found: tuple[Doubt, ...] = () if is_program else (doubts.SERVICE_SCRIPTS,)
        return _decision(collection, Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, reason, event=False, found=found)
    if is_program and collection.extensions is not None and collection.services == "ServicesOnly":
        reason = "The collection is for services only, and this is a user's token."
        found = (doubts.SERVICES_ONLY,)
        return _decision(collection, Verdict.ALLOWED_BY_DEFAULT, Effect.RUNS, reason, event=False, found=found)
    return None


def not_controlled() -> Decision:
    """The decision for a file that is known to be under no collection."""
    return _uncontrolled("No rule collection controls this file.", ())


def no_collection(path: str) -> Decision:
    """The decision for a file whose extension belongs to no collection."""
    extension = path[path.rfind(".") + 1 :].lower()
    if extension in _NEVER_ASK:
        return _uncontrolled(f"AppLocker doesn't control .{extension} files: their interpreter never asks it.", ())
    reason = (
        "No rule collection controls files of this extension; started as a program it would be judged by Exe rules."
    )
    return _uncontrolled(reason, (doubts.EXTENSION,))


def of_app_container(collection: Collection) -> Decision:
    """The decision for an app container, which Exe and Dll collections allow besides their rules."""
    reason = "Windows allows app containers (ALL APPLICATION PACKAGES) besides the rules, where none denies."
    return _decision(collection, Verdict.ALLOWED, Effect.RUNS, reason, found=(doubts.APP_CONTAINER,))


def of_installer(decision: Decision, path: str) -> Decision:
    """The same decision with the event of an installation, if the file is a packaged app's installer."""
    if decision.event_id not in _INSTALLER_EVENTS or not _INSTALLER.search(path):
        return decision
    return replace(decision, event_id=_INSTALLER_EVENTS[decision.event_id])


def _consequence(collection: Collection) -> str:
    if collection.type == "ManagedInstaller":
        return "; managed installers are App Control's business, and the file runs"
    match collection.mode:
        case Mode.AUDIT_ONLY:
            return "; the collection is only audited, so it runs and the denial is logged"
        case Mode.ENABLED:
            found = ""
        case _:
            found = "; the mode is not configured, and rules are enforced all the same"
    return (
        f"{found}; PowerShell runs its scripts in Constrained Language Mode instead"
        if collection.type == "Script"
        else found
    )


def _uncontrolled(reason: str, found: tuple[Doubt, ...]) -> Decision:
    return Decision(
        verdict=Verdict.ALLOWED_BY_DEFAULT,
        rules=(),
        collection=None,
        mode=None,
        effect=Effect.RUNS,
        event_id=None,
        reason=reason,
        doubts=found,
    )


def _decision(
    collection: Collection,
    verdict: Verdict,
    effect: Effect,
    reason: str,
    *,
    rules: tuple[Rule, ...] = (),
    event: bool = True,
    found: tuple[Doubt, ...] = (),
) -> Decision:
    allowed, audited, blocked = _EVENTS.get(collection.type, (None, None, None))
    ids = {Effect.RUNS: allowed, Effect.WOULD_BE_BLOCKED: audited, Effect.BLOCKED: blocked}
    return Decision(
        verdict=verdict,
        rules=rules,
        collection=collection.type,
        mode=collection.mode,
        effect=effect,
        event_id=ids[effect] if event else None,
        reason=reason,
        doubts=found,
    )
