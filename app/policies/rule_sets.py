"""Rule sets: a draft for one base policy and some groups, from the first pattern to its retirement.

Every verb here locks the row, counts its revision up, and writes the audit entry. What changes which rules come out
puts the rule set back to draft and voids its approval: an approval is for one digest of base, draft and simulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from agent.catalogue import load as load_catalogue
from app.audit.record import Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import ConflictError, InvalidError, NotFoundError
from app.policies.base_policies import get_base_policy
from app.policies.choices import checked_project_roots, checked_roots, checked_sid, is_everybody
from app.policies.plan import rule_giver
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetItem, RuleSetRow

MAX_NAME_LETTERS = 200
MAX_PURPOSE_LETTERS = 4000
MAX_SIDS = 8
MAX_ITEMS = 100
MAX_REMOVED = 200


class State(StrEnum):
    """How far a rule set is."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    EXPORTED = "exported"
    RETIRED = "retired"


ITEM_KINDS = ("relocate", "system", "publisher", "hash", "path", "broad", "leave")
"""What may be done about a pattern. `system`: an IT-deployed, signed Python; `leave`: nothing, it stays closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Somebody whom rules are for: a SID, and what people call it."""

    sid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedToRuleSet:
    """What came of adding: the rule set, what is new in it, what was there already, what can have no rule and why."""

    rule_set_id: int
    added: tuple[str, ...]
    known: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


def create_rule_set(
    session: Session,
    *,
    name: str,
    actor: Actor,
    purpose: str = "",
    base_id: int | None = None,
    groups: Sequence[Group] = (),
) -> RuleSetRow:
    """A new draft. raises: InvalidError about `name`, `purpose`, `groups`; NotFoundError for a base there is not."""
    checked_name = checked_text(name, "name", MAX_NAME_LETTERS)
    if base_id is not None:
        get_base_policy(session, base_id)
    at = stored_now()
    row = RuleSetRow(
        name=checked_name,
        purpose=checked_text(purpose, "purpose", MAX_PURPOSE_LETTERS, lines=True, required=False),
        state=State.DRAFT.value,
        base_id=base_id,
        sids=_checked_groups(groups, "groups"),
        pilot_sids=[],
        project_roots=[],
        roots={},
        owner=actor.name[:254],
        change_number="",
        review_by=None,
        slider=0,
        revision=1,
        authors=list(actor.names),
        created_at=at,
        created_by=actor.name[:254],
        updated_at=at,
    )
    session.add(row)
    session.flush()  # the caller needs the id
    record(session, actor, "rule_set.created", checked_name, rule_set=row.id)
    return row


def add_to_rule_set(
    session: Session,
    *,
    actor: Actor,
    rule_set_id: int | None = None,
    name: str = "",
    patterns: Iterable[str] = (),
    workflows: Iterable[str] = (),
    origin: str = "pattern",
    catalogue: Catalogue | None = None,
) -> AddedToRuleSet:
    """Put patterns, and all that workflows need, into a rule set; `rule_set_id` None makes one called `name`.

    `origin` says where the wish comes from: `pattern`, `sighting`, `request:7`. A workflow is its own origin. Nothing
    but ids of the catalogue gets in, so it may be called with what workstations or strangers asked for.

    raises: NotFoundError, ConflictError (retired), InvalidError about `patterns`, `workflows` or `name`.
    """
    catalogue = catalogue or load_catalogue()
    wanted = _wanted(catalogue, patterns, workflows, origin)
    if not wanted:
        raise InvalidError("Choose at least one pattern or one uv command.", field="patterns")
    if rule_set_id is None:
        row = create_rule_set(session, name=name or _name_for(catalogue, list(wanted), workflows), actor=actor)
    else:
        row = lock_rule_set(session, rule_set_id)
    if row.removes:
        raise ConflictError("This rule set takes rules out; make another one to add rules.")
    items = {item.pattern: item for item in items_of(session, row.id)}
    added, known, refused = [], [], []
    for pattern, origins in wanted.items():
        if pattern in items:
            known.append(pattern)
            items[pattern].origins = sorted({*items[pattern].origins, *origins})
            continue
        try:
            rule_giver(catalogue, catalogue.pattern(pattern))
        except InvalidError as error:
            refused.append((pattern, error.message))
            continue
        session.add(
            RuleSetItem(
                rule_set_id=row.id,
                pattern=pattern,
                kind=None,
                files=None,
                origins=sorted(origins),
                added_at=stored_now(),
                added_by=actor.name[:254],
            )
        )
        added.append(pattern)
    if len(items) + len(added) > MAX_ITEMS:
        raise InvalidError(f"A rule set holds at most {MAX_ITEMS} patterns.", field="patterns")
    if added:
        note_change(session, row, actor, "rule_set.patterns_added", patterns=added, origin=origin)
    session.flush()
    return AddedToRuleSet(rule_set_id=row.id, added=tuple(added), known=tuple(known), refused=tuple(refused))


