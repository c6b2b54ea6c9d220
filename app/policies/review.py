"""Reviewing a rule set: hand it in, talk about it, approve or send it back.

An approval is bound to one digest over base, draft and simulation, and comes from somebody who did not write any of
the draft, unless an administrator allowed that. What is exported later is checked against that digest again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.applocker.compare import Change, compare
from app.applocker.export import add
from app.applocker.findings import Finding
from app.applocker.lint import lint
from app.applocker.model import Policy
from app.audit.record import Actor, record
from app.db.tables import find_setting, put_setting
from app.errors import ConflictError, ForbiddenError, InvalidError
from app.policies.baselines import list_baseline_files
from app.policies.drafts import Draft, build_draft
from app.policies.judgement import without_rules
from app.policies.modes import base_changes_of, mode_changes_of
from app.policies.queries_rule_sets import RuleSet, Simulation, find_simulation, get_rule_set
from app.policies.rule_sets import State, checked_text, lock_rule_set, stored_now, void_approvals
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetComment, RuleSetRow

MAX_COMMENT_LETTERS = 4000
AUTHORS_MAY_APPROVE = "authors_may_approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What lint says of the base with the draft in it: new ones, and how many the base had before."""

    new: tuple[Finding, ...]
    of_base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What a reviewer looks at. `digest` None: something is missing, told in `missing`."""

    draft: Draft
    simulation: Simulation | None
    digest: str | None
    missing: tuple[str, ...]
    findings: Findings
    changes: tuple[Change, ...]

    @property
    def mode_changes(self) -> tuple[Change, ...]:
        """The differences by which a collection becomes stricter or laxer."""
        return mode_changes_of(self.changes)

    @property
    def base_changes(self) -> tuple[Change, ...]:
        """The differences that touch what the base has."""
        return base_changes_of(self.changes)


def review_of(session: Session, rule_set: RuleSet) -> Reviewed:
    """Lint, difference and digest of a rule set as it stands."""
    draft = build_draft(rule_set, list_baseline_files(session))
    simulation = find_simulation(session, rule_set.id)
    missing = []
    if not draft.is_ready:
        missing.append(_incomplete(draft))
    if simulation is None:
        missing.append("It was not simulated against the fleet yet.")
    elif simulation.draft_sha256 != draft.sha256:
        missing.append("It changed since it was simulated: run the simulation again.")
    digest = None
    if not missing and rule_set.base is not None and simulation is not None:
        digest = approval_digest(rule_set.base.sha256, draft.sha256, simulation.sha256)
    return Reviewed(
        draft=draft,
        simulation=simulation,
        digest=digest,
        missing=tuple(missing),
        findings=_findings(rule_set, draft),
        changes=_changes(rule_set, draft),
    )


def _incomplete(draft: Draft) -> str:
    if "pilot" in draft.missing:
        return "The pilot's group is everybody: name a smaller one in the draft."
    return "The draft is not complete: it needs a base policy, a group, and something to add or move."


def approval_digest(base_sha256: str, draft_sha256: str, simulation_sha256: str) -> str:
    """What an approval is bound to."""
    return hashlib.sha256(f"{base_sha256}\n{draft_sha256}\n{simulation_sha256}".encode()).hexdigest()


def submit_for_review(session: Session, rule_set_id: int, *, actor: Actor) -> None:
    """Hand a draft in. raises: NotFoundError, ConflictError, InvalidError when it is not ready or not simulated."""
    row = lock_rule_set(session, rule_set_id)
    if row.state != State.DRAFT.value:
        raise ConflictError("Only a draft can be handed in for review.")
    reviewed = review_of(session, get_rule_set(session, rule_set_id))
    if reviewed.digest is None:
        raise InvalidError(" ".join(reviewed.missing), field="review")
    _move(session, row, State.IN_REVIEW, actor, "rule_set.submitted", digest=reviewed.digest)


def send_back(session: Session, rule_set_id: int, *, actor: Actor) -> None:
    """Put a rule set back to draft, its approval void. raises: NotFoundError, ConflictError"""
    row = lock_rule_set(session, rule_set_id)
    if row.state == State.DRAFT.value:
        raise ConflictError("This rule set is a draft already.")
    void_approvals(session, row, actor, "It was sent back to draft.")
    _move(session, row, State.DRAFT, actor, "rule_set.sent_back")


def approve(session: Session, rule_set_id: int, *, digest: str, note: str = "", actor: Actor) -> None:
    """Say yes to exactly what has this digest.

    raises: NotFoundError; ConflictError when it is not in review, or not what was looked at; ForbiddenError for an
    author; InvalidError about `note`.
    """
    row = lock_rule_set(session, rule_set_id)
    if row.state != State.IN_REVIEW.value:
        raise ConflictError("Only what is in review can be approved.")
    if not set(actor.names).isdisjoint(row.authors) and not authors_may_approve(session):
        raise ForbiddenError("You wrote some of this draft: somebody else has to approve it.")
    rule_set = get_rule_set(session, rule_set_id)
    reviewed = review_of(session, rule_set)
    if reviewed.digest is None or reviewed.digest != digest:
        raise ConflictError("This changed since you opened the page. Nothing was approved; look at it again.")
    assert rule_set.base is not None  # noqa: S101 - there is a digest
    assert reviewed.simulation is not None  # noqa: S101 - for the type checker: there is a digest
    session.add(
        RuleSetApproval(
            rule_set_id=rule_set_id,
            at=stored_now(),
            approved_by=actor.name[:254],
            digest=digest,
            base_sha256=rule_set.base.sha256,
            draft_sha256=reviewed.draft.sha256,
            simulation_sha256=reviewed.simulation.sha256,
            note=checked_text(note, "note", MAX_COMMENT_LETTERS, lines=True, required=False),
            name=row.name,
            purpose=row.purpose,
            owner=row.owner,
            change_number=row.change_number,
            review_by=row.review_by,
        )
    )
    words = {"owner": row.owner, "change_number": row.change_number}
    _move(session, row, State.APPROVED, actor, "rule_set.approved", digest=digest, **words)


def held_approval(session: Session, rule_set_id: int, *, reviewed: Reviewed | None = None) -> RuleSetApproval | None:
    """The approval that holds, if the rule set is still what was approved. `reviewed`: as it stands, if known."""
    found = session.scalar(
        select(RuleSetApproval)
        .where(RuleSetApproval.rule_set_id == rule_set_id, RuleSetApproval.voided_at.is_(None))
        .order_by(RuleSetApproval.id.desc())
        .limit(1)
    )
    if found is None:
        return None
    reviewed = reviewed or review_of(session, get_rule_set(session, rule_set_id))
    return found if reviewed.digest == found.digest else None


def add_comment(session: Session, rule_set_id: int, text: str, *, rule_id: str | None = None, actor: Actor) -> int:
    """Say something. raises: NotFoundError, ConflictError, InvalidError about `text`"""
    row = lock_rule_set(session, rule_set_id)
    made = RuleSetComment(
        rule_set_id=rule_set_id,
        at=stored_now(),
        author=actor.name[:254],
        text=checked_text(text, "text", MAX_COMMENT_LETTERS, lines=True),
        rule_id=rule_id,
    )
    session.add(made)
    session.flush()
    record(session, actor, "rule_set.commented", row.name, rule_set=rule_set_id, comment=made.id)
    return made.id


def authors_may_approve(session: Session) -> bool:
    """Whether an administrator allowed authors to approve what they wrote. By default they may not."""
    return find_setting(session, AUTHORS_MAY_APPROVE) == "yes"


def let_authors_approve(session: Session, allowed: bool, *, actor: Actor) -> None:
    """Allow it, or no longer."""
    put_setting(session, AUTHORS_MAY_APPROVE, "yes" if allowed else "no")
    record(session, actor, "setting.changed", AUTHORS_MAY_APPROVE, value=allowed)


def _findings(rule_set: RuleSet, draft: Draft) -> Findings:
    if rule_set.base is None or (draft.export is None and not draft.removed):
        return Findings(new=(), of_base=0)
    before = lint(rule_set.base.policy)
    known = {(one.code, one.collection, one.rule.id if one.rule else None) for one in before}
    after = lint(_after(rule_set.base.policy, draft))
    new = [one for one in after if (one.code, one.collection, one.rule.id if one.rule else None) not in known]
    return Findings(new=tuple(new), of_base=len(before))


def _changes(rule_set: RuleSet, draft: Draft) -> tuple[Change, ...]:
    if rule_set.base is None or (draft.export is None and not draft.removed):
        return ()
    return tuple(compare(rule_set.base.policy, _after(rule_set.base.policy, draft)))


def _after(base: Policy, draft: Draft) -> Policy:
    """The base with what the draft takes out gone, and with what it adds in every ring."""
    return add(without_rules(base, draft.removed), [rule.suggestion for rule in draft.leaving]).policy


def _move(session: Session, row: RuleSetRow, state: State, actor: Actor, action: str, **detail: str) -> None:
    row.state = state.value
    row.updated_at = stored_now()
    record(session, actor, action, row.name, rule_set=row.id, **detail)
