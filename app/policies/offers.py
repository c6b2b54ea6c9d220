"""Rules of ours that could go: nothing used them for long, another rule does all that they do, or their uv is gone.

Only what is in force is offered, each with its evidence. What nobody knows is said: where no agent counts uses, no rule
is called unused.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from app.applocker.coverage import covers
from app.applocker.model import Action, Machine, Policy, Rule
from app.db.base import to_ms
from app.fleet.rule_uses import DAY_MS, RuleUses, read_rule_uses
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, Daily, FactSet, Tally, VersionTally
from app.policies.arrival import rules_in_force
from app.policies.kept import planned_rule
from app.policies.plan import PlannedRule
from app.policies.reported_policy import reported_policy
from app.policies.tables import ExportRow, ExportRule

MOST_RULES = 2_000
MOST_POLICIES = 2_000
"""So many policies in force, those of most users, are looked through for our rules."""
MOST_JUDGED = 50
"""In so many of them rules are held against each other."""
_VERSION = re.compile(r"(?<![\d.])(\d+\.\d+\.\d+)(?![\d.])")
_REMEMBERED: OrderedDict[bytes, Policy | None] = OrderedDict()
_MOST_REMEMBERED = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Why a rule could go. `kind`: unused, shadowed or release-gone; `sentence`: the evidence, in words."""

    kind: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One rule that could go. `users`: under policies that have it; `exported_at`: when it left first."""

    rule: PlannedRule
    export_id: int
    exported_at: datetime
    users: int
    grounds: tuple[Ground, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """All that could go, those of most users first. `looked_at`: rules of ours in force; `days`: how far back.

    `counting`: hosts that count uses, 0 if none does; `counted_since`: the first day that was counted.
    """

    offers: tuple[Offer, ...]
    looked_at: int
    days: int
    counting: int
    counted_since: date | None


@dataclass(frozen=True, slots=True)
class OurRule:
    """A rule that an export added: as planned, by which export last, and since when there is one."""

    rule: PlannedRule
    export_id: int
    first_at: datetime


def list_offers(session: Session, at: datetime, *, days: int) -> Offers:
    """What could go, judged by the last `days` days."""
    ours = find_our_rules(session)
    in_force, policies = _in_force(session, ours.keys())
    uses = read_rule_uses(session, in_force.keys(), at=at, days=days)
    long_ago = at - timedelta(days=days)
    old = {rule_id: one for rule_id, one in ours.items() if rule_id in in_force and one.first_at <= long_ago}
    grounds: defaultdict[str, list[Ground]] = defaultdict(list)
    for rule_id in sorted(uses.unused & old.keys()):
        grounds[rule_id].append(_unused(rule_id, uses))
    for rule_id, ground in _gone(session, old, at, days):
        grounds[rule_id].append(ground)
    for rule_id, ground in _shadowed({name: ours[name] for name in in_force}, policies):
        grounds[rule_id].append(ground)
    found = [
        Offer(
            rule=ours[rule_id].rule,
            export_id=ours[rule_id].export_id,
            exported_at=ours[rule_id].first_at,
            users=in_force[rule_id],
            grounds=tuple(some),
        )
        for rule_id, some in grounds.items()
    ]
    return Offers(
        offers=tuple(sorted(found, key=lambda one: (-one.users, one.rule.id))),
        looked_at=len(in_force),
        days=days,
        counting=uses.reporting,
        counted_since=uses.since,
    )


def find_our_rules(session: Session, wanted: Iterable[str] | None = None) -> dict[str, OurRule]:
    """Rules that exports added, by id in small letters, as the newest export planned them; all, or those `wanted`."""
    query = select(ExportRule.rule_id, func.max(ExportRule.export_id), func.min(ExportRow.made_at)).join(
        ExportRow, ExportRow.id == ExportRule.export_id
    )
    if wanted is not None:
        query = query.where(ExportRule.rule_id.in_(sorted(set(wanted))[:MOST_RULES]))
    rows = session.execute(
        query.group_by(ExportRule.rule_id)
        .order_by(func.max(ExportRule.export_id).desc(), ExportRule.rule_id)
        .limit(MOST_RULES)
    ).all()
    exports = sorted({export_id for _, export_id, _ in rows})
    planned: dict[tuple[int, str], PlannedRule] = {}
    for begin in range(0, len(exports), 100):
        for export_id, choices in session.execute(
            select(ExportRow.id, ExportRow.choices).where(ExportRow.id.in_(exports[begin : begin + 100]))
        ):
            for kept in choices["plan"]["rules"]:
                rule = planned_rule(kept)
                planned[export_id, rule.id.lower()] = rule
    return {
        rule_id: OurRule(planned[export_id, rule_id], export_id, first_at)
        for rule_id, export_id, first_at in rows
        if (export_id, rule_id) in planned
    }


def _in_force(
    session: Session, wanted: Iterable[str]
) -> tuple[dict[str, int], list[tuple[Policy, int, frozenset[str]]]]:
    """Users under policies that have each rule, and the policies of most users as far as they can be judged."""
    ours = frozenset(wanted)
    if not ours:
        return {}, []
    total = func.sum(Tally.subjects)
    rows = session.execute(
        select(Tally.set_id, total)
        .join(FactSet, FactSet.id == Tally.set_id)
        .where(Tally.standing == Standing.COUNTED.value, FactSet.kind == KIND_NUMBERS["policy"], Tally.subjects > 0)
        .group_by(Tally.set_id)
        .order_by(total.desc(), Tally.set_id)
        .limit(MOST_POLICIES)
    ).all()
    users_of = {set_id: int(users) for set_id, users in rows}
    having: defaultdict[str, int] = defaultdict(int)
    policies = []
    ids = list(users_of)
    judged = 0
    for begin in range(0, len(ids), 500):
        some = ids[begin : begin + 500]
        bodies = {
            set_id: (bytes(digest), body)
            for set_id, digest, body in session.execute(
                select(FactSet.id, FactSet.digest, FactSet.body).where(FactSet.id.in_(some))
            )
        }
        for set_id in (one for one in some if one in bodies):
            digest, body = bodies[set_id]
            rules = rules_in_force(body).ids & ours
            for rule_id in rules:
                having[rule_id] += users_of[set_id]
            if rules and judged < MOST_JUDGED:
                judged += 1
                policy = _parsed(digest, body)
                if policy is not None:
                    policies.append((policy, users_of[set_id], frozenset(rules)))
    return dict(having), policies


def _parsed(digest: bytes, body: str) -> Policy | None:
    """A reported policy; a set's body never changes."""
    if digest not in _REMEMBERED:
        _REMEMBERED[digest] = reported_policy(body)
        while len(_REMEMBERED) > _MOST_REMEMBERED:
            _REMEMBERED.popitem(last=False)
    return _REMEMBERED.get(digest)