def choose_for_item(
    session: Session,
    rule_set_id: int,
    pattern: str,
    *,
    kind: str | None,
    files: Sequence[int] | None = None,
    roots: Mapping[str, str] | None = None,
    actor: Actor,
) -> None:
    """Say how a pattern is to be opened; `roots`: folders that a relocation moves uv to.

    raises: NotFoundError, ConflictError, InvalidError about `kind` or `roots.NAME`.
    """
    row = lock_rule_set(session, rule_set_id)
    item = _item(session, rule_set_id, pattern)
    if kind is not None and kind not in ITEM_KINDS:
        raise InvalidError(f"Choose {', '.join(ITEM_KINDS)}.", field="kind")
    item.kind = kind
    item.files = None if files is None else sorted(set(files))
    if roots:
        row.roots = {**row.roots, **checked_roots(roots)}
    note_change(session, row, actor, "rule_set.kind_chosen", pattern=pattern, kind=kind, files=item.files)


def remove_from_rule_set(session: Session, rule_set_id: int, pattern: str, *, actor: Actor) -> None:
    """Take a pattern out. raises: NotFoundError, ConflictError"""
    row = lock_rule_set(session, rule_set_id)
    session.delete(_item(session, rule_set_id, pattern))
    note_change(session, row, actor, "rule_set.pattern_removed", pattern=pattern)


def set_terms(
    session: Session,
    rule_set_id: int,
    *,
    base_id: int | None,
    groups: Sequence[Group],
    pilot: Sequence[Group] = (),
    project_roots: Sequence[str] = (),
    roots: Mapping[str, str] | None = None,
    revision: int | None = None,
    actor: Actor,
) -> None:
    """Say for which base, which groups and which folders the rules are. `revision`: the one the caller looked at.

    raises: NotFoundError, ConflictError, InvalidError about `groups`, `pilot`, `project_roots` or `roots.NAME`.
    """
    row = lock_rule_set(session, rule_set_id, revision=revision)
    if base_id is not None:
        get_base_policy(session, base_id)
    terms = (
        base_id,
        _checked_groups(groups, "groups"),
        _checked_pilot(pilot),
        list(checked_project_roots(project_roots)),
        checked_roots(roots or {}),
    )
    if terms == (row.base_id, row.sids, row.pilot_sids, row.project_roots, row.roots):
        return
    row.base_id, row.sids, row.pilot_sids, row.project_roots, row.roots = terms
    note_change(
        session,
        row,
        actor,
        "rule_set.terms_set",
        base=base_id,
        sids=[sid for sid, _ in row.sids],
        pilot=[sid for sid, _ in row.pilot_sids],
        project_roots=row.project_roots,
        roots=row.roots,
    )


