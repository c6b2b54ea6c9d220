"""Exports: the chosen patterns' rules as AppLocker XML, alone to be added, or within the policy they are added to.

The same choices give the same bytes: no date, no name of a person and no reported text is in the file. With a base
policy its modes and rules stay as they are, and no collection that it leaves empty gets a first rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.applocker.coverage import covers
from app.applocker.export import add, added_rules, alone_on_a_machine
from app.applocker.identify import rule_id
from app.applocker.model import Action, AppLockerError, Machine, Policy
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import (
    ALL_USERS,
    COLLECTIONS,
    PatternChoice,
    checked_project_roots,
    checked_roots,
    checked_sid,
    read_choice,
)
from app.policies.coverage import Closed, Opened, find_closed, find_opened
from app.policies.plan import LeftOut, PlannedRule, Terms, plan_rules

MAX_BASE_BYTES = 20 * 1024 * 1024
_BASE_PYTHON = "managed-python-exe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export. `xml` is the file's text (UTF-8 without byte order mark), `sha256` its digest.

    `rules`: all that were asked for, those the base has already marked; `left_out`: what got none, and why;
    `stays_closed`: forms of the patterns that the rules do not open; `also_opens`: patterns that nobody asked for and
    the new rules open, at least in part; `notes`: what the reader must know; `comment`: what the file says of itself;
    `sid`: the groups, with commas between; `project_roots`, `roots`: the folders given, in AppLocker's words;
    `base_sha256`: digest of the base as given; `added_only`: the base said what is in force, and is not written back.
    """

    rules: tuple[PlannedRule, ...]
    left_out: tuple[LeftOut, ...]
    stays_closed: tuple[Closed, ...]
    also_opens: tuple[Opened, ...]
    policy: Policy
    xml: str
    comment: str
    notes: tuple[str, ...]
    effect_on_empty_machine: str
    file_name: str
    sha256: str
    sid: str
    project_roots: tuple[str, ...] = ()
    roots: Mapping[str, str] = field(default_factory=dict)
    base_sha256: str | None = None
    added_only: bool = False

    @property
    def is_whole_policy(self) -> bool:
        return self.base_sha256 is not None and not self.added_only

    @property
    def sids(self) -> tuple[str, ...]:
        """The groups that the rules are for."""
        return tuple(self.sid.split(", "))

    @property
    def added(self) -> tuple[PlannedRule, ...]:
        """The rules that are new to the base; all of them if there is no base."""
        return tuple(rule for rule in self.rules if not rule.in_base)


