"""Taking rules of ours out: a draft of those that were chosen, the script that does it, and which are on their way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.applocker.model import Policy
from app.applocker.write import render_collection
from app.audit.record import Actor
from app.errors import InvalidError, NotFoundError
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, Tally
from app.policies.arrival import rules_in_force
from app.policies.base_policies import take_seen_policy
from app.policies.bundle import MAX_INTUNE_BYTES, OMA_NAMES, Delivery
from app.policies.judgement import without_rules
from app.policies.kept import kept_rule
from app.policies.offers import MOST_POLICIES, find_our_rules, list_offers
from app.policies.plan import PlannedRule
from app.policies.rule_sets import MAX_REMOVED, State, remove_rules
from app.policies.tables_rule_sets import RuleSetRow
from app.policies.target_scripts import removal_script


def draft_removal(session: Session, rule_ids: Collection[str], *, at: datetime, days: int, actor: Actor) -> int:
    """A new rule set that takes rules of ours out; its id. Its base is the policy in force that has most of them.

    raises: InvalidError about `rules` for none, for too many, or for one that no export of ours added.
    """
    wanted = sorted({one.strip().strip("{}").lower() for one in rule_ids if one.strip()})
    if not 1 <= len(wanted) <= MAX_REMOVED:
        raise InvalidError(f"Choose 1 to {MAX_REMOVED} rules to take out.", field="rules")
    ours = find_our_rules(session, wanted)
    unknown = [one for one in wanted if one not in ours]
    if unknown:
        raise InvalidError(f"No export of ours added a rule {unknown[0][:40]!a}.", field="rules")
    grounds = {one.rule.id.lower(): one.grounds for one in list_offers(session, at, days=days).offers}
    lines = [
        f"{ours[one].rule.name}: {' '.join(ground.sentence for ground in grounds.get(one, ())) or 'chosen by hand.'}"
        for one in wanted
    ]
    count = len(wanted)
    return remove_rules(
        session,
        [{**kept_rule(ours[one].rule), "id": one} for one in wanted],
        name=f"Take out {count} rule{'' if count == 1 else 's'}",
        purpose="\n".join("".join(c if c.isprintable() else "?" for c in line)[:300] for line in lines)[:4000],
        base_id=_base_with(session, frozenset(wanted), actor),
        actor=actor,
    )


def find_pending(session: Session) -> dict[str, int]:
    """Rules that a rule set takes out, and the newest such rule set that is not retired."""
    rows = session.execute(
        select(RuleSetRow.id, RuleSetRow.removes)
        .where(RuleSetRow.state != State.RETIRED.value)
        .order_by(RuleSetRow.id.desc())
        .limit(500)
    )
    found: dict[str, int] = {}
    for rule_set_id, removes in rows:
        for one in removes:
            found.setdefault(one["id"].lower(), rule_set_id)
    return found


def removal_files(
    removed: Sequence[PlannedRule],
    base: Policy | None,
    delivery: Delivery,
    *,
    states: Sequence[str] = (),
    seen_ids: Iterable[str] = (),
) -> Mapping[str, bytes]:
    """What a package needs to take rules out: a script, or for Intune the grouping's collections without them.

    `base`: for Intune the grouping's policy; `states`, `seen_ids`: the targets that are taken (see `removal_script`).

    raises: InvalidError about `delivery` for a collection that would be empty, or is too large for Intune.
    """
    if not removed:
        return {}
    if delivery is not Delivery.INTUNE or base is None:
        is_separate = delivery is Delivery.SEPARATE_GPO
        # A base of one policy is no object of its own, whose state nobody knows.
        script = removal_script(
            removed, is_separate=is_separate, states=() if is_separate else states, seen_ids=seen_ids
        )
        return {"remove.ps1": script}
    changed = {rule.collection for rule in removed}
    files = {}
    for collection in without_rules(base, removed).collections:
        if collection.type not in changed:
            continue
        if not collection.rules:
            raise InvalidError(
                f"Without these rules {collection.type} would have none, and everything of that kind would run.",
                field="delivery",
            )
        text = render_collection(collection).encode()
        if len(text) > MAX_INTUNE_BYTES:
            raise InvalidError(
                f"The {collection.type} collection has {len(text)} bytes; Intune takes {MAX_INTUNE_BYTES}.",
                field="delivery",
            )
        files[f"intune/{OMA_NAMES[collection.type]}.xml"] = text
        old = base.collection(collection.type)
        if old is not None:
            files[f"intune-before/{OMA_NAMES[collection.type]}.xml"] = render_collection(old).encode()
    return files


def _base_with(session: Session, wanted: frozenset[str], actor: Actor) -> int | None:
    """The policy in force that has most of the rules, of those for most users, kept as a base; None if none has any."""
    total = func.sum(Tally.subjects)
    rows = session.execute(
        select(FactSet.id, FactSet.body, total)
        .join(Tally, Tally.set_id == FactSet.id)
        .where(Tally.standing == Standing.COUNTED.value, FactSet.kind == KIND_NUMBERS["policy"], Tally.subjects > 0)
        .group_by(FactSet.id, FactSet.body)
        .order_by(total.desc(), FactSet.id)
        .limit(MOST_POLICIES)
    )
    found = [
        (len((there.ids | there.changed) & wanted), int(users), set_id)
        for set_id, there, users in ((set_id, rules_in_force(body), users) for set_id, body, users in rows)
    ]
    for count, _, set_id in sorted(found, reverse=True)[:5]:
        if not count:
            return None
        try:
            return take_seen_policy(session, set_id, actor=actor).id
        except (InvalidError, NotFoundError):
            continue
    return None