def remove_rules(
    session: Session,
    rules: Sequence[Mapping[str, Any]],
    *,
    name: str,
    purpose: str = "",
    base_id: int | None = None,
    actor: Actor,
) -> int:
    """A new draft that takes rules of ours out; its id. `rules`: as `kept.kept_rule` gives them, with their ids.

    raises: InvalidError about `name` or `rules`; NotFoundError for a base there is not.
    """
    if not rules:
        raise InvalidError("Choose at least one rule to take out.", field="rules")
    if len(rules) > MAX_REMOVED:
        raise InvalidError(f"A rule set takes out at most {MAX_REMOVED} rules.", field="rules")
    row = create_rule_set(session, name=name, purpose=purpose, base_id=base_id, actor=actor)
    row.removes = [dict(one) for one in rules]
    note_change(session, row, actor, "rule_set.rules_to_remove", rules=[one["id"] for one in rules][:MAX_REMOVED])
    session.flush()
    return row.id


def keep_rule(session: Session, rule_set_id: int, rule_id: str, *, actor: Actor) -> None:
    """Let a rule stay that a draft was to take out. raises: NotFoundError, ConflictError"""
    row = lock_rule_set(session, rule_set_id)
    left = [one for one in row.removes if one["id"].lower() != rule_id.lower()]
    if len(left) == len(row.removes):
        raise NotFoundError(f"This rule set does not take out a rule {rule_id[:40]!a}.")
    row.removes = left
    note_change(session, row, actor, "rule_set.rule_kept", rule=rule_id[:36])


def set_details(
    session: Session,
    rule_set_id: int,
    *,
    name: str,
    purpose: str,
    owner: str,
    change_number: str,
    review_by: datetime | None,
    actor: Actor,
) -> None:
    """Say what the rule set is called, for what, whose it is, under which change, and when to look again.

    None of it changes a rule, so an approval stays. raises: NotFoundError, ConflictError, InvalidError
    """
    row = lock_rule_set(session, rule_set_id)
    row.name = checked_text(name, "name", MAX_NAME_LETTERS)
    row.purpose = checked_text(purpose, "purpose", MAX_PURPOSE_LETTERS, lines=True, required=False)
    row.owner = checked_text(owner, "owner", 254)
    row.change_number = checked_text(change_number, "change_number", 80, required=False)
    row.review_by = review_by
    row.updated_at = stored_now()
    record(
        session,
        actor,
        "rule_set.details_set",
        row.name,
        rule_set=row.id,
        owner=row.owner,
        change_number=row.change_number,
        review_by=review_by.date().isoformat() if review_by else None,
    )


def retire_rule_set(session: Session, rule_set_id: int, *, actor: Actor) -> None:
    """Close a rule set for good. What it exported stays where it is. raises: NotFoundError, ConflictError"""
    row = lock_rule_set(session, rule_set_id)
    void_approvals(session, row, actor, "The rule set was retired.")
    row.state = State.RETIRED.value
    row.updated_at = stored_now()
    record(session, actor, "rule_set.retired", row.name, rule_set=row.id)


def lock_rule_set(session: Session, rule_set_id: int, *, revision: int | None = None) -> RuleSetRow:
    """The row, locked until the commit.

    raises: NotFoundError; ConflictError when it is retired, or was changed since `revision`.
    """
    row = session.get(RuleSetRow, rule_set_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"There is no rule set {rule_set_id}.")
    if row.state == State.RETIRED.value:
        raise ConflictError("This rule set is retired; make a new one.")
    if revision is not None and revision != row.revision:
        raise ConflictError("Somebody changed this rule set since you opened the page. Nothing was saved; look again.")
    return row


def items_of(session: Session, rule_set_id: int) -> Sequence[RuleSetItem]:
    """The patterns of a rule set, in the order in which they came."""
    return session.scalars(
        select(RuleSetItem).where(RuleSetItem.rule_set_id == rule_set_id).order_by(RuleSetItem.id)
    ).all()


def note_change(session: Session, row: RuleSetRow, actor: Actor, action: str, **detail: Any) -> None:
    """Count a change that changes the rules: back to draft, approvals void, the actor among the authors.

    Of a token also whoever made it: what one drafts by a program, one does not approve by hand.
    """
    void_approvals(session, row, actor, "The draft was changed.")
    row.state = State.DRAFT.value
    row.revision += 1
    row.updated_at = stored_now()
    if not set(actor.names) <= set(row.authors):
        row.authors = list(dict.fromkeys((*row.authors, *actor.names)))
    record(session, actor, action, row.name, rule_set=row.id, revision=row.revision, **detail)


