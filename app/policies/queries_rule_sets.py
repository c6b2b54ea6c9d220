"""What the pages about rule sets show: the list, and one with its patterns, comments and approvals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.db.paging import cut_page, newest_first
from app.errors import NotFoundError
from app.policies.base_policies import BasePolicy, get_base_policy
from app.policies.kept import planned_rule
from app.policies.plan import PlannedRule
from app.policies.rule_sets import Group, State
from app.policies.tables_rule_sets import (
    BasePolicyRow,
    RuleSetApproval,
    RuleSetComment,
    RuleSetExport,
    RuleSetItem,
    RuleSetRow,
    RuleSetSimulation,
)

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSetLine:
    """One line of the list."""

    id: int
    name: str
    state: State
    owner: str
    change_number: str
    review_by: datetime | None
    updated_at: datetime
    patterns: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsPattern:
    """A rule set that some pattern was put into. `leaves_it`: to be left closed, on purpose."""

    id: int
    name: str
    state: State
    leaves_it: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSetPage:
    """Lines of one page. `next_before`: the id that the next page begins below; `states`: how many of each."""

    lines: tuple[RuleSetLine, ...]
    next_before: int | None
    total: int
    states: Mapping[State, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One pattern of a rule set, what was chosen for it, and why it is in."""

    pattern: str
    kind: str | None
    files: tuple[int, ...] | None
    origins: tuple[str, ...]
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comment:
    """What somebody said."""

    id: int
    at: datetime
    author: str
    text: str
    rule_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody's yes, the words that the rule set had then, and whether it still holds."""

    id: int
    at: datetime
    approved_by: str
    digest: str
    note: str
    name: str
    owner: str
    change_number: str
    voided_at: datetime | None
    voided_why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The newest result of judging base and draft against the fleet. `result`: as `to_kept` made it."""

    id: int
    asked_at: datetime
    asked_by: str
    ended_at: datetime
    draft_sha256: str
    sha256: str
    result: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """One rule set with what it is made of. `removes`: rules of ours that it takes out."""

    id: int
    name: str
    purpose: str
    state: State
    base: BasePolicy | None
    groups: tuple[Group, ...]
    pilot: tuple[Group, ...]
    project_roots: tuple[str, ...]
    roots: Mapping[str, str]
    owner: str
    change_number: str
    review_by: datetime | None
    slider: int
    revision: int
    authors: tuple[str, ...]
    created_at: datetime
    created_by: str
    updated_at: datetime
    items: tuple[Item, ...]
    removes: tuple[PlannedRule, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it may still be changed."""
        return self.state is not State.RETIRED


def page_rule_sets(session: Session, *, search: str = "", state: str = "", before: int | None = None) -> RuleSetPage:
    """Rule sets whose name, owner or change number contain `search`, newest first."""
    fits = []
    if search:
        texts = (RuleSetRow.name, RuleSetRow.owner, RuleSetRow.change_number)
        fits.append(or_(*(func.lower(text).contains(search.lower(), autoescape=True) for text in texts)))
    states = {
        State(name): count
        for name, count in session.execute(
            select(RuleSetRow.state, func.count()).where(*fits).group_by(RuleSetRow.state)
        )
    }
    if state:
        fits.append(RuleSetRow.state == state)
    patterns = select(func.count()).where(RuleSetItem.rule_set_id == RuleSetRow.id).scalar_subquery()
    query = newest_first(select(RuleSetRow, patterns).where(*fits), RuleSetRow.id, before=before, rows=PAGE_ROWS)
    rows, last = cut_page(session.execute(query).all(), PAGE_ROWS)
    lines = tuple(
        RuleSetLine(
            id=row.id,
            name=row.name,
            state=State(row.state),
            owner=row.owner,
            change_number=row.change_number,
            review_by=row.review_by,
            updated_at=row.updated_at,
            patterns=count,
            groups=_groups(row.sids),
        )
        for row, count in rows
    )
    total = sum(states.values()) if not state else states.get(State(state), 0)
    return RuleSetPage(lines=lines, next_before=last[0].id if last is not None else None, total=total, states=states)


def list_open_rule_sets(session: Session, *, limit: int = 50) -> tuple[tuple[int, str], ...]:
    """Ids and names of the rule sets that patterns may be put into, last changed first."""
    rows = session.execute(
        select(RuleSetRow.id, RuleSetRow.name)
        .where(RuleSetRow.state != State.RETIRED.value)
        .order_by(RuleSetRow.updated_at.desc(), RuleSetRow.id.desc())
        .limit(limit)
    )
    return tuple((rule_set_id, name) for rule_set_id, name in rows)


def list_rule_sets_for(session: Session, pattern: str, *, limit: int = 10) -> tuple[HoldsPattern, ...]:
    """The rule sets that open a pattern, or leave it closed on purpose, last changed first; not those retired."""
    rows = session.execute(
        select(RuleSetRow.id, RuleSetRow.name, RuleSetRow.state, RuleSetItem.kind)
        .join(RuleSetItem, RuleSetItem.rule_set_id == RuleSetRow.id)
        .where(RuleSetItem.pattern == pattern, RuleSetRow.state != State.RETIRED.value)
        .order_by(RuleSetRow.updated_at.desc(), RuleSetRow.id.desc())
        .limit(limit)
    )
    return tuple(
        HoldsPattern(id=row.id, name=row.name, state=State(row.state), leaves_it=row.kind == "leave") for row in rows
    )


