"""What an export's rules would do to the fleet: judged against every distinct policy that counted subjects report.

Each policy in force is taken as it was reported, the new rules are put in, and the files that the export is for are
judged before and after, as a member of the rules' group. A policy and a set of SIDs that many subjects share are judged
once. Nothing here becomes part of a rule: reports are only counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue, Machine
from agent.catalogue import load as load_catalogue
from agent.catalogue.expand import fill
from app.applocker.evaluate import CompiledPolicy, collection_of, compile_policy
from app.applocker.model import (
    STANDARD_USER,
    Collection,
    File,
    Policy,
    Token,
    Verdict,
)
from app.fleet.bodies import iterate_bodies
from app.fleet.standing import Standing
from app.fleet.tables import Subject
from app.policies.coverage import example_of, typical_machine
from app.policies.export import Export
from app.policies.judgement import with_rules
from app.policies.plan import PlannedRule
from app.policies.reported_policy import reported_policy, sids_of_token
from app.policies.roots import Places, machine_at, read_places
from app.policies.specimens import with_identity

_ALLOWED = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternWhatIf:
    """One pattern under the fleet's policies: subjects for whom it is open already, would open, would stay closed.

    `deny_rules`: names of Deny rules in reported policies that keep it closed, with the number of subjects.
    """

    pattern: str
    open_already: int
    newly_open: int
    still_closed: int
    deny_rules: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What the rules would do. `base`: subjects that count; `unreadable`: their policy could not be judged.

    `starts_default_deny`: collections of which the rules would be the first, so that all else would be blocked, and for
    how many subjects; `only_audited`: collections in which those subjects' policy only logs.
    """

    base: int
    unreadable: int
    policies: int
    judgements: int
    patterns: tuple[PatternWhatIf, ...]
    starts_default_deny: tuple[tuple[str, int], ...]
    only_audited: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ExportSpecimen:
    """A file that a pattern's rule is for."""

    pattern: str
    collection: str
    file: File


@dataclass(frozen=True, slots=True)
class ExportForm:
    """What a rule is for: a pattern's template (empty if it has none), and its place on a typical machine."""

    pattern: str
    rule: PlannedRule
    template: str
    place: str