def void_approvals(session: Session, row: RuleSetRow, actor: Actor, why: str) -> None:
    """End the approvals that still hold."""
    held = session.scalars(
        select(RuleSetApproval).where(RuleSetApproval.rule_set_id == row.id, RuleSetApproval.voided_at.is_(None))
    ).all()
    for approval in held:
        approval.voided_at, approval.voided_why = stored_now(), why
        record(session, actor, "rule_set.approval_voided", row.name, rule_set=row.id, digest=approval.digest, why=why)


def checked_text(text: str, field: str, limit: int, *, lines: bool = False, required: bool = True) -> str:
    """Text that a person wrote, trimmed. raises: InvalidError about `field`"""
    trimmed = text.strip().replace("\r\n", "\n")
    if required and not trimmed:
        raise InvalidError("This is needed.", field=field)
    if len(trimmed) > limit:
        raise InvalidError(f"At most {limit:,} letters.", field=field)
    if not (trimmed.replace("\n", " ") if lines else trimmed).isprintable():
        raise InvalidError("Control characters are not allowed here.", field=field)
    return trimmed


def stored_now() -> datetime:
    """The time now, as precise as it is stored."""
    return from_ms(to_ms(now()))


def _wanted(
    catalogue: Catalogue, patterns: Iterable[str], workflows: Iterable[str], origin: str
) -> dict[str, set[str]]:
    """Patterns and where the wish for each comes from, in the order in which they were asked for."""
    known = {pattern.id for pattern in catalogue.patterns}
    wanted: dict[str, set[str]] = {}
    for pattern in patterns:
        if pattern not in known:
            raise InvalidError(f"There is no pattern {pattern[:80]!a}.", field="patterns")
        wanted.setdefault(pattern, set()).add(origin[:60])
    for name in workflows:
        workflow = next((one for one in catalogue.workflows if one.id == name), None)
        if workflow is None:
            raise InvalidError(f"There is no uv command {name[:80]!a} in the catalogue.", field="workflows")
        for pattern in workflow.needs:
            wanted.setdefault(pattern, set()).add(f"workflow:{workflow.id}")
    return wanted


def _name_for(catalogue: Catalogue, patterns: Sequence[str], workflows: Iterable[str]) -> str:
    commands = [catalogue.workflow(name).command for name in workflows]
    if commands:
        return f"Open {', '.join(dict.fromkeys(commands))}"[:MAX_NAME_LETTERS]
    more = f" and {len(patterns) - 1} more" if len(patterns) > 1 else ""
    return f"Open {patterns[0]}{more}"


def _checked_groups(groups: Sequence[Group], field: str) -> list[list[str]]:
    found: dict[str, str] = {}
    for group in groups:
        try:
            sid = checked_sid(group.sid)
        except InvalidError as error:
            raise InvalidError(error.message, field=field) from error
        name = group.name.strip()
        if len(name) > 120 or (name and not name.isprintable()):
            raise InvalidError("A group's name has at most 120 printable letters.", field=field)
        found.setdefault(sid, name)
    if len(found) > MAX_SIDS:
        raise InvalidError(f"At most {MAX_SIDS} groups; put them into one group of your directory.", field=field)
    return [[sid, name] for sid, name in found.items()]


def _checked_pilot(groups: Sequence[Group]) -> list[list[str]]:
    found = _checked_groups(groups, "pilot")
    for sid, _ in found:
        if is_everybody(sid):
            raise InvalidError(
                f"{sid} is everybody, and a pilot is a few people who meet surprises first: name a smaller group.",
                field="pilot",
            )
    return found


def _item(session: Session, rule_set_id: int, pattern: str) -> RuleSetItem:
    item = session.scalar(
        select(RuleSetItem).where(RuleSetItem.rule_set_id == rule_set_id, RuleSetItem.pattern == pattern)
    )
    if item is None:
        raise NotFoundError(f"This rule set does not hold the pattern {pattern[:80]!a}.")
    return item
