"""Policies in force: the distinct policies that hosts report, for how many, what is wrong with each, how two differ."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.applocker.compare import Change, compare
from app.applocker.findings import Finding, Severity
from app.applocker.lint import lint
from app.applocker.model import HashCondition, PathCondition, Policy, PublisherCondition, Rule
from app.db.paging import cut_page
from app.errors import InvalidError, NotFoundError
from app.fleet.groups import read_group_names
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally
from app.policies.reported_policy import reported_policy
from app.policies.tables import ExportRule

MAX_POLICIES = 50
_SHOWN = (Standing.COUNTED.value, Standing.ADMINISTRATOR.value, Standing.NOT_ENFORCING.value)


KINDS: Mapping[type, str] = {PathCondition: "path", HashCondition: "hash", PublisherCondition: "publisher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionLine:
    """One collection of a policy: its mode as reported and how many rules it has."""

    type: str
    mode: str
    rules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLine:
    """One distinct policy. `name`: the start of its digest; `problem`: why it is not all that decides, or could not be
    judged, else None; `is_readable`: its own rules could be read, so lint and comparisons hold for them."""

    id: int
    name: str
    subjects: int
    groups: Mapping[str, int]
    collections: tuple[CollectionLine, ...]
    csp: str
    srp: bool
    errors: int
    warnings: int
    ours: int
    problem: str | None
    is_readable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPage:
    """Some policies of `total`, which `subjects` users are under, and after which to ask for more (None at the end)."""

    policies: tuple[PolicyLine, ...]
    total: int
    subjects: int
    next_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLine:
    """One rule for reading. `is_ours`: an export of ours has it."""

    id: str
    collection: str
    action: str
    name: str
    sid: str
    kind: str
    matches: str
    is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDetail:
    """One policy with its rules and what lint says of it."""

    line: PolicyLine
    rules: tuple[RuleLine, ...]
    findings: tuple[Finding, ...]


def list_policies(session: Session, *, only: int | None = None) -> tuple[PolicyLine, ...]:
    """The policies of most subjects first, at most fifty; or `only` this one."""
    return _lines(session, _reach(session, only=only), after=None, rows=MAX_POLICIES)


def page_policies(session: Session, *, after: int | None = None, rows: int = MAX_POLICIES) -> PolicyPage:
    """The policies of most subjects first, those that follow policy `after`; all are counted.

    raises: InvalidError about `after` for a policy that is in force nowhere
    """
    reach = _reach(session)
    lines, last = cut_page(_lines(session, reach, after=after, rows=rows + 1), rows)
    return PolicyPage(
        policies=tuple(lines),
        total=len(reach),
        subjects=sum(sum(groups.values()) for groups in reach.values()),
        next_after=last.id if last is not None else None,
    )


def read_policy_names(session: Session, ids: Iterable[int]) -> dict[int, str]:
    """What policies are called: the start of their digest, by id."""
    query = select(FactSet.id, FactSet.digest).where(FactSet.id.in_(set(ids)))
    return {policy_id: bytes(digest).hex()[:8] for policy_id, digest in session.execute(query)}


def find_policy(session: Session, name: str) -> int:
    """The policy in force whose digest begins so. raises: InvalidError about `named`, also where several do"""
    start = name.strip().lower()
    if not re.fullmatch("[0-9a-f]{4,64}", start):
        raise InvalidError("A policy's name is the start of its digest: 4 to 64 of 0-9 and a-f.", field="named")
    first, last = bytes.fromhex(start.ljust(64, "0")), bytes.fromhex(start.ljust(64, "f"))
    found = session.scalars(
        select(FactSet.id)
        .where(FactSet.kind == KIND_NUMBERS["policy"], FactSet.digest >= first, FactSet.digest <= last)
        .limit(2)
    ).all()
    if len(found) != 1:
        said = "Several policies have names that begin so" if found else "No policy has a name that begins so"
        raise InvalidError(f"{said}.", field="named")
    return found[0]


def _reach(session: Session, *, only: int | None = None) -> dict[int, dict[int, int]]:
    """For each policy in force how many subjects of each group are under it."""
    subjects_of: defaultdict[int, dict[int, int]] = defaultdict(dict)
    query = (
        select(Tally.set_id, Tally.group_id, func.sum(Tally.subjects))
        .join(FactSet, FactSet.id == Tally.set_id)
        .where(FactSet.kind == KIND_NUMBERS["policy"], Tally.standing.in_(_SHOWN), Tally.subjects > 0)
        .group_by(Tally.set_id, Tally.group_id)
    )
    if only is not None:
        query = query.where(Tally.set_id == only)
    for set_id, group_id, subjects in session.execute(query):
        subjects_of[set_id][group_id] = int(subjects)
    return subjects_of


def _lines(
    session: Session, reach: Mapping[int, Mapping[int, int]], *, after: int | None, rows: int
) -> tuple[PolicyLine, ...]:
    order = sorted(reach, key=lambda set_id: (-sum(reach[set_id].values()), set_id))
    if after is not None:
        if after not in reach:
            raise InvalidError("No host reports this policy any more: begin with the first page.", field="after")
        order = order[order.index(after) + 1 :]
    most = order[:rows]
    names = read_group_names(session)
    ours = _our_rules(session)
    sets = {row.id: row for row in session.scalars(select(FactSet).where(FactSet.id.in_(most)))}
    return tuple(
        _line(sets[set_id], {names.get(group, f"group {group}"): count for group, count in reach[set_id].items()}, ours)
        for set_id in most
        if set_id in sets
    )


def get_policy(session: Session, policy_id: int) -> PolicyDetail:
    """One policy. raises: NotFoundError"""
    lines = list_policies(session, only=policy_id)
    if not lines:
        raise NotFoundError("No host reports this policy any more.")
    line = lines[0]
    policy, findings = _judged(_body(session, policy_id))
    ours = _our_rules(session)
    rules: tuple[RuleLine, ...] = ()
    if policy is not None:
        rules = tuple(
            RuleLine(
                id=rule.id,
                collection=collection,
                action=rule.action.value,
                name=rule.name,
                sid=rule.sid,
                kind=KINDS[type(rule.condition)],
                matches=matches_of(rule),
                is_ours=rule.id.lower() in ours,
            )
            for collection, rule in policy.rules()
        )
    return PolicyDetail(line=line, rules=rules, findings=findings)


def compare_policies(session: Session, before_id: int, after_id: int) -> tuple[Change, ...]:
    """What the second of two reported policies changes, by their rules from group policy.

    raises: NotFoundError, InvalidError if one can't be read
    """
    policies = []
    for policy_id in (before_id, after_id):
        policy, _findings = _judged(_body(session, policy_id))
        if policy is None:
            raise InvalidError("One of these policies could not be read as a whole, so they can't be compared.")
        policies.append(policy)
    return compare(*policies)


def matches_of(rule: Rule) -> str:
    """What a rule matches, in one line."""
    match rule.condition:
        case PathCondition(path=path):
            return path
        case PublisherCondition(publisher=publisher, product=product, binary=binary):
            return f"{publisher}, product {product}, file {binary}"
        case HashCondition(hashes=hashes):
            shown = ", ".join(one.source_name or one.data[:12] for one in hashes[:3])
            return f"{shown} and {len(hashes) - 3} more files" if len(hashes) > 3 else shown
    raise AssertionError("there are three kinds of conditions")


def _body(session: Session, policy_id: int) -> str:
    body = session.scalar(select(FactSet.body).where(FactSet.id == policy_id, FactSet.kind == KIND_NUMBERS["policy"]))
    if body is None:
        raise NotFoundError("No host reports this policy any more.")
    return body


def _our_rules(session: Session) -> frozenset[str]:
    return frozenset(session.scalars(select(ExportRule.rule_id).distinct()).all())


@lru_cache(maxsize=2 * MAX_POLICIES)
def _judged(body: str) -> tuple[Policy | None, tuple[Finding, ...]]:
    """The rules from group policy of a reported policy, and their findings, whatever device management adds.

    A set's body never changes, and judging a large one takes its time.
    """
    policy = reported_policy(json.dumps({**json.loads(body), "csp": "none"}))
    return policy, tuple(lint(policy)) if policy is not None else ()


def _line(row: FactSet, groups: Mapping[str, int], ours: frozenset[str]) -> PolicyLine:
    value = json.loads(row.body)
    gpo = value.get("gpo")
    policy, findings = _judged(row.body)
    return PolicyLine(
        id=row.id,
        name=bytes(row.digest).hex()[:8],
        subjects=sum(groups.values()),
        groups=dict(sorted(groups.items(), key=lambda item: -item[1])),
        collections=tuple(
            CollectionLine(type=name, mode=one.get("mode", "") or "NotConfigured", rules=len(one.get("rules", ())))
            for name, one in sorted((gpo or {}).items())
        ),
        csp=value.get("csp", "none"),
        srp=bool(value.get("srp", False)),
        errors=sum(one.severity is Severity.ERROR for one in findings),
        warnings=sum(one.severity is Severity.WARNING for one in findings),
        ours=_count_ours(policy, ours),
        problem=_problem(gpo, value.get("csp", "none"), policy),
        is_readable=policy is not None,
    )


def _count_ours(policy: Policy | None, ours: frozenset[str]) -> int:
    return 0 if policy is None else sum(rule.id.lower() in ours for _, rule in policy.rules())


def _problem(gpo: object, csp: str, policy: Policy | None) -> str | None:
    if gpo is None:
        return "The agent could not read the policy."
    if csp == "read":
        return "Policies from Intune are in force besides; a file must be allowed by each of them and by this one."
    if csp != "none":
        return "A policy from Intune is in force besides, which the agent may not read: what it allows is not known."
    return "It has rules that are not valid AppLocker XML." if policy is None else None
