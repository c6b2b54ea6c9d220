"""Which users, exports, rule sets and baseline files an upgrade of uv breaks, before anybody upgrades.

Users are grouped by what they report: each distinct policy and token class is judged once.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, cast, exists, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import Integer

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from agent.catalogue.changes import Changes, compare_versions, read_version
from app.applocker.evaluate import compile_policy
from app.applocker.model import STANDARD_USER, Policy, Token
from app.errors import InvalidError
from app.fleet.bodies import iterate_bodies
from app.fleet.facts import version_mark
from app.fleet.groups import read_group_names
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Subject, VersionTally
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.queries_exports import list_kept_exports
from app.policies.queries_rule_sets import get_rule_sets, list_open_rule_sets
from app.policies.reported_policy import reported_policy, sids_of_token
from app.policies.roots import Places, read_places
from app.preflight.compare import Break, ReleaseFile, files_of_release, find_breaks

MAX_EXPORTS = 30
MAX_RULE_SETS = 30
MAX_PLACES = 100
"""So many ways in which folders lie elsewhere are judged, those of most users; others as on most machines."""

_UV_FILE = re.compile(r"(?i)uv[xw]?\.exe")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPattern:
    """A pattern that the upgrade closes, how, an example, and for how many users."""

    pattern: str
    kind: str
    path: str
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenGroup:
    """A group's users of the version, and how many of them the upgrade breaks."""

    id: int
    name: str
    users: int
    broken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRules:
    """An export, a rule set or a baseline file whose rules no longer do all of what they were for."""

    kind: str
    id: int
    name: str
    breaks: tuple[Break, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """An upgrade from one uv to another, before anybody does it.

    `users` have the old version, are not administrators and under an enforced policy; `unreadable`: of these the policy
    could not be judged; `broken`: for whom something closes that was open. `baseline`: recorded files of uv; hash rules
    made of them don't know the new release's.
    """

    before: str
    after: str
    changes: Changes
    users: int
    unreadable: int
    broken: int
    policies: int
    judgements: int
    patterns: tuple[BrokenPattern, ...]
    groups: tuple[BrokenGroup, ...]
    rules: tuple[BrokenRules, ...]
    baseline: tuple[str, ...]
    exports_checked: int
    rule_sets_checked: int


def default_versions(session: Session, catalogue: Catalogue | None = None) -> tuple[str | None, str]:
    """The newest version in the fleet that is older than the catalogue's newest (None: none is), and that newest."""
    newest = (catalogue or load_catalogue()).newest_uv
    older = [one for one in versions_in_fleet(session) if read_version(one) < read_version(newest)]
    return (older[0] if older else None), newest


def versions_in_fleet(session: Session) -> tuple[str, ...]:
    """The versions that users run, newest first; only such as can be compared."""
    rows = session.scalars(
        select(VersionTally.version).where(VersionTally.version != "", VersionTally.subjects > 0).distinct()
    )
    found = []
    for version in rows:
        try:
            found.append((read_version(version), version))
        except ValueError:
            continue
    return tuple(version for _key, version in sorted(found, reverse=True))


def count_users_of(session: Session, version: str) -> int:
    """How many users that count have a version."""
    count = session.scalar(
        select(func.sum(VersionTally.subjects)).where(
            VersionTally.version == version, VersionTally.standing == Standing.COUNTED.value
        )
    )
    return int(count or 0)


def check_versions(before: str, after: str) -> None:
    """raises: InvalidError about `from` or `to` for what is no version of uv"""
    for name, version in (("from", before), ("to", after)):
        try:
            read_version(version)
        except ValueError as error:
            raise InvalidError(f"{error}.", field=name) from error


def check_upgrade(
    session: Session,
    before: str,
    after: str,
    *,
    catalogue: Catalogue | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Preflight:
    """What an upgrade breaks. `tell` hears how many policies of how many are judged.

    raises: InvalidError about `from` or `to` for what is no version of uv
    """
    catalogue = catalogue or load_catalogue()
    check_versions(before, after)
    changes = compare_versions(catalogue, before, after)
    by_policy = _profiles(session, before)
    ids = {one for policy, classes in by_policy.items() for one in (policy, *(token for token, *_ in classes))}
    bodies: dict[int | None, str] = dict(iterate_bodies(session, ids))
    releases: dict[Places, tuple[Mapping[tuple[str, str], ReleaseFile], Mapping[tuple[str, str], ReleaseFile]]] = {}
    patterns: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    groups: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    users = unreadable = broken = judgements = policies = 0
    for place, (policy_id, classes) in enumerate(by_policy.items()):
        if tell is not None:
            tell(place, len(by_policy))
        policy = reported_policy(bodies.get(policy_id)) if policy_id is not None else None
        compiled = compile_policy(policy) if policy is not None else None
        policies += compiled is not None
        named = {rule.sid.upper() for _, rule in policy.rules()} if policy is not None else set()
        known: dict[tuple[frozenset[str], Places], tuple[Break, ...]] = {}
        for (token_id, group_id, where), subjects in classes.items():
            users += subjects
            groups[group_id][0] += subjects
            if compiled is None:
                unreadable += subjects
                continue
            sids = sids_of_token(bodies.get(token_id)) & (named | STANDARD_USER.sids)
            if (sids, where) not in known:
                if where not in releases:
                    releases[where] = (
                        files_of_release(catalogue, before, where=where),
                        files_of_release(catalogue, after, where=where),
                    )
                old, new = releases[where]
                known[sids, where] = find_breaks(old, new, compiled, Token(sids=sids), catalogue.workflows)
                judgements += len(old) + len(new)
            for one in known[sids, where]:
                patterns[one.pattern, one.kind, one.path] += subjects
            if any(one.kind != "later" for one in known[sids, where]):
                broken += subjects
                groups[group_id][1] += subjects
    exports, rule_sets, rules = _rules(session, catalogue, before, after)
    names = read_group_names(session)
    return Preflight(
        before=before,
        after=after,
        changes=changes,
        users=users,
        unreadable=unreadable,
        broken=broken,
        policies=policies,
        judgements=judgements,
        patterns=tuple(
            BrokenPattern(pattern=pattern, kind=kind, path=path, users=count)
            for (pattern, kind, path), count in sorted(patterns.items(), key=lambda item: (-item[1], item[0]))
        ),
        groups=tuple(
            BrokenGroup(id=group, name=names.get(group, "?"), users=all_users, broken=broken_users)
            for group, (all_users, broken_users) in sorted(groups.items(), key=lambda item: -item[1][1])
        ),
        rules=rules,
        baseline=tuple(dict.fromkeys(one.name for one in list_baseline_files(session) if _UV_FILE.fullmatch(one.name)))
        if before != after
        else (),
        exports_checked=exports,
        rule_sets_checked=rule_sets,
    )


def as_values(found: Preflight) -> dict[str, object]:
    """The answer as JSON values; of what changes only the names."""
    changes = found.changes
    told: dict[str, Any] = {
        field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "changes"
    }
    for name in ("patterns", "groups", "rules"):
        told[name] = [dataclasses.asdict(one) for one in told[name]]
    told["changes"] = {
        "new_patterns": [one.id for one in changes.new_patterns],
        "old_patterns": [one.id for one in changes.old_patterns],
        "new_buckets": [one.folder for one in changes.new_buckets],
        "old_buckets": [one.folder for one in changes.old_buckets],
        "new_signers": [one.publisher for one in changes.new_signers],
        "old_signers": [one.publisher for one in changes.old_signers],
        "beyond_catalogue": changes.beyond,
    }
    return told


def _rules(session: Session, catalogue: Catalogue, before: str, after: str) -> tuple[int, int, tuple[BrokenRules, ...]]:
    """The newest exports and the open rule sets, each judged by its rules alone for the groups it is for."""
    found: list[BrokenRules] = []
    exports = list_kept_exports(session, limit=MAX_EXPORTS)
    for recorded in exports:
        export = recorded.export
        breaks = _breaks_of(catalogue, export.policy, export.sids, export.project_roots, before, after)
        chosen = {pattern for rule in export.rules for pattern in rule.patterns}
        if kept := tuple(one for one in breaks if one.pattern in chosen):
            found.append(BrokenRules(kind="export", id=recorded.id, name=export.file_name, breaks=kept))
    rule_sets = get_rule_sets(session, [number for number, _ in list_open_rule_sets(session, limit=MAX_RULE_SETS)])
    baseline = list_baseline_files(session) if rule_sets else ()
    for rule_set in rule_sets:
        draft = build_draft(rule_set, baseline, catalogue=catalogue)
        if draft.export is None:
            continue
        sids = [group.sid for group in rule_set.groups]
        breaks = _breaks_of(catalogue, draft.export.policy, sids, draft.export.project_roots, before, after)
        if kept := tuple(one for one in breaks if one.pattern in draft.patterns):
            found.append(BrokenRules(kind="rule set", id=rule_set.id, name=rule_set.name, breaks=kept))
    return len(exports), len(rule_sets), tuple(found)


def _breaks_of(
    catalogue: Catalogue, policy: Policy, sids: Iterable[str], roots: Iterable[str], before: str, after: str
) -> tuple[Break, ...]:
    """What an upgrade closes under some rules for a member of their groups; places that are new are not theirs."""
    folders = tuple(roots)
    old = files_of_release(catalogue, before, project_roots=folders)
    new = files_of_release(catalogue, after, project_roots=folders)
    token = Token(sids=STANDARD_USER.sids | {sid.upper() for sid in sids})
    return find_breaks(old, new, compile_policy(policy), token, ())


def _profiles(session: Session, version: str) -> dict[int | None, dict[tuple[int | None, int, Places], int]]:
    """Users who count and run a version: policy -> (token, group, what lies elsewhere) -> how many."""
    sets = select(FactSet.id).where(FactSet.kind == KIND_NUMBERS["uv"], _has_mark(session, version_mark(version)))
    columns = (Subject.policy_id, Subject.token_id, Subject.group_id, Subject.environment_id)
    query = (
        select(*columns, func.count())
        .where(Subject.standing == Standing.COUNTED.value, Subject.uv_id.in_(sets))
        .group_by(*columns)
    )
    places = read_places(session)
    rows = [(*row[:3], places.get(row[3], ()), row[4]) for row in session.execute(query)]
    users_at: defaultdict[Places, int] = defaultdict(int)
    for *_, where, subjects in rows:
        users_at[where] += subjects
    judged = set(sorted(users_at, key=lambda where: (-users_at[where], where))[:MAX_PLACES])
    found: defaultdict[int | None, defaultdict[tuple[int | None, int, Places], int]]
    found = defaultdict(lambda: defaultdict(int))
    for policy_id, token_id, group_id, where, subjects in rows:
        found[policy_id][token_id, group_id, where if where in judged else ()] += subjects
    return {policy_id: dict(classes) for policy_id, classes in found.items()}


def _has_mark(session: Session, number: int) -> ColumnElement[bool]:
    if session.get_bind().dialect.name == "postgresql":
        return FactSet.facts.bool_op("&&")(cast([number], ARRAY(Integer)))
    each = func.json_each(FactSet.facts).table_valued("value")
    return exists(select(1).select_from(each).where(each.c.value == number))
