"""What comes of several policies at once: by Set-AppLockerPolicy -Merge, by Group Policy, by Intune's groupings.

Each says what changed and, in sentences, what the documentation leaves open; nothing is guessed silently.

source: Microsoft, Set-AppLockerPolicy; Understand AppLocker rules and enforcement setting inheritance in Group Policy;
Working with AppLocker rules; for Intune the observations in AaronMargosis/AppLockerPolicyTool
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from app.applocker.compare import Change, compare, content_of, effective_mode
from app.applocker.coverage import covers
from app.applocker.evaluate import CompiledPolicy
from app.applocker.identify import identified
from app.applocker.model import (
    COLLECTION_TYPES,
    Action,
    Collection,
    Confidence,
    Decision,
    Doubt,
    Effect,
    File,
    Machine,
    Mode,
    Policy,
    Rule,
    Token,
    Verdict,
    in_order,
)

GROUPINGS_ANDED = Doubt(
    code="intune-groupings",
    confidence=Confidence.LOW,
    question="Must a file be allowed by each Intune grouping, and by Group Policy too?",
    origin="AaronMargosis/AppLockerPolicyTool, one observer",
)
EMPTY_GROUPING = Doubt(
    code="intune-empty-collection",
    confidence=Confidence.LOW,
    question="Does a grouping's collection that is not configured and has no rules allow nothing?",
    origin="AaronMargosis/AppLockerPolicyTool, one observer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The policy that comes out, how it differs from the first one given, and what is not documented about it."""

    policy: Policy
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def merge_into(target: Policy, added: Policy) -> Merge:
    """As `Set-AppLockerPolicy -Merge` does with `added` on `target`: rules added up, one per id, the target's modes."""
    notes: list[str] = []
    collections: list[Collection] = []
    ids = {rule.id: (type, rule) for type, rule in target.rules()}
    for type in COLLECTION_TYPES:
        before, more = target.collection(type), added.collection(type)
        if more is None:
            collections += [before] if before else []
            continue
        rules = list(before.rules) if before else []
        for rule in more.rules:
            known = ids.get(rule.id)
            if known is None:
                ids[rule.id] = (type, rule)
                rules.append(rule)
            elif content_of(*known) != content_of(type, rule):
                notes.append(
                    f"The id {rule.id} stands for two different rules ({known[1].name!r} and {rule.name!r}); which of "
                    "them survives is not documented. Here it is the target's."
                )
        if before is None:
            collections.append(replace(more, rules=tuple(rules)))
            if rules:
                notes.append(f"{type} had no collection in the target: it takes the mode {effective_mode(more)}.")
            continue
        if effective_mode(before) is not effective_mode(more):
            notes.append(
                f"{type} is {effective_mode(before)} in the target and {effective_mode(more)} in what is added: "
                "Set-AppLockerPolicy's page says the target's mode stays, Working with AppLocker rules says the more "
                "restrictive one. Here the target's stays; check with Get-AppLockerPolicy."
            )
        if more.extensions is not None and more.extensions != before.extensions:
            notes.append(f"What becomes of differing extensions of {type} is not documented. Here the target's stay.")
        collections.append(replace(before, rules=tuple(rules)))
    policy = in_order(replace(target, collections=tuple(collections)))
    return Merge(policy=policy, changes=compare(target, policy), notes=tuple(notes))


def merge_gpos(gpos: Sequence[Policy], local: Policy | None = None) -> Merge:
    """As Group Policy does, with GPOs from the farthest to the closest: all rules, the last mode that is configured."""
    notes: list[str] = []
    layers = [*([local] if local else []), *gpos]
    collections: list[Collection] = []
    for type in COLLECTION_TYPES:
        present = [collection for layer in layers if (collection := layer.collection(type))]
        if not present:
            continue
        rules: dict[str, Rule] = {}
        for collection in present:
            for rule in collection.rules:
                known = rules.setdefault(rule.id, rule)
                if known is not rule and content_of(type, known) != content_of(type, rule):
                    rules[rule.id] = rule
                    notes.append(
                        f"The id {rule.id} stands for two different rules ({known.name!r} and {rule.name!r}); which of "
                        "them survives is not documented. Here it is the closer GPO's."
                    )
        configured = [collection for collection in present if effective_mode(collection) is not Mode.NOT_CONFIGURED]
        mode = configured[-1].mode if configured else Mode.NOT_CONFIGURED
        if any(collection.mode is Mode.ENABLED for collection in configured) and mode is Mode.AUDIT_ONLY:
            notes.append(f"{type} is only audited: the closest GPO says so, although a farther one enforces it.")
        extended = [collection.extensions for collection in present if collection.extensions is not None]
        if len(set(extended)) > 1:
            notes.append(f"Which GPO's extensions of {type} count is not documented. Here the closest one's do.")
        extensions = extended[-1] if extended else None
        collections.append(Collection(type=type, mode=mode, rules=tuple(rules.values()), extensions=extensions))
    policy = in_order(Policy(collections=tuple(collections)))
    return Merge(policy=policy, changes=compare(layers[0] if layers else Policy(), policy), notes=tuple(notes))


