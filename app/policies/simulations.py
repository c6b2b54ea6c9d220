"""Simulating rule sets: asked for once at a time, worked out as any long work is, the result kept.

A result is kept with the digest of the draft it is of. When one comes out differently from what was approved, the
approval is void.
"""

from __future__ import annotations

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, Actor, record
from app.db.session import session_scope
from app.errors import ConflictError, InvalidError
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET, Tally
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.outcome import to_kept
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import State, lock_rule_set, stored_now, void_approvals
from app.policies.simulate import simulate
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetRow, RuleSetSimulation
from app.work.rows import Asked, Work, ask_for_work, find_work
from app.work.run import Do, Keep, Progress, do_work

SIMULATION = "simulation"

AT_ONCE_USERS = 50_000
"""Fleets up to this size are judged while a page waits: a second or two."""


def ask_for_simulation(session: Session, rule_set_id: int, *, actor: Actor) -> Asked:
    """Note that a rule set is to be simulated; `simulation_of` or `run_simulation` does it.

    raises: NotFoundError, ConflictError (one is under way), InvalidError when the draft is not ready.
    """
    row = lock_rule_set(session, rule_set_id)
    draft = build_draft(get_rule_set(session, rule_set_id), list_baseline_files(session))
    if not draft.is_ready:
        raise InvalidError("Choose a base policy, a group and patterns that get a rule first.", field="patterns")
    asked = ask_for_work(
        session,
        kind=SIMULATION,
        key=str(rule_set_id),
        title=f"What “{row.name}” would do",
        page=f"/rule-sets/{rule_set_id}/what-if",
        actor=actor,
    )
    if asked.claim is None:
        raise ConflictError("A simulation of this rule set is under way.")
    record(session, actor, "rule_set.simulation_asked", row.name, rule_set=rule_set_id, draft=draft.sha256)
    return asked


def find_simulating(session: Session, rule_set_id: int) -> Work | None:
    """The newest simulation of a rule set that was asked for, however it went. Its result: `find_simulation`."""
    return find_work(session, SIMULATION, str(rule_set_id))


def run_simulation(engine: Engine, asked: Asked) -> None:
    """Do it here and now. Never raises: a failure is its result."""
    if asked.claim is not None:
        do_work(engine, asked.work.id, asked.claim, simulation_of(asked.work))


def simulation_of(work: Work) -> Do:
    """The work of simulating a rule set as it is when its turn comes."""
    rule_set_id = int(work.key)

    def do(engine: Engine, progress: Progress) -> Keep:
        progress.tell("reading the fleet")
        with session_scope(engine, writes=False) as session:
            rule_set = get_rule_set(session, rule_set_id)
            draft = build_draft(rule_set, list_baseline_files(session))
            found = simulate(
                session, rule_set, draft, progress=lambda done, total: progress.tell("kinds of users", done, total)
            )
        progress.tell("keeping the result")
        result = to_kept(found)

        def keep(session: Session) -> None:
            row = RuleSetSimulation(
                rule_set_id=rule_set_id,
                asked_at=work.asked_at,
                asked_by=work.asked_by,
                ended_at=stored_now(),
                draft_sha256=draft.sha256,
                sha256=found.sha256,
                result=result,
            )
            _keep(session, row)

        return keep

    return do


def _keep(session: Session, row: RuleSetSimulation) -> None:
    rule_set = session.get(RuleSetRow, row.rule_set_id, with_for_update=True)
    if rule_set is None:
        return
    session.add(row)
    record(session, SYSTEM, "rule_set.simulated", rule_set.name, rule_set=rule_set.id, sha256=row.sha256)
    held = session.scalar(
        select(RuleSetApproval).where(RuleSetApproval.rule_set_id == rule_set.id, RuleSetApproval.voided_at.is_(None))
    )
    if held is not None and held.simulation_sha256 != row.sha256:
        void_approvals(session, rule_set, SYSTEM, "A later simulation came out differently.")
        if rule_set.state == State.APPROVED.value:
            rule_set.state = State.IN_REVIEW.value


def is_large(session: Session, *, users: int = AT_ONCE_USERS) -> bool:
    """Whether the fleet has more counted users, and so is too large to be judged while somebody waits."""
    counted = session.scalar(
        select(func.sum(Tally.subjects)).where(Tally.standing == Standing.COUNTED.value, Tally.set_id == NO_SET)
    )
    return int(counted or 0) > users