def _unused(rule_id: str, uses: RuleUses) -> Ground:
    hosts = uses.counted_on[rule_id]
    return Ground(
        kind="unused",
        sentence=f"Nothing used it in {uses.days} days on {hosts:,} host{'' if hosts == 1 else 's'} that count uses.",
    )


def _gone(session: Session, old: Mapping[str, OurRule], at: datetime, days: int) -> Iterable[tuple[str, Ground]]:
    """Rules that name a uv release which no host had."""
    catalogue = load_catalogue()
    of_uv = {one.id for one in catalogue.patterns if one.group == "uv-binary" or one.id.startswith("self-replace")}
    versions = {
        rule_id: found[1]
        for rule_id, one in old.items()
        if one.rule.kind == "hash"
        and one.rule.patterns
        and set(one.rule.patterns) <= of_uv
        and (found := _VERSION.search(one.rule.build or "")) is not None
    }
    if not versions:
        return
    today = to_ms(at) // DAY_MS
    names = sorted(set(versions.values()))
    first_day = session.scalar(select(func.min(Daily.day)).where(Daily.what == "version"))
    if first_day is None or first_day > today - days:
        return  # nobody knows what was there then
    seen = set(
        session.scalars(
            select(Daily.name).where(
                Daily.what == "version", Daily.name.in_(names), Daily.day > today - days, Daily.subjects > 0
            )
        )
    )
    seen |= set(
        session.scalars(select(VersionTally.version).where(VersionTally.version.in_(names), VersionTally.subjects > 0))
    )
    for rule_id, version in sorted(versions.items()):
        if version not in seen:
            yield rule_id, Ground(kind="release-gone", sentence=f"No host has had uv {version} for {days} days.")


def _shadowed(
    ours: Mapping[str, OurRule], policies: Sequence[tuple[Policy, int, frozenset[str]]]
) -> Iterable[tuple[str, Ground]]:
    """Rules all of whose files and users another Allow rule matches, in every policy looked at that has them."""
    machine = Machine()
    by_rule: defaultdict[str, list[Rule | None]] = defaultdict(list)
    for policy, _, ids in policies:
        allowing = {one.type: [rule for rule in one.rules if rule.action is Action.ALLOW] for one in policy.collections}
        for rule_id in ids:
            rule = ours[rule_id].rule.rule
            wider = next(
                (
                    other
                    for other in allowing.get(ours[rule_id].rule.collection, ())
                    if other.id.lower() != rule_id and _does_all(other, rule, machine)
                ),
                None,
            )
            by_rule[rule_id].append(wider)
    for rule_id, found in sorted(by_rule.items()):
        if found and all(found):
            first = found[0]
            assert first is not None  # noqa: S101 - all are
            places = f"in all {len(found)} policies looked at" if len(found) > 1 else "in the policy that has it"
            yield (
                rule_id,
                Ground(kind="shadowed", sentence=f"The rule “{first.name[:120]}” allows all that it allows, {places}."),
            )


def _does_all(wide: Rule, narrow: Rule, machine: Machine) -> bool:
    """Of two that do the same, the one with the smaller id stays."""
    if not covers(wide, narrow, machine):
        return False
    return wide.id.lower() < narrow.id.lower() or not covers(narrow, wide, machine)