def merge_groupings(groupings: Sequence[Policy]) -> Merge:
    """One policy that allows only what every Intune grouping allows for certain; `decide_groupings` judges exactly.

    A rule stays if each other grouping has a rule that covers it; Deny rules all stay. What the groupings allow
    together through rules that merely overlap can't be written as one policy, and is listed.
    """
    notes = ["A file must be allowed by each grouping (one observer, not documented): groupings never add allowances."]
    collections: list[Collection] = []
    machine = Machine()
    for type in COLLECTION_TYPES:
        present = [collection for grouping in groupings if (collection := grouping.collection(type))]
        if not present:
            continue
        if any(not each.rules and effective_mode(each) is Mode.NOT_CONFIGURED for each in present):
            notes.append(
                f"A grouping has {type} not configured and without rules, which allows nothing (one observer)."
            )
        ruled = [collection for collection in present if collection.rules]
        rules: dict[str, Rule] = {}
        for place, collection in enumerate(ruled):
            others = ruled[:place] + ruled[place + 1 :]
            for rule in collection.rules:
                if rule.action is Action.DENY or all(_is_covered(rule, other.rules, machine) for other in others):
                    rules.setdefault(content_of(type, rule), rule)
                else:
                    notes.append(
                        f"{type}: no rule of every other grouping covers the whole of {rule.name!r} ({rule.id})."
                    )
        modes = {effective_mode(collection) for collection in ruled}
        mode = Mode.AUDIT_ONLY if modes == {Mode.AUDIT_ONLY} else Mode.ENABLED if modes else Mode.NOT_CONFIGURED
        if Mode.AUDIT_ONLY in modes and mode is not Mode.AUDIT_ONLY:
            notes.append(f"{type} is only audited in one grouping and enforced in another: the latter blocks.")
        if ruled and not rules:
            notes.append(
                f"{type}: the groupings have no allowance in common that can be written down; nothing is left."
            )
        unique: dict[str, Rule] = {}
        for rule in rules.values():
            kept = identified(type, rule) if rule.id in unique else rule
            unique[kept.id] = kept
        collections.append(Collection(type=type, mode=mode, rules=tuple(unique.values())))
    policy = in_order(Policy(collections=tuple(collections)))
    return Merge(policy=policy, changes=compare(groupings[0] if groupings else Policy(), policy), notes=tuple(notes))


def decide_groupings(
    groupings: Iterable[CompiledPolicy], file: File, token: Token, collection: str | None = None
) -> Decision:
    """The decision of several groupings together: the first one that blocks, else that would block, else the first.

    raises: ValueError without any grouping.
    """
    decisions = [_decide_in_grouping(grouping, file, token, collection) for grouping in groupings]
    if not decisions:
        raise ValueError("no grouping was given")
    ranks = {Effect.BLOCKED: 0, Effect.WOULD_BE_BLOCKED: 1, Effect.RUNS: 2}
    decision = min(decisions, key=lambda each: ranks[each.effect])
    if len({each.effect for each in decisions}) > 1:
        return replace(decision, doubts=(*decision.doubts, GROUPINGS_ANDED))
    return decision


def _decide_in_grouping(grouping: CompiledPolicy, file: File, token: Token, collection: str | None) -> Decision:
    decision = grouping.decide(file, token, collection)
    present = grouping.policy.collection(decision.collection) if decision.collection else None
    if present is None or present.rules or effective_mode(present) is not Mode.NOT_CONFIGURED:
        return decision
    return replace(
        decision,
        verdict=Verdict.DENIED_BY_DEFAULT,
        effect=Effect.BLOCKED,
        reason="The grouping has this collection not configured and without rules, which allows nothing.",
        doubts=(EMPTY_GROUPING,),
    )


def _is_covered(rule: Rule, others: Iterable[Rule], machine: Machine) -> bool:
    return any(other.action is Action.ALLOW and covers(other, rule, machine) for other in others)
