"""Suggested rules as a policy that can be handed out: alone, to be merged, or added to the policy in force.

AppLocker denies by default as soon as a collection has one rule. So a policy of added rules says, in its own comment,
what it would do on a machine that has nothing else; and rules added to a base policy never start a collection that
the base leaves empty, because everything of that kind runs there already.

source: Microsoft's "Understanding AppLocker rule behavior" and "Working with AppLocker rules"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from app.applocker.model import COLLECTION_TYPES, Collection, Mode, Policy, Rule, in_order
from app.applocker.suggest import Suggestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A base policy with rules added: what came in, and what did not and why."""

    policy: Policy
    added: tuple[Suggestion, ...]
    skipped: tuple[tuple[Suggestion, str], ...]


def added_rules(suggestions: Iterable[Suggestion], comments: Sequence[str] = ()) -> Policy:
    """A policy of these rules alone, its collections NotConfigured, with a comment on what that means.

    The rules ARE enforced where nothing else sets a mode: NotConfigured is not off.
    """
    rules: dict[str, dict[str, Rule]] = {}
    for suggestion in suggestions:
        rules.setdefault(suggestion.collection, {}).setdefault(suggestion.rule.id, suggestion.rule)
    collections = tuple(
        Collection(type=type, mode=Mode.NOT_CONFIGURED, rules=tuple(rules[type].values()))
        for type in COLLECTION_TYPES
        if type in rules
    )
    policy = Policy(collections=collections)
    return in_order(replace(policy, comments=(*comments, *alone_on_a_machine(policy))))


def alone_on_a_machine(policy: Policy) -> tuple[str, ...]:
    """What this policy does on a machine that has no other AppLocker rules, in sentences for people.

    >>> alone_on_a_machine(Policy())
    ('This policy has no rules. On a machine that has no others, everything runs.',)
    """
    started = [collection for collection in policy.collections if collection.rules]
    if not started:
        return ("This policy has no rules. On a machine that has no others, everything runs.",)
    enforced = [collection.type for collection in started if not collection.is_audited]
    audited = [collection.type for collection in started if collection.is_audited]
    sentences = ["These rules are meant to be added to a policy that has rules already (Set-AppLockerPolicy -Merge)."]
    if enforced:
        sentences.append(
            f"On a machine that has no other rules for {_listed(enforced)}, they switch default deny on there: "
            "nothing of that kind runs but what these rules allow, Windows' own files included. "
            "EnforcementMode NotConfigured does not mean off: rules are enforced."
        )
    if audited:
        sentences.append(
            f"For {_listed(audited)} denials are only logged, on a machine where no other policy enforces."
        )
    if "Exe" in enforced and not any(collection.type == "Appx" for collection in started):
        sentences.append("Exe rules without packaged app (Appx) rules also block every packaged app and its installer.")
    return tuple(sentences)


def add(base: Policy, suggestions: Iterable[Suggestion]) -> Addition:
    """The base with these rules, its modes and all else kept. A rule whose id is there already is not repeated."""
    ids = {rule.id for _, rule in base.rules()}
    started = {collection.type for collection in base.collections if collection.rules}
    new: dict[str, list[Rule]] = {}
    added: list[Suggestion] = []
    skipped: list[tuple[Suggestion, str]] = []
    for suggestion in suggestions:
        if suggestion.rule.id in ids:
            skipped.append((suggestion, "the policy has this rule already"))
        elif suggestion.collection not in started:
            why = (
                f"the policy has no {suggestion.collection} rules, so all of them run; a first rule would deny the rest"
            )
            skipped.append((suggestion, why))
        else:
            ids.add(suggestion.rule.id)
            new.setdefault(suggestion.collection, []).append(suggestion.rule)
            added.append(suggestion)
    collections = tuple(
        replace(collection, rules=(*collection.rules, *new.get(collection.type, ()))) for collection in base.collections
    )
    policy = in_order(replace(base, collections=collections))
    return Addition(policy=policy, added=tuple(added), skipped=tuple(skipped))


def added_to(base: Policy, suggestions: Iterable[Suggestion]) -> Policy:
    """The whole policy of `add`, for callers who don't show what was skipped."""
    return add(base, suggestions).policy


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
