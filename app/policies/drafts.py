"""From a rule set to its rules: what was chosen for each pattern becomes an export, or says why it cannot.

The draft's digest covers everything that would leave: the rules for every ring, the base they are added to, the
folders that uv is moved to. It is what an approval is bound to, together with the simulation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.applocker.export import added_rules
from app.applocker.write import render_policy, render_rule
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import PatternChoice, is_everybody
from app.policies.export import Export, plan_export
from app.policies.moving import (
    SYSTEM_PYTHON_SETTINGS,
    UV_FOLDER,
    VARIABLES_OF_ROOT,
    folder_for,
    movable_root,
    refuse_too_many,
)
from app.policies.plan import LAUNCHER_PATTERNS, LeftOut, PlannedRule, Terms, plan_rules
from app.policies.queries_rule_sets import Item, RuleSet
from app.policies.rule_sets import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """An environment variable that machines need, beside the rules; `patterns`: those that it opens."""

    name: str
    value: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a rule set comes to.

    `missing`: what has to be said first; `export`: the rules for the groups, None if there are none; `pilot`: the same
    rules for the pilot's groups; `left_out`: patterns without a rule and why; `left_closed`: patterns left as they are;
    `removed`: rules of ours that are taken out.
    """

    missing: tuple[str, ...]
    export: Export | None
    pilot: Export | None
    left_out: tuple[LeftOut, ...]
    left_closed: tuple[str, ...]
    settings: tuple[Setting, ...]
    sha256: str
    removed: tuple[PlannedRule, ...] = ()

    @property
    def rules(self) -> tuple[PlannedRule, ...]:
        return self.export.rules if self.export else ()

    @property
    def added(self) -> tuple[PlannedRule, ...]:
        return self.export.added if self.export else ()

    @property
    def pilot_added(self) -> tuple[PlannedRule, ...]:
        """The pilot's own rules; one that the groups get too is among theirs."""
        ids = {rule.id for rule in self.added}
        return tuple(rule for rule in self.pilot.added if rule.id not in ids) if self.pilot else ()

    @property
    def leaving(self) -> tuple[PlannedRule, ...]:
        """The rules of every ring, the groups' first: what is simulated, linted and reviewed, for all of it leaves."""
        return (*self.added, *self.pilot_added)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to review: rules to add or to take out, or folders to move."""
        return not self.missing and bool(self.added or self.settings or self.removed)

    @property
    def patterns(self) -> tuple[str, ...]:
        """What is opened, by a rule or by moving it."""
        by_rules = [pattern for rule in self.rules for pattern in rule.patterns]
        return tuple(dict.fromkeys((*by_rules, *(name for one in self.settings for name in one.patterns))))


def build_draft(rule_set: RuleSet, baseline: Sequence[TrustedFile], *, catalogue: Catalogue | None = None) -> Draft:
    """The rules of a rule set as it stands. Patterns that can have none are told, not raised."""
    catalogue = catalogue or load_catalogue()
    missing = []
    if rule_set.base is None:
        missing.append("base")
    only_removes = bool(rule_set.removes) and not rule_set.items
    if not rule_set.groups and not only_removes:
        missing.append("groups")
    if any(is_everybody(group.sid) for group in rule_set.pilot):
        missing.append("pilot")
    if not any(item.kind != "leave" for item in rule_set.items) and not only_removes:
        missing.append("patterns")
    roots = roots_of(rule_set.items, rule_set.roots, catalogue)
    choices = [choice for item in rule_set.items if (choice := choice_of(item, catalogue)) is not None]
    left_out: tuple[LeftOut, ...] = ()
    export = pilot = None
    if choices and rule_set.groups:
        fit, left_out = _fitting(choices, rule_set, baseline, roots, catalogue)
        if fit:
            export = _planned(fit, rule_set, rule_set.groups, baseline, roots, catalogue)
            left_out = (*left_out, *export.left_out)
            if rule_set.pilot:
                pilot = _planned(fit, rule_set, rule_set.pilot, baseline, roots, catalogue)
    settings = settings_of(rule_set.items, roots, catalogue)
    return Draft(
        missing=tuple(missing),
        export=export,
        pilot=pilot,
        left_out=left_out,
        left_closed=tuple(item.pattern for item in rule_set.items if item.kind == "leave"),
        settings=settings,
        sha256=_digest(rule_set, export, pilot, settings),
        removed=rule_set.removes,
    )


def choice_of(item: Item, catalogue: Catalogue) -> PatternChoice | None:
    """What the planner is asked for an item; None if it gets no rule."""
    pattern = catalogue.pattern(item.pattern)
    if item.kind == "leave" or (item.kind == "relocate" and movable_root(catalogue, pattern) is None):
        return None
    if item.kind == "system" and pattern.id not in LAUNCHER_PATTERNS:
        return None  # uv no longer uses a Python of its own
    kind = "path" if item.kind == "relocate" else item.kind
    return PatternChoice(
        pattern=item.pattern, kind=kind, files=item.files if kind in (None, "hash", "publisher") else None
    )


def roots_of(items: Iterable[Item], roots: Mapping[str, str], catalogue: Catalogue) -> dict[str, str]:
    """Where uv's directories go: as the rule set says, and where a relocated pattern says nothing else."""
    found = dict(roots)
    for item in items:
        if item.kind == "relocate":
            root = movable_root(catalogue, catalogue.pattern(item.pattern))
            if root is not None:
                found[root] = folder_for(root, found)
    return found


