"""How two policies differ in what they do, not in how they are written; and how two changes of one policy meet.

Rules are told apart by content (`identify.rule_id`): a rule that got another name or id does the same. A rule whose id
stayed while its content changed is one change, not a removal and an addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.applocker.identify import rule_id
from app.applocker.model import COLLECTION_TYPES, Collection, Element, Mode, Policy, Rule


class Kind(StrEnum):
    """What changed. Only `rule-renamed` changes nothing about what runs."""

    RULE_ADDED = "rule-added"
    RULE_REMOVED = "rule-removed"
    RULE_CHANGED = "rule-changed"
    RULE_RENAMED = "rule-renamed"
    MODE = "mode"
    STARTED = "collection-started"
    ENDED = "collection-ended"
    EXTENSIONS = "extensions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. `collection` None: the whole policy. `key` names what changed, the same on both sides."""

    kind: Kind
    collection: str | None
    key: str
    message: str
    before: Rule | None = None
    after: Rule | None = None
    value: str = ""
    """What it changed to, comparable: two sides that made the same change have the same value."""

    @property
    def is_semantic(self) -> bool:
        """True if other files may run than before."""
        return self.kind is not Kind.RULE_RENAMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two sides changed the same thing differently."""

    mine: Change
    theirs: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeWay:
    """How two policies that came from one base differ from it, and from each other."""

    mine: tuple[Change, ...]
    theirs: tuple[Change, ...]
    both: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]


def compare(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Everything in which the new policy differs.

    >>> compare(Policy(), Policy())
    ()
    """
    found: list[Change] = []
    for type in COLLECTION_TYPES:
        before = old.collection(type) or Collection(type=type)
        after = new.collection(type) or Collection(type=type)
        found += _collections(before, after)
    if old.extensions != new.extensions:
        message = "the policy's extensions differ"
        found.append(
            Change(kind=Kind.EXTENSIONS, collection=None, key="policy", message=message, value=_text(new.extensions))
        )
    return tuple(found)


def compare_three(base: Policy, mine: Policy, theirs: Policy) -> ThreeWay:
    """What each side changed alone, what both changed alike, and where they contradict each other."""
    of_mine, of_theirs = (
        {(change.collection, change.key): change for change in compare(base, side)} for side in (mine, theirs)
    )
    shared = of_mine.keys() & of_theirs.keys()
    alike = {
        key for key in shared if of_mine[key].kind is of_theirs[key].kind and of_mine[key].value == of_theirs[key].value
    }
    return ThreeWay(
        mine=tuple(change for key, change in of_mine.items() if key not in shared),
        theirs=tuple(change for key, change in of_theirs.items() if key not in shared),
        both=tuple(of_mine[key] for key in of_mine if key in alike),
        conflicts=tuple(Conflict(mine=of_mine[key], theirs=of_theirs[key]) for key in of_mine if key in shared - alike),
    )


def content_of(collection: str, rule: Rule) -> str:
    """The id of what a rule does, whatever its own id."""
    return rule_id(collection, rule.action, rule.sid, [rule.condition], rule.exceptions)


def effective_mode(collection: Collection) -> Mode:
    """The mode, NotConfigured if the attribute is absent."""
    return collection.mode or Mode.NOT_CONFIGURED


def _collections(before: Collection, after: Collection) -> list[Change]:
    type = before.type
    found: list[Change] = []
    old_mode, new_mode = effective_mode(before), effective_mode(after)
    if before.rules and not after.rules:
        message = f"{type} has no rules any more: everything of its kind runs"
        found.append(Change(kind=Kind.ENDED, collection=type, key="rules", message=message))
    elif after.rules and not before.rules:
        message = f"{type} has rules now: what none of them allows is denied"
        found.append(Change(kind=Kind.STARTED, collection=type, key="rules", message=message))
    if old_mode is not new_mode:
        message = f"{type} goes from {old_mode} to {new_mode}{_consequence(before, after)}"
        found.append(Change(kind=Kind.MODE, collection=type, key="mode", message=message, value=new_mode.value))
    if before.extensions != after.extensions:
        message = f"the extensions of {type} differ (services: {before.services} before, {after.services} now)"
        value = _text(after.extensions)
        found.append(Change(kind=Kind.EXTENSIONS, collection=type, key="extensions", message=message, value=value))
    return found + _rules(type, before, after)


def _rules(type: str, before: Collection, after: Collection) -> list[Change]:
    old = {content_of(type, rule): rule for rule in before.rules}
    new = {content_of(type, rule): rule for rule in after.rules}
    gone = {rule.id: rule for content, rule in old.items() if content not in new}
    come = {rule.id: rule for content, rule in new.items() if content not in old}
    found: list[Change] = []
    for content, rule in old.items():
        other = new.get(content)
        if other is not None and (rule.id, rule.name, rule.description) != (other.id, other.name, other.description):
            message = f'the rule "{rule.name}" does the same under another name, description or id'
            value = f"{other.id} {other.name} {other.description}"
            found.append(_change(Kind.RULE_RENAMED, type, rule.id, message, rule, other, value))
    for rule_id_, rule in gone.items():
        other = come.get(rule_id_)
        if other is not None:
            message = f'the rule "{other.name}" has the same id and does something else'
            value = content_of(type, other)
            found.append(_change(Kind.RULE_CHANGED, type, rule_id_, message, rule, other, value))
        else:
            message = f'the {rule.action} rule "{rule.name}" is gone'
            found.append(_change(Kind.RULE_REMOVED, type, rule_id_, message, rule, None, ""))
    for rule_id_, rule in come.items():
        if rule_id_ not in gone:
            message = f'the {rule.action} rule "{rule.name}" is new'
            found.append(_change(Kind.RULE_ADDED, type, rule_id_, message, None, rule, content_of(type, rule)))
    return found


def _change(
    kind: Kind, type: str, key: str, message: str, before: Rule | None, after: Rule | None, value: str
) -> Change:
    return Change(kind=kind, collection=type, key=key, message=message, before=before, after=after, value=value)


def _consequence(before: Collection, after: Collection) -> str:
    if before.is_audited and after.rules and not after.is_audited:
        return ": what was only logged is blocked now"
    if after.is_audited and before.rules and not before.is_audited:
        return ": what was blocked is only logged now"
    return ""


def _text(element: Element | None) -> str:
    return repr(element)
