"""Judges a draft against one policy in force: each distinct (file, policy, projected token) once, before and after.

The rules are put into the policy that workstations report, as Group Policy would add them up; for Intune the file must
be allowed by the grouping and by Group Policy. What comes out are bits over the catalogue's patterns, so that a million
subjects are a few thousand operations on whole numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.applocker.evaluate import CompiledPolicy, compile_policy
from app.applocker.model import STANDARD_USER, Collection, Decision, File, Policy, Token, Verdict
from app.policies.plan import PlannedRule
from app.policies.specimens import Specimen

_ALLOWED = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)


@dataclass(frozen=True, slots=True)
class Layer:
    """One policy that must allow a file: as it is, and with the draft in it."""

    before: CompiledPolicy
    after: CompiledPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """What becomes of patterns for subjects of one kind, as bits.

    `before`, `after`: any file there may start; `builds`: at least one that the draft names may; `opened_by`: per
    pattern the draft's rules that allow it; `closed_by`: per pattern why it stays closed, in words; `lost`: a
    file that a rule taken out names may start there before and not after; `moved_by`: of patterns that open because
    their folder moves, the rule of the policy that allows files there.
    """

    before: int = 0
    after: int = 0
    builds: int = 0
    opened_by: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    closed_by: Mapping[int, str] = field(default_factory=dict)
    lost: int = 0
    moved_by: Mapping[int, str] = field(default_factory=dict)


class Judge:
    """A draft against one policy in force. Counts the judgements it made."""

    def __init__(self, layers: Sequence[Layer], rules: Sequence[PlannedRule], groups: Iterable[str]) -> None:
        self.layers = layers
        self.rules = rules
        self.place_of = {rule.id: place for place, rule in enumerate(rules)}
        self.groups = frozenset(groups)
        self.told_by_policy = frozenset(rule.sid.upper() for layer in layers for _, rule in layer.before.policy.rules())
        after = frozenset(rule.sid.upper() for layer in layers for _, rule in layer.after.policy.rules())
        self.named = after | self.told_by_policy
        self.judgements = 0
        self._decided: dict[tuple[File, str, frozenset[str], frozenset[str]], tuple[bool, bool, tuple[Decision, ...]]]
        self._decided = {}

    def token_of(self, sids: frozenset[str], deny_only: frozenset[str]) -> tuple[Token, bool]:
        """The token as these rules can tell it, and whether a membership had to be assumed.

        Agents tell only SIDs that a policy in force names. Whether somebody is in a group that no rule named so far
        nobody knows: they are judged as if they were.
        """
        unknown = self.groups - self.told_by_policy - sids - STANDARD_USER.sids
        enabled = (sids | STANDARD_USER.sids | unknown) & self.named
        return Token(sids=enabled, deny_only=deny_only & self.named), bool(unknown)

    def masks(self, specimens: Sequence[Specimen], token: Token) -> Masks:
        """What becomes of each pattern for a token: a pattern is open if a file may start in each collection tried."""
        before: dict[int, bool] = {}
        after: dict[int, bool] = {}
        builds: dict[int, dict[str, bool]] = defaultdict(dict)
        opened_by: dict[int, dict[int, None]] = defaultdict(dict)
        closed_by: dict[int, str] = {}
        lost: set[int] = set()
        moved_by: dict[int, str] = {}
        for one in specimens:
            was, will, decisions = self._decide(one.file, one.collection, token)
            if one.moved is not None:
                _, will, decisions = self._decide(one.moved, one.collection, token)
            if one.rule is not None and one.rule >= len(self.rules):
                if was and not will:
                    lost.add(one.pattern)
                continue
            if one.rule is None:
                before[one.pattern] = before.get(one.pattern, True) and was
                after[one.pattern] = after.get(one.pattern, True) and will
                builds[one.pattern].setdefault(one.collection, will)
                if not will:
                    closed_by.setdefault(one.pattern, self._why_closed(one, decisions, token))
            elif will:
                builds[one.pattern][one.collection] = True
            if will and not was:
                rules = [rule for decision in decisions for rule in decision.rules]
                ours = [self.place_of[rule.id] for rule in rules if rule.id in self.place_of]
                opened_by[one.pattern] |= dict.fromkeys(ours)
                if one.moved is not None and not ours:
                    moved_by.setdefault(one.pattern, rules[0].name if rules else "")
        return Masks(
            before=_bits(pattern for pattern, is_open in before.items() if is_open),
            after=_bits(pattern for pattern, is_open in after.items() if is_open),
            builds=_bits(pattern for pattern, collections in builds.items() if all(collections.values())),
            opened_by={pattern: tuple(sorted(places)) for pattern, places in opened_by.items() if places},
            closed_by=closed_by,
            lost=_bits(lost),
            moved_by=moved_by,
        )

    def allows(self, file: File, collection: str, token: Token) -> tuple[bool, bool, tuple[Decision, ...]]:
        """Whether a file may start before and after, and the decisions after."""
        return self._decide(file, collection, token)

    def _decide(self, file: File, collection: str, token: Token) -> tuple[bool, bool, tuple[Decision, ...]]:
        key = (file, collection, token.sids, token.deny_only)
        known = self._decided.get(key)
        if known is not None:
            return known
        was = will = True
        decisions: list[Decision] = []
        for layer in self.layers:
            self.judgements += 2
            was = was and layer.before.decide_each(file, (token,), collection)[0].verdict in _ALLOWED
            (decision,) = layer.after.decide_each(file, (token,), collection)
            will = will and decision.verdict in _ALLOWED
            decisions.append(decision)
        answer = was, will, tuple(decisions)
        self._decided[key] = answer
        return answer

    def _why_closed(self, one: Specimen, decisions: Sequence[Decision], token: Token) -> str:
        denied = [rule.name for each in decisions if each.verdict is Verdict.DENIED for rule in each.rules]
        if denied:
            return f"the Deny rule {denied[0]!a}"
        if not self.groups <= token.sids:
            _, as_member, _ = self._decide(
                one.file_after, one.collection, replace(token, sids=token.sids | self.groups)
            )
            if as_member:
                return "the user is not in the rules' group"
        if len(self.layers) > 1 and sum(each.verdict in _ALLOWED for each in decisions):
            return "Group Policy and Intune must both allow it, and one does not"
        return "no rule matches"


def with_rules(policy: Policy, rules: Iterable[PlannedRule]) -> Policy:
    """The policy with the rules put in as a merge would, first rules of a collection too."""
    new: dict[str, list[PlannedRule]] = defaultdict(list)
    for rule in rules:
        new[rule.collection].append(rule)
    collections = {collection.type: collection for collection in policy.collections}
    for name, some in new.items():
        found = collections.get(name) or Collection(type=name)
        collections[name] = replace(found, rules=(*found.rules, *(one.rule for one in some)))
    return replace(policy, collections=tuple(collections.values()))


def without_rules(policy: Policy, rules: Iterable[PlannedRule]) -> Policy:
    """The policy without the rules of these ids, wherever they are."""
    ids = {rule.id.lower() for rule in rules}
    if not ids:
        return policy
    collections = tuple(
        replace(one, rules=tuple(rule for rule in one.rules if rule.id.lower() not in ids))
        for one in policy.collections
    )
    return replace(policy, collections=collections)


def layers_for(
    reported: Policy,
    rules: Sequence[PlannedRule],
    *,
    intune_base: Policy | None = None,
    removed: Sequence[PlannedRule] = (),
) -> tuple[Layer, ...]:
    """The policies that must allow a file: Group Policy's with the draft, or beside Intune's with the draft."""
    if intune_base is None:
        after = with_rules(without_rules(reported, removed), rules)
        return (Layer(compile_policy(reported), compile_policy(after)),)
    group_policy = compile_policy(reported)
    return (
        Layer(group_policy, group_policy),
        Layer(compile_policy(intune_base), compile_policy(with_rules(without_rules(intune_base, removed), rules))),
    )


def _bits(places: Iterable[int]) -> int:
    total = 0
    for place in places:
        total |= 1 << place
    return total