def plan_export(
    patterns: Sequence[PatternChoice | str],
    sid: str | Sequence[str],
    *,
    base: bytes | str | None = None,
    base_policy: Policy | None = None,
    added_only: bool = False,
    merges_covered: bool = False,
    baseline: Sequence[TrustedFile] = (),
    project_roots: Sequence[str] = (),
    roots: Mapping[str, str] | None = None,
    collections: Collection[str] | None = None,
    catalogue: Catalogue | None = None,
) -> Export:
    """Plan the rules that open `patterns` (ids, `ID=KIND`, or choices) for SIDs, and write them as AppLocker XML.

    `base`: the policy they are added to, as XML (`base_policy`: the same, read already); `added_only`: don't write it
    back, it is the sum of several; `baseline`: trusted files; `project_roots`: folders with projects; `roots`: where
    uv's `cache`, `python`, `tools`, `bin` were moved to; `collections`: those in force, if no base says.
    raises: InvalidError with `field` one of patterns, kind, files, sid, base, project_roots, roots, collections.
    """
    catalogue = catalogue or load_catalogue()
    choices = [read_choice(choice) if isinstance(choice, str) else choice for choice in patterns]
    base_policy = None if base is None else base_policy or read_base(base)
    sids = tuple(dict.fromkeys(checked_sid(one) for one in ([sid] if isinstance(sid, str) else sid)))
    if not sids:
        raise InvalidError("Say for which group the rules are, by its SID.", field="sid")
    terms = Terms(
        sid=sids[0],
        in_force=_in_force(base_policy, collections),
        has_base=base_policy is not None,
        baseline=tuple(baseline),
        project_roots=checked_project_roots(project_roots),
        roots=checked_roots(roots or {}),
    )
    plan = plan_rules(catalogue, choices, terms)
    for other in sids[1:]:
        plan = replace(plan, rules=(*plan.rules, *plan_rules(catalogue, choices, replace(terms, sid=other)).rules))
    if merges_covered:
        plan = replace(plan, rules=merge_covered(plan.rules))
    if not plan.rules:
        raise InvalidError(
            "Nothing is left to export: " + " ".join(dict.fromkeys(left.reason for left in plan.left_out)),
            field="collections" if base_policy is None else "base",
        )
    heading = _heading(plan.rules, ", ".join(sids))
    if base_policy is None or added_only:
        rules = plan.rules if base_policy is None else _marked(plan.rules, base_policy)
        policy = added_rules([rule.suggestion for rule in rules if not rule.in_base], [heading])
        effect = " ".join(alone_on_a_machine(policy))
    else:
        rules = _marked(plan.rules, base_policy)
        new = [rule for rule in rules if not rule.in_base]
        policy = add(base_policy, [rule.suggestion for rule in new]).policy
        if new and heading not in policy.comments:
            policy = replace(policy, comments=(*policy.comments, heading))
        effect = _effect_of_whole_policy(policy)
    xml = _rendered(policy)
    judged = policy if base_policy is None else add(base_policy, [rule.suggestion for rule in rules]).policy
    closed = tuple(
        dict.fromkeys(one for sid in sids for one in _find_closed(catalogue, rules, judged, replace(terms, sid=sid)))
    )
    also = _find_also_opened(catalogue, rules, terms)
    sha256 = digest_of(xml)
    kind = "rules" if base_policy is None or added_only else "policy"
    return Export(
        rules=rules,
        left_out=plan.left_out,
        stays_closed=closed,
        also_opens=also,
        policy=policy,
        xml=xml,
        comment="\n".join(policy.comments),
        notes=_notes(rules, plan.left_out, closed, also, sids, base_policy, added_only=added_only),
        effect_on_empty_machine=effect,
        file_name=f"wayleave-{kind}-{sha256[:8]}.xml",
        sha256=sha256,
        sid=", ".join(sids),
        project_roots=terms.project_roots,
        roots=terms.roots,
        added_only=added_only and base is not None,
        base_sha256=None if base is None else digest_of(base),
    )


def merge_covered(rules: Sequence[PlannedRule]) -> tuple[PlannedRule, ...]:
    """The rules without those that another one of them covers; that one then opens their patterns too."""
    machine = Machine()

    def is_covered(place: int) -> bool:
        rule = rules[place]
        for other_place, other in enumerate(rules):
            if other_place == place or other.collection != rule.collection:
                continue
            # Of two that cover each other the first stays.
            if covers(other.rule, rule.rule, machine) and (
                other_place < place or not covers(rule.rule, other.rule, machine)
            ):
                return True
        return False

    kept = [rule for place, rule in enumerate(rules) if not is_covered(place)]
    wide: dict[str, list[str]] = {rule.id: list(rule.patterns) for rule in kept}
    for rule in rules:
        if rule.id in wide:
            continue
        for other in kept:
            if other.collection == rule.collection and covers(other.rule, rule.rule, machine):
                wide[other.id] += [name for name in rule.patterns if name not in wide[other.id]]
    return tuple(replace(rule, patterns=tuple(wide[rule.id])) for rule in kept)


