"""What if: base and draft against every distinct probe, policy and sighting of the fleet, cold in seconds.

Newly allowed, still blocked, newly blocked, and what is newly allowed beyond what was asked, for how many users of
each group, each explained by rule. Whatever hosts report is judged and counted here; none of it becomes a rule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.applocker.model import STANDARD_USER, File, Policy
from app.fleet.groups import read_group_names
from app.fleet.tables import FactSet
from app.policies.drafts import Draft
from app.policies.judgement import Judge, Masks, layers_for
from app.policies.modes import changes_in_layers
from app.policies.outcome import PatternOutcome, SightingCounts, SightingOutcome, Simulated, WorkflowOutcome
from app.policies.profiles import (
    NOTHING_TOLD,
    Profile,
    Told,
    group_policy_of,
    has_intune_policy,
    policies_in_use,
    read_profiles,
    read_told,
    sids_of,
)
from app.policies.queries_rule_sets import RuleSet
from app.policies.reported_policy import reported_policy
from app.policies.roots import Places, read_places
from app.policies.specimens import Specimen, covered_patterns, moves_of, specimens_of
from app.policies.tried import judge_sightings

Progress = Callable[[int, int], None]

CATEGORIES = ("newly", "newly_builds", "still", "others", "newly_blocked", "open", "unexplained")
"""What becomes of a pattern for a user; see `outcome.PatternOutcome`."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Subjects who are alike to the rules: a policy, a projected token, and the places of uv's folders."""

    policy_id: int
    sids: int
    deny_only: int
    places: Places


class Simulator:
    """One draft and the fleet's policies, ready to judge. `masks_of` answers for single subjects as the whole does."""

    def __init__(self, session: Session, rule_set: RuleSet, draft: Draft, *, catalogue: Catalogue | None = None):
        self.session = session
        self.rule_set = rule_set
        self.draft = draft
        self.catalogue = catalogue or load_catalogue()
        self.rules = draft.leaving
        self.moves = moves_of(draft.settings)
        self.removed = draft.removed
        # A pilot's rules leave too, so they are judged with the rest.
        self.groups = list(dict.fromkeys(group.sid for group in (*rule_set.groups, *rule_set.pilot)))
        self.is_intune = rule_set.base is not None and rule_set.base.origin == "intune"
        self.bodies = policies_in_use(session)
        self.judges: dict[int, Judge | None] = {}
        self.policies: dict[int, Policy | None] = {}
        for policy_id in self.bodies:
            self._add_policy(policy_id)
        self._specimens: dict[Places, list[Specimen]] = {}
        self._paths: dict[tuple[str, Places], list[tuple[str, str]]] = {}
        self._masks: dict[_Kind, tuple[Masks, bool]] = {}
        self._covered = covered_patterns(self.catalogue)
        self.places = read_places(session)
        self.named = self._sids_that_matter()

    def masks_of(self, policy_id: int, sids: int, deny_only: int, places: Places) -> tuple[Masks, bool] | None:
        """What becomes of each pattern, and whether a membership was assumed; None if the policy can't be judged."""
        if policy_id not in self.judges:
            body = self.session.scalar(select(FactSet.body).where(FactSet.id == policy_id))
            self.bodies[policy_id] = body or "{}"
            self._add_policy(policy_id)
        judge = self.judges[policy_id]
        if judge is None:
            return None
        kind = _Kind(policy_id, sids, deny_only, places)
        known = self._masks.get(kind)
        if known is None:
            specimens = self._specimens_at(places)
            token, assumed = judge.token_of(sids_of(sids, self.named), sids_of(deny_only, self.named))
            known = self._masks[kind] = (judge.masks(specimens, token), assumed)
        return known

    def _sids_that_matter(self) -> tuple[str, ...]:
        """The SIDs of rules that match a file to be judged: in nothing else can one token differ from another."""
        found = {sid.upper() for sid in self.groups}
        judges = [judge for judge in self.judges.values() if judge is not None]
        known: set[tuple[File, str]] = set()
        for places in dict.fromkeys(self.places.values()):
            for one in self._specimens_at(places):
                for file in dict.fromkeys((one.file, one.file_after)):
                    if (file, one.collection) not in known:
                        known.add((file, one.collection))
                        for judge in judges:
                            for layer in judge.layers:
                                found |= layer.after.sids_that_matter(file, one.collection)
                                if self.removed:
                                    found |= layer.before.sids_that_matter(file, one.collection)
        return tuple(sorted(found - STANDARD_USER.sids))

    def _specimens_at(self, places: Places) -> list[Specimen]:
        specimens = self._specimens.get(places)
        if specimens is None:
            specimens = self._specimens[places] = specimens_of(
                self.catalogue,
                places,
                self.rule_set.project_roots,
                (*self.rules, *self.removed),
                self._covered,
                self._paths,
                self.moves,
            )
        return specimens

    @property
    def judgements(self) -> int:
        return sum(judge.judgements for judge in self.judges.values() if judge is not None)

    def _add_policy(self, policy_id: int) -> None:
        body = self.bodies[policy_id]
        base = self.rule_set.base
        policy: Policy | None
        if self.is_intune and base is not None and has_intune_policy(body):
            policy = group_policy_of(body)
            layers = (
                None
                if policy is None
                else layers_for(policy, self.rules, intune_base=base.policy, removed=self.removed)
            )
        elif self.is_intune:
            policy, layers = reported_policy(body), None  # Intune's policy is not in force there
        else:
            policy = reported_policy(body)
            layers = None if policy is None else layers_for(policy, self.rules, removed=self.removed)
        self.policies[policy_id] = policy
        self.judges[policy_id] = None if layers is None else Judge(layers, self.rules, self.groups)