def get_rule_set(session: Session, rule_set_id: int) -> RuleSet:
    """One rule set. raises: NotFoundError"""
    row = session.get(RuleSetRow, rule_set_id)
    if row is None:
        raise NotFoundError(f"There is no rule set {rule_set_id}.")
    items = session.scalars(
        select(RuleSetItem).where(RuleSetItem.rule_set_id == rule_set_id).order_by(RuleSetItem.id)
    ).all()
    return _rule_set(session, row, items)


def get_rule_sets(session: Session, ids: Sequence[int]) -> tuple[RuleSet, ...]:
    """Those of some rule sets that there are, in this order, with three statements however many."""
    rows = {row.id: row for row in session.scalars(select(RuleSetRow).where(RuleSetRow.id.in_(ids)))}
    bases = {row.base_id for row in rows.values() if row.base_id is not None}
    # Held here, they are found in the session when each rule set asks for its own.
    held = session.scalars(select(BasePolicyRow).where(BasePolicyRow.id.in_(bases))).all() if bases else []
    items: defaultdict[int, list[RuleSetItem]] = defaultdict(list)
    for item in session.scalars(select(RuleSetItem).where(RuleSetItem.rule_set_id.in_(rows)).order_by(RuleSetItem.id)):
        items[item.rule_set_id].append(item)
    found = tuple(_rule_set(session, rows[one], items[one]) for one in ids if one in rows)
    del held
    return found


def _rule_set(session: Session, row: RuleSetRow, items: Sequence[RuleSetItem]) -> RuleSet:
    return RuleSet(
        id=row.id,
        name=row.name,
        purpose=row.purpose,
        state=State(row.state),
        base=None if row.base_id is None else get_base_policy(session, row.base_id),
        groups=_groups(row.sids),
        pilot=_groups(row.pilot_sids),
        project_roots=tuple(row.project_roots),
        roots=dict(row.roots),
        owner=row.owner,
        change_number=row.change_number,
        review_by=row.review_by,
        slider=row.slider,
        revision=row.revision,
        authors=tuple(row.authors),
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        removes=tuple(planned_rule(kept) for kept in row.removes),
        items=tuple(
            Item(
                pattern=item.pattern,
                kind=item.kind,
                files=None if item.files is None else tuple(item.files),
                origins=tuple(item.origins),
                added_at=item.added_at,
                added_by=item.added_by,
            )
            for item in items
        ),
    )


def list_comments(session: Session, rule_set_id: int, *, limit: int = 200) -> tuple[Comment, ...]:
    """What was said about a rule set, oldest first; of very many the newest."""
    rows = session.scalars(
        select(RuleSetComment)
        .where(RuleSetComment.rule_set_id == rule_set_id)
        .order_by(RuleSetComment.id.desc())
        .limit(limit)
    ).all()
    return tuple(
        Comment(id=row.id, at=row.at, author=row.author, text=row.text, rule_id=row.rule_id) for row in reversed(rows)
    )


def list_approvals(session: Session, rule_set_id: int, *, limit: int = 50) -> tuple[Approval, ...]:
    """Approvals of a rule set, newest first, voided ones too."""
    rows = session.scalars(
        select(RuleSetApproval)
        .where(RuleSetApproval.rule_set_id == rule_set_id)
        .order_by(RuleSetApproval.id.desc())
        .limit(limit)
    ).all()
    return tuple(
        Approval(
            id=row.id,
            at=row.at,
            approved_by=row.approved_by,
            digest=row.digest,
            note=row.note,
            name=row.name,
            owner=row.owner,
            change_number=row.change_number,
            voided_at=row.voided_at,
            voided_why=row.voided_why,
        )
        for row in rows
    )


def find_simulation(session: Session, rule_set_id: int) -> Simulation | None:
    """The newest result of simulating a rule set, None if there is none."""
    row = session.scalar(
        select(RuleSetSimulation)
        .where(RuleSetSimulation.rule_set_id == rule_set_id)
        .order_by(RuleSetSimulation.id.desc())
        .limit(1)
    )
    if row is None:
        return None
    return Simulation(
        id=row.id,
        asked_at=row.asked_at,
        asked_by=row.asked_by,
        ended_at=row.ended_at,
        draft_sha256=row.draft_sha256,
        sha256=row.sha256,
        result=row.result,
    )


def list_rule_set_exports(session: Session, rule_set_id: int) -> tuple[RuleSetExport, ...]:
    """What a rule set gave so far, newest first."""
    return tuple(
        session.scalars(
            select(RuleSetExport)
            .where(RuleSetExport.rule_set_id == rule_set_id)
            .order_by(RuleSetExport.export_id.desc())
        )
    )


def _groups(stored: list[list[str]]) -> tuple[Group, ...]:
    return tuple(Group(sid=sid, name=name) for sid, name in stored)