def digest_of(text: bytes | str) -> str:
    """The SHA-256 of a file's text in UTF-8."""
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def read_base(content: bytes | str) -> Policy:
    """A base policy's text, read. raises: InvalidError about `base` with the first problems and their lines."""
    if len(content) > MAX_BASE_BYTES:
        raise InvalidError(f"The base policy is larger than {MAX_BASE_BYTES // 1024 // 1024} MB.", field="base")
    try:
        return parse_policy(content)
    except AppLockerError as error:
        found = "; ".join(str(problem) for problem in error.problems[:5])
        more = f" (and {len(error.problems) - 5} more)" if len(error.problems) > 5 else ""
        raise InvalidError(f"The base policy cannot be read: {found}{more}", field="base") from error


def _in_force(base: Policy | None, collections: Collection[str] | None) -> frozenset[str] | None:
    """The collections that may get rules; None: nobody said."""
    if base is not None:
        if collections is not None:
            raise InvalidError(
                "The base policy says which collections are in force; don't name them too.", field="collections"
            )
        return frozenset(collection.type for collection in base.collections if collection.rules)
    if collections is None:
        return None
    for name in collections:
        if name not in COLLECTIONS:
            raise InvalidError(
                f"There is no collection {name[:40]!a}; choose {', '.join(COLLECTIONS)}.", field="collections"
            )
    if not collections:
        raise InvalidError("Name at least one collection.", field="collections")
    return frozenset(collections)


def _find_closed(
    catalogue: Catalogue, rules: Sequence[PlannedRule], policy: Policy, terms: Terms
) -> tuple[Closed, ...]:
    """Forms that no path rule opens, and forms that a Deny rule closes, whatever kind of rule was to open them."""
    by_path = {pattern for rule in rules if rule.kind == "path" for pattern in rule.patterns}
    chosen = {pattern for rule in rules for pattern in rule.patterns}
    closed = find_closed(
        policy,
        # What another pattern covers is a junction: AppLocker judges its target.
        [pattern for pattern in catalogue.patterns if pattern.id in chosen and not pattern.covered_by],
        frozenset(rule.collection for rule in rules),
        terms.sid,
        project_roots=terms.project_roots,
        roots=terms.roots,
    )
    return tuple(one for one in closed if one.deny_rules or one.pattern in by_path)


def _find_also_opened(catalogue: Catalogue, rules: Sequence[PlannedRule], terms: Terms) -> tuple[Opened, ...]:
    """Patterns beyond those chosen that the new rules open by themselves: the reviewer's list."""
    chosen = {pattern for rule in rules for pattern in rule.patterns}
    return find_opened(
        added_rules([rule.suggestion for rule in rules if not rule.in_base]),
        [
            pattern
            for pattern in catalogue.patterns
            if pattern.is_executed and pattern.id not in chosen and pattern.covered_by not in chosen
        ],
        terms.sid,
        project_roots=terms.project_roots,
        roots=terms.roots,
    )


def _marked(rules: Sequence[PlannedRule], base: Policy) -> tuple[PlannedRule, ...]:
    """The rules, with those marked that the base has already, under whatever id or within a wider rule."""
    contents = {
        rule_id(collection, rule.action, rule.sid, [rule.condition], rule.exceptions)
        for collection, rule in base.rules()
    }
    ids = {rule.id.lower() for _, rule in base.rules()}
    for rule in rules:
        if rule.id in ids and rule.id not in contents:
            raise InvalidError(f"The base has another rule with the id {rule.id}.", field="base")
    machine = Machine()
    allows = {
        collection.type: [rule for rule in collection.rules if rule.action is Action.ALLOW]
        for collection in base.collections
    }

    def is_there(rule: PlannedRule) -> bool:
        wider = allows.get(rule.collection, ())
        return rule.id in contents or any(covers(allowing, rule.rule, machine) for allowing in wider)

    return tuple(replace(rule, in_base=True) if is_there(rule) else rule for rule in rules)


def _heading(rules: Sequence[PlannedRule], sid: str) -> str:
    patterns = sorted({pattern for rule in rules for pattern in rule.patterns})
    return f"Rules for uv, made by Wayleave for {sid}. They open: {', '.join(patterns)}."