def categories(masks: Masks, told: Told) -> tuple[int, ...]:
    """Of each category the patterns, as bits: what was seen at them, and what the rules say before and after."""
    refused, seen_open = told.applocker, told.tried & ~told.applocker & ~told.others
    newly = refused & masks.after & ~masks.before
    newly_builds = refused & masks.builds & ~masks.after & ~masks.before
    unexplained = refused & masks.before
    still = refused & ~newly & ~newly_builds & ~unexplained
    newly_blocked = seen_open & (masks.before & ~masks.after | masks.lost)
    return newly, newly_builds, still, told.others, newly_blocked, seen_open & ~newly_blocked, unexplained


def simulate(
    session: Session,
    rule_set: RuleSet,
    draft: Draft,
    *,
    catalogue: Catalogue | None = None,
    progress: Progress | None = None,
    with_sightings: bool = True,
) -> Simulated:
    """Judge a draft against the whole fleet. `progress` hears of (profiles done, profiles)."""
    simulator = Simulator(session, rule_set, draft, catalogue=catalogue)
    profiles = read_profiles(session, simulator.named)
    told = read_told(session, {one.probes_id for one in profiles}, simulator.catalogue)
    count = _Count(simulator)
    for place, one in enumerate(profiles):
        if progress is not None and place % 2000 == 0:
            progress(place, len(profiles))
        count.add(one, told.get(one.probes_id, NOTHING_TOLD), simulator.places.get(one.environment_id, ()))
    asked = _asked(simulator)
    sightings, counts = judge_sightings(session, simulator, asked) if with_sightings else ((), SightingCounts())
    return count.result(len(profiles), read_group_names(session), asked, sightings, counts)


def _asked(simulator: Simulator) -> frozenset[str]:
    """The patterns that somebody asked for. A junction is judged by its target: who asks for that asks for it."""
    asked = {item.pattern for item in simulator.rule_set.items if item.kind != "leave"}
    return frozenset(asked | {one.id for one in simulator.catalogue.patterns if one.covered_by in asked})


