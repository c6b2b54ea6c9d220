"""Running simulations of rule sets: small fleets at once, large ones in a thread that tells how far it is.

A result is kept with the digest of the draft it is of. When one comes out differently from what was approved, the
approval is void.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.audit.record import SYSTEM, Actor, record
from app.db.session import session_scope
from app.errors import AppError, ConflictError, InvalidError
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET, Tally
from app.policies.baselines import list_baseline_files
from app.policies.drafts import build_draft
from app.policies.outcome import to_kept
from app.policies.queries_rule_sets import get_rule_set
from app.policies.rule_sets import State, lock_rule_set, stored_now, void_approvals
from app.policies.simulate import simulate
from app.policies.tables_rule_sets import RuleSetApproval, RuleSetRow, RuleSetSimulation

log = logging.getLogger("wayleave.simulations")

AT_ONCE_USERS = 50_000
"""Fleets up to this size are judged while the page waits: a second or two."""

GIVEN_UP_AFTER = timedelta(minutes=15)


def ask_for_simulation(session: Session, rule_set_id: int, *, actor: Actor) -> int:
    """Note that a rule set is to be simulated; its id for `run_simulation`.

    raises: NotFoundError, ConflictError (one is under way), InvalidError when the draft is not ready.
    """
    row = lock_rule_set(session, rule_set_id)
    draft = build_draft(get_rule_set(session, rule_set_id), list_baseline_files(session))
    if not draft.is_ready:
        raise InvalidError("Choose a base policy, a group and patterns that get a rule first.", field="patterns")
    at = stored_now()
    under_way = session.scalar(
        select(RuleSetSimulation.id).where(
            RuleSetSimulation.rule_set_id == rule_set_id,
            RuleSetSimulation.state.in_(("waiting", "running")),
            RuleSetSimulation.asked_at > at - GIVEN_UP_AFTER,
        )
    )
    if under_way is not None:
        raise ConflictError("A simulation of this rule set is under way.")
    made = RuleSetSimulation(
        rule_set_id=rule_set_id,
        state="waiting",
        asked_at=at,
        asked_by=actor.name[:254],
        done=0,
        total=0,
        draft_sha256=draft.sha256,
    )
    session.add(made)
    session.flush()
    record(session, actor, "rule_set.simulation_asked", row.name, rule_set=rule_set_id, draft=draft.sha256)
    return made.id


def is_large(session: Session) -> bool:
    """Whether the fleet is too large to be judged while somebody waits."""
    users = session.scalar(
        select(func.sum(Tally.subjects)).where(Tally.standing == Standing.COUNTED.value, Tally.set_id == NO_SET)
    )
    return int(users or 0) > AT_ONCE_USERS


def run_simulation(engine: Engine, simulation_id: int) -> None:
    """Run one that was asked for, and keep what came of it. Never raises: a failure is its result."""
    try:
        with session_scope(engine) as session:
            row = session.get(RuleSetSimulation, simulation_id)
            if row is None or row.state != "waiting":
                return
            row.state = "running"
            rule_set_id = row.rule_set_id

        with session_scope(engine, writes=False) as session:
            rule_set = get_rule_set(session, rule_set_id)
            draft = build_draft(rule_set, list_baseline_files(session))
            found = simulate(session, rule_set, draft, progress=_progress(engine, simulation_id))
        with session_scope(engine) as session:
            _keep(session, simulation_id, draft.sha256, to_kept(found), found.sha256)
    except Exception as error:  # whatever it was, the page has to say that it ended
        log.exception("simulation %s failed", simulation_id)
        message = error.message if isinstance(error, AppError) else "It failed; the server's log says why."
        with session_scope(engine) as session:
            row = session.get(RuleSetSimulation, simulation_id)
            if row is not None:
                row.state, row.problem, row.ended_at = "failed", message[:1000], stored_now()


def start_simulation(engine: Engine, simulation_id: int) -> None:
    """Run one in a thread of its own."""
    threading.Thread(target=run_simulation, args=(engine, simulation_id), name="simulation", daemon=True).start()


def _progress(engine: Engine, simulation_id: int) -> Callable[[int, int], None]:
    def note(done: int, total: int) -> None:
        if done % 10_000 == 0 and total > 10_000:
            with session_scope(engine) as session:
                row = session.get(RuleSetSimulation, simulation_id)
                if row is not None:
                    row.done, row.total = done, total

    return note


def _keep(session: Session, simulation_id: int, draft_sha256: str, result: dict[str, object], sha256: str) -> None:
    row = session.get(RuleSetSimulation, simulation_id)
    if row is None:
        return
    row.state, row.result, row.sha256, row.ended_at = "done", result, sha256, stored_now()
    row.draft_sha256 = draft_sha256
    row.done = row.total = int(str(result["profiles"]))
    rule_set = session.get(RuleSetRow, row.rule_set_id, with_for_update=True)
    if rule_set is None:
        return
    record(session, SYSTEM, "rule_set.simulated", rule_set.name, rule_set=rule_set.id, sha256=sha256)
    held = session.scalar(
        select(RuleSetApproval).where(RuleSetApproval.rule_set_id == rule_set.id, RuleSetApproval.voided_at.is_(None))
    )
    if held is not None and held.simulation_sha256 != sha256:
        void_approvals(session, rule_set, SYSTEM, "A later simulation came out differently.")
        if rule_set.state == State.APPROVED.value:
            rule_set.state = State.IN_REVIEW.value