def _effect_of_whole_policy(policy: Policy) -> str:
    enforced = [collection.type for collection in policy.collections if collection.rules and not collection.is_audited]
    audited = [collection.type for collection in policy.collections if collection.rules and collection.is_audited]
    empty = [name for name in COLLECTIONS if name not in (*enforced, *audited)]
    sentences = ["On a machine that has nothing else this policy is all there is."]
    if enforced:
        sentences.append(f"{', '.join(enforced)}: only what its rules allow may run.")
    if audited:
        sentences.append(f"{', '.join(audited)}: denials are only logged (AuditOnly).")
    if empty:
        sentences.append(f"{', '.join(empty)}: no rules, everything runs.")
    return " ".join(sentences)


def _notes(
    rules: Sequence[PlannedRule],
    left_out: Sequence[LeftOut],
    closed: Sequence[Closed],
    also: Sequence[Opened],
    sids: Sequence[str],
    base: Policy | None,
    *,
    added_only: bool,
) -> tuple[str, ...]:
    notes = []
    for sid in sids:
        if sid in ALL_USERS:
            notes.append(
                f"{sid} is {ALL_USERS[sid]}: the rules hold for every user. The SID of a developers' group is narrower."
            )
    if base is None or added_only:
        notes.append(
            "EnforcementMode is NotConfigured, so the target keeps its own; the rules ARE enforced all the same. "
            "Merge them (Set-AppLockerPolicy -Merge): Import in the policy editor would replace all other rules. "
            "For Intune take a whole policy: a grouping of its own is not added to others, it must allow a file too."
        )
    if base is not None:
        known = sum(rule.in_base for rule in rules)
        if known:
            notes.append(f"{known} of {len(rules)} rules are in the base already and were not added again.")
        for collection in base.collections:
            if collection.is_audited and any(rule.collection == collection.type for rule in rules):
                notes.append(
                    f"The base only audits {collection.type}: nothing is blocked there, and this export keeps it so."
                )
    denied = {(rule, one.pattern) for one in closed for rule in one.deny_rules}
    for name, pattern in sorted(denied):
        notes.append(f"The base's Deny rule {name!a} still blocks {pattern}: Deny wins over every Allow.")
    narrow = sorted({one.pattern for one in closed if not one.deny_rules})
    if narrow:
        notes.append(f"The rules are narrow on purpose: rare forms of {', '.join(narrow)} stay closed (listed).")
    if also:
        notes.append(f"The rules also open what nobody asked for: {', '.join(one.pattern for one in also)} (listed).")
    launchers = sorted(_launchers(rules))
    if launchers and not any(_BASE_PYTHON in rule.patterns for rule in rules):
        notes.append(
            f"The python.exe of {', '.join(launchers)} is a launcher of the Python it was made from, which must "
            f"be allowed too, by {_BASE_PYTHON} for Pythons that uv downloads; one under Program Files mostly is."
        )
    builds = sorted({rule.build for rule in rules if rule.kind == "hash" and rule.build})
    if builds:
        notes.append(f"Hash rules open their patterns for these builds alone: {', '.join(builds)}.")
    writable = sum(rule.kind == "path" and rule.reach.users_can_write for rule in rules)
    if writable:
        notes.append(f"{writable} of {len(rules)} rules admit paths where users can write: see the risk of each.")
    if left_out:
        what = "One thing" if len(left_out) == 1 else f"{len(left_out)} things"
        notes.append(f"{what} asked for got no rule: see what was left out, and why.")
    return tuple(notes)


def _launchers(rules: Sequence[PlannedRule]) -> set[str]:
    """Patterns of the rules whose python.exe only starts another."""
    return {name for rule in rules for name in rule.patterns if name.endswith(("-env-python", "venv-python"))}


def _rendered(policy: Policy) -> str:
    try:
        return render_policy(policy)
    except AppLockerError as error:
        raise InvalidError(f"This cannot be written as XML: {error}", field="base") from error