def settings_of(items: Sequence[Item], roots: Mapping[str, str], catalogue: Catalogue) -> tuple[Setting, ...]:
    """The variables that machines need for what was relocated, by name."""
    patterns: dict[tuple[str, str], list[str]] = {}
    for root, folder in roots.items():
        for variable in VARIABLES_OF_ROOT[root]:
            patterns[variable, folder] = []
    for item in items:
        pattern = catalogue.pattern(item.pattern)
        if item.kind == "relocate":
            if pattern.group == "uv-binary":
                patterns.setdefault(("UV_INSTALL_DIR", UV_FOLDER), []).append(pattern.id)
                continue
            moved = movable_root(catalogue, pattern)
            for variable in VARIABLES_OF_ROOT[moved] if moved else ():
                patterns[variable, roots[moved or ""]].append(pattern.id)
        elif item.kind == "system":
            for name, value in SYSTEM_PYTHON_SETTINGS:
                patterns.setdefault((name, value), []).append(pattern.id)
    return tuple(
        Setting(name=name, value=value, patterns=tuple(opened)) for (name, value), opened in sorted(patterns.items())
    )


def _fitting(
    choices: Sequence[PatternChoice],
    rule_set: RuleSet,
    baseline: Sequence[TrustedFile],
    roots: Mapping[str, str],
    catalogue: Catalogue,
) -> tuple[list[PatternChoice], tuple[LeftOut, ...]]:
    """The choices that can have a rule, each tried alone, and the others with the reason."""
    fit, left_out = [], []
    terms = Terms(
        sid=rule_set.groups[0].sid,
        in_force=frozenset(rule_set.base.in_force) if rule_set.base else None,
        has_base=rule_set.base is not None,
        baseline=tuple(baseline),
        project_roots=rule_set.project_roots,
        roots=roots,
    )
    for choice in choices:
        try:
            refuse_too_many(choice, catalogue.pattern(choice.pattern), baseline)
            plan = plan_rules(catalogue, [choice], terms)
        except InvalidError as error:
            left_out.append(LeftOut(pattern=choice.pattern, collection=None, reason=error.message))
        else:
            if plan.rules:
                fit.append(choice)
            else:
                left_out += plan.left_out
    return fit, tuple(left_out)


def _planned(
    choices: Sequence[PatternChoice],
    rule_set: RuleSet,
    groups: Sequence[Group],
    baseline: Sequence[TrustedFile],
    roots: Mapping[str, str],
    catalogue: Catalogue,
) -> Export:
    base = rule_set.base
    return plan_export(
        choices,
        [group.sid for group in groups],
        base=base.content if base else None,
        base_policy=base.policy if base else None,
        added_only=base is not None and not base.is_whole,
        merges_covered=True,
        baseline=baseline,
        project_roots=as_given(rule_set.project_roots),
        roots=dict(zip(roots, as_given(roots.values()), strict=True)),
        catalogue=catalogue,
    )


def as_given(folders: Iterable[str]) -> list[str]:
    r"""Stored folders in words that the check takes again: `%OSDRIVE%\Users\*\src` was `%USERPROFILE%\src`."""
    profile = "%OSDRIVE%\\Users\\*"
    return ["%USERPROFILE%" + folder[len(profile) :] if folder.startswith(profile) else folder for folder in folders]


def _digest(rule_set: RuleSet, export: Export | None, pilot: Export | None, settings: Sequence[Setting]) -> str:
    said = {
        "base": rule_set.base.sha256 if rule_set.base else None,
        "origin": rule_set.base.origin.value if rule_set.base else None,
        "sids": [group.sid for group in rule_set.groups],
        "pilot_sids": [group.sid for group in rule_set.pilot],
        "rules": [_written(one) for one in (export, pilot)],
        "settings": [[one.name, one.value] for one in settings],
    }
    if pilot is not None:
        said["judged"] = "every ring"  # of before the pilot's rules were simulated too, nothing holds any more
    if rule_set.removes:
        said["removes"] = sorted([one.collection, one.id.lower(), render_rule(one.rule)] for one in rule_set.removes)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _written(export: Export | None) -> str | None:
    """The new rules as XML, which says all that they do."""
    return render_policy(added_rules([rule.suggestion for rule in export.added])) if export else None