class _Count:
    """Adds profiles up: by category and group the number of subjects for each distinct set of patterns."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.base = self.unreadable = self.not_reached = self.assumed = self.untold = 0
        self.by_mask: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
        self.newly_of: dict[tuple[int, int], Counter[int]] = {}
        self.opened: Counter[tuple[int, int]] = Counter()
        self.closed: Counter[tuple[int, str]] = Counter()
        self.moved: Counter[tuple[int, str]] = Counter()
        self.started: Counter[str] = Counter()
        self.audited: Counter[str] = Counter()
        self.mode_changes: Counter[str] = Counter()
        self.with_base: Counter[int] = Counter()
        self.commands: dict[str, Counter[tuple[bool, bool]]] = defaultdict(Counter)
        self.policies: set[int] = set()
        self._kinds: dict[int, tuple[Masks, Counter[tuple[int, int]], Counter[int]]] = {}
        self._states: Counter[tuple[int, int, int]] = Counter()
        catalogue = simulator.catalogue
        self._place = {pattern.id: place for place, pattern in enumerate(catalogue.patterns)}
        self._base_rules = _content_of(simulator.rule_set)

    def add(self, one: Profile, told: Told, places: Places) -> None:
        subjects = one.subjects
        self.base += subjects
        if one.policy_id is None:
            self.unreadable += subjects
            return
        found = self.simulator.masks_of(one.policy_id, one.sids, one.deny_only, places)
        if found is None:
            readable = self.simulator.policies.get(one.policy_id) is not None
            if readable:
                self.not_reached += subjects
            else:
                self.unreadable += subjects
            return
        masks, assumed = found
        self.policies.add(one.policy_id)
        if assumed:
            self.assumed += subjects
        if told is NOTHING_TOLD:
            self.untold += subjects
        found_masks = categories(masks, told)
        newly, newly_builds, still, _, newly_blocked, is_open, _ = found_masks
        group = one.group_id
        for category, mask in zip(CATEGORIES, found_masks, strict=True):
            if mask:
                self.by_mask[category, group][mask] += subjects
        kind = self._kinds.get(id(masks))
        if kind is None:
            kind = self._kinds[id(masks)] = (masks, Counter(), Counter())
        kind[1][newly | newly_builds, still] += subjects
        self._states[is_open | newly_blocked, is_open | newly | newly_builds, told.tried] += subjects
        self.with_base[one.policy_id] += subjects

    def result(
        self,
        profiles: int,
        groups: Mapping[int, str],
        asked: frozenset[str],
        sightings: tuple[SightingOutcome, ...],
        sighting_counts: SightingCounts,
    ) -> Simulated:
        simulator = self.simulator
        self._explain()
        self._judge_commands()
        for policy_id, subjects in self.with_base.items():
            self._note_collections(policy_id, subjects)
        lines = self._lines(asked, groups)
        with_base = sum(subjects for policy_id, subjects in self.with_base.items() if self._has_base(policy_id))
        return Simulated(
            base=self.base,
            unreadable=self.unreadable,
            not_reached=self.not_reached,
            assumed=self.assumed,
            # Agents tell that Intune has a policy there, and not which.
            with_base=0 if simulator.is_intune else with_base,
            base_assumed=with_base if simulator.is_intune else 0,
            policies=len(self.policies),
            profiles=profiles,
            judgements=simulator.judgements,
            patterns=lines,
            workflows=self._workflow_lines(),
            sightings=sightings,
            sighting_counts=sighting_counts,
            starts_default_deny=_most_first(self.started),
            only_audited=_most_first(self.audited),
            mode_changes=_most_first(self.mode_changes),
            groups=tuple(sorted(groups.values())),
        )

    def _lines(self, asked: frozenset[str], groups: Mapping[int, str]) -> tuple[PatternOutcome, ...]:
        totals: dict[int, Counter[str]] = defaultdict(Counter)
        by_group: dict[int, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for (category, group), masks in self.by_mask.items():
            for mask, subjects in masks.items():
                for place in _places(mask):
                    totals[place][category] += subjects
                    by_group[place][category][groups.get(group, f"group {group}")] += subjects
        rules = self.simulator.rules
        opened: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
        for (place, rule), subjects in sorted(self.opened.items(), key=lambda one: (-one[1], one[0])):
            opened[place].append((rules[rule].id, rules[rule].name, subjects))
        closed: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for (place, why), subjects in sorted(self.closed.items(), key=lambda one: (-one[1], one[0])):
            closed[place].append((why, subjects))
        moved: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for (place, why), subjects in sorted(self.moved.items(), key=lambda one: (-one[1], one[0])):
            moved[place].append((why, subjects))
        return tuple(
            PatternOutcome(
                pattern=pattern.id,
                asked=pattern.id in asked,
                newly=totals[place]["newly"],
                newly_builds=totals[place]["newly_builds"],
                still=totals[place]["still"],
                others=totals[place]["others"],
                newly_blocked=totals[place]["newly_blocked"],
                open=totals[place]["open"],
                unexplained=totals[place]["unexplained"],
                by_group=tuple((category, _most_first(counts)) for category, counts in sorted(by_group[place].items())),
                opened_by=tuple(opened[place]),
                closed_by=tuple(closed[place]),
                moved_by=tuple(moved[place]),
            )
            for place, pattern in enumerate(self.simulator.catalogue.patterns)
            if totals.get(place)
        )

    def _explain(self) -> None:
        """Which rules open a pattern and why one stays closed, for how many."""
        for masks, changes, _ in self._kinds.values():
            for (newly, still), subjects in changes.items():
                for place in _places(newly):
                    for rule in masks.opened_by.get(place, ()):
                        self.opened[place, rule] += subjects
                    if place in masks.moved_by:
                        self.moved[place, self._why_moved(place, masks.moved_by[place])] += subjects
                for place in _places(still):
                    self.closed[place, masks.closed_by.get(place, "no rule matches")] += subjects

    def _why_moved(self, place: int, rule: str) -> str:
        """The variables that move a pattern, or that which it leads to, and what allows files where it will be."""
        pattern = self.simulator.catalogue.patterns[place]
        names = [
            one.name
            for one in self.simulator.draft.settings
            if pattern.id in one.patterns or pattern.covered_by in one.patterns
        ]
        moved = " and ".join(names) if names else "a moved folder"
        return f"{moved}, to where the rule {rule!a} allows it" if rule else f"{moved}, to where no rule is needed"

    def _judge_commands(self) -> None:
        needs = {
            workflow.id: sum(1 << self._place[name] for name in workflow.needs)
            for workflow in self.simulator.catalogue.workflows
            if workflow.needs
        }
        for (was, now, tried), subjects in self._states.items():
            for name, mask in needs.items():
                if mask & tried == mask:  # nothing is known of who never tried it
                    self.commands[name][was & mask == mask, now & mask == mask] += subjects

    def _workflow_lines(self) -> tuple[WorkflowOutcome, ...]:
        return tuple(
            WorkflowOutcome(
                workflow=name,
                works=counts[True, True],
                newly=counts[False, True],
                still=counts[False, False],
                newly_blocked=counts[True, False],
            )
            for name, counts in sorted(self.commands.items())
        )

    def _note_collections(self, policy_id: int, subjects: int) -> None:
        """Collections that become stricter or laxer, that only log, or whose first rules these would be."""
        judge = self.simulator.judges[policy_id]
        for change in changes_in_layers(judge.layers) if judge is not None else ():
            self.mode_changes[change] += subjects
        policy = self.simulator.policies[policy_id]
        if policy is None or self.simulator.is_intune:
            return
        for name in sorted({rule.collection for rule in self.simulator.rules}):
            found = policy.collection(name)
            if found is None or not found.rules:
                self.started[name] += subjects
            elif found.is_audited:
                self.audited[name] += subjects

    def _has_base(self, policy_id: int) -> bool:
        policy = self.simulator.policies[policy_id]
        if policy is None or not self._base_rules:
            return False
        if self.simulator.is_intune:
            return True
        return self._base_rules <= {rule.id.lower() for _, rule in policy.rules()}


def _content_of(rule_set: RuleSet) -> frozenset[str]:
    if rule_set.base is None:
        return frozenset()
    return frozenset(rule.id.lower() for _, rule in rule_set.base.policy.rules())


def _places(mask: int) -> Sequence[int]:
    """The places of a number's bits.

    >>> _places(0b1010)
    [1, 3]
    """
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _most_first(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