def simulate_export(
    session: Session,
    export: Export,
    *,
    group_id: int | None = None,
    catalogue: Catalogue | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> WhatIf:
    """Judge an export against the policies in force of the fleet, or of one group of hosts.

    `tell` hears how many policies of how many are judged.
    """
    forms = tuple(export_forms(export, catalogue or load_catalogue()))
    patterns: dict[str, dict[str, int]] = {
        pattern: defaultdict(int) for pattern in dict.fromkeys(one.pattern for one in forms)
    }
    places = read_places(session)
    specimens_at: dict[Places, tuple[ExportSpecimen, ...]] = {}
    denies: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    started: dict[str, int] = defaultdict(int)
    audited: dict[str, int] = defaultdict(int)
    base = unreadable = judgements = judged_policies = 0
    subjects_of = _subjects(session, group_id)
    bodies: dict[int | None, str] = dict(iterate_bodies(session, (key for three in subjects_of for key in three[:2])))
    by_policy: dict[int | None, list[tuple[int | None, Places, int]]] = defaultdict(list)
    for (policy_id, token_id, environment_id), subjects in subjects_of.items():
        by_policy[policy_id].append((token_id, places.get(environment_id, ()), subjects))
        base += subjects
    for place, (policy_id, tokens) in enumerate(by_policy.items()):
        if tell is not None:
            tell(place, len(by_policy))
        total = sum(subjects for _, _, subjects in tokens)
        policy = reported_policy(bodies.get(policy_id)) if policy_id is not None else None
        if policy is None:
            unreadable += total
            continue
        judged_policies += 1
        for collection in sorted({rule.collection for rule in export.added}):
            found = policy.collection(collection)
            if found is None or not found.rules:
                started[collection] += total
            elif found.is_audited:
                audited[collection] += total
        before, after = compile_policy(policy), compile_policy(with_rules(policy, export.added))
        names = {rule.sid.upper() for _, rule in after.policy.rules()}
        classes: dict[tuple[frozenset[str], Places], int] = defaultdict(int)
        for token_id, where, subjects in tokens:
            # Tokens that differ only in SIDs no rule names are judged once.
            classes[(sids_of_token(bodies.get(token_id)) | set(export.sids)) & names, where] += subjects
        for (sids, where), subjects in classes.items():
            token = Token(sids=sids)
            specimens = specimens_at.get(where)
            if specimens is None:
                specimens = specimens_at[where] = tuple(export_specimens_at(forms, export, where))
            judgements += 2 * len(specimens)
            for pattern, verdict, denied in _judge(specimens, before, after, token):
                patterns[pattern][verdict] += subjects
                for name in denied:
                    denies[pattern][name] += subjects
    return WhatIf(
        base=base,
        unreadable=unreadable,
        policies=judged_policies,
        judgements=judgements,
        patterns=tuple(
            PatternWhatIf(
                pattern=pattern,
                open_already=counts["open_already"],
                newly_open=counts["newly_open"],
                still_closed=counts["still_closed"],
                deny_rules=_most_first(denies[pattern]),
            )
            for pattern, counts in patterns.items()
        ),
        starts_default_deny=_most_first(started),
        only_audited=_most_first(audited),
    )


def _judge(
    specimens: Iterable[ExportSpecimen], before: CompiledPolicy, after: CompiledPolicy, token: Token
) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    """Per pattern: what becomes of it. A pattern with several specimens is open if any of them may start."""
    opened: dict[str, str] = {}
    denied: dict[str, dict[str, None]] = defaultdict(dict)
    rank = ("open_already", "newly_open", "still_closed")
    for one in specimens:
        decision = after.decide(one.file, token, one.collection)
        if before.decide(one.file, token, one.collection).verdict in _ALLOWED:
            verdict = "open_already"
        else:
            verdict = "newly_open" if decision.verdict in _ALLOWED else "still_closed"
        if decision.verdict is Verdict.DENIED:
            denied[one.pattern].update({rule.name: None for rule in decision.rules})
        known = opened.get(one.pattern)
        if known is None or rank.index(verdict) < rank.index(known):
            opened[one.pattern] = verdict
    for pattern, verdict in opened.items():
        yield pattern, verdict, tuple(denied[pattern]) if verdict == "still_closed" else ()


def export_forms(export: Export, catalogue: Catalogue) -> Iterable[ExportForm]:
    """For each rule and pattern a form of file that the rule is for."""
    machine = typical_machine(export.project_roots, export.roots)
    token = Token(sids=STANDARD_USER.sids | set(export.sids))
    for rule in export.added:
        alone = compile_policy(Policy(collections=(Collection(type=rule.collection, rules=(rule.rule,)),)))
        for name in rule.patterns:
            pattern = catalogue.pattern(name)
            source = catalogue.pattern(pattern.covered_by) if pattern.covered_by else pattern
            forms = [(template, place) for template in source.templates for place in fill(template, machine)]
            forms = forms or [("", r"C:\Users\anyone\Downloads\file.exe")]
            fitting = [one for one in forms if collection_of(example_of(one[1])) == rule.collection] or forms[:1]
            for template, place in fitting:
                file = with_identity(rule, example_of(place))
                if alone.decide(file, token, rule.collection).verdict is Verdict.ALLOWED:
                    yield ExportForm(name, rule, template, place)
                    break


def export_specimens_at(forms: Iterable[ExportForm], export: Export, where: Places) -> Iterable[ExportSpecimen]:
    """A file of each form where a workstation's folders are, but for those folders that the export moves."""
    moved, typical = machine_at(where), typical_machine(export.project_roots, export.roots)
    machine = Machine(env=moved.env, project_roots=typical.project_roots, answers={**moved.answers, **typical.answers})
    for form in forms:
        place = next(iter(fill(form.template, machine)), form.place) if where and form.template else form.place
        yield ExportSpecimen(form.pattern, form.rule.collection, with_identity(form.rule, example_of(place)))


def _subjects(session: Session, group_id: int | None) -> dict[tuple[int | None, int | None, int | None], int]:
    columns = (Subject.policy_id, Subject.token_id, Subject.environment_id)
    query = select(*columns, func.count()).where(Subject.standing == Standing.COUNTED.value).group_by(*columns)
    if group_id is not None:
        query = query.where(Subject.group_id == group_id)
    return {(row[0], row[1], row[2]): row[3] for row in session.execute(query)}


def _most_first(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))
