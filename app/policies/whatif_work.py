"""What an export would do to a large fleet, worked out as any long work is; its answer as JSON and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.audit.record import Actor
from app.db.base import now
from app.db.session import session_scope
from app.policies.queries_exports import get_kept_export
from app.policies.whatif import PatternWhatIf, WhatIf, simulate_export
from app.work.rows import DONE, Asked, Work, ask_for_work, find_work
from app.work.run import Do, Keep, Progress

WHAT_IF = "export-what-if"
FRESH = timedelta(minutes=10)
"""An answer so young is shown again."""


def find_what_if(session: Session, export_id: int) -> Work | None:
    """The newest judging of an export; None if there is none, or its answer is old."""
    found = find_work(session, WHAT_IF, str(export_id))
    if found is not None and found.state == DONE and (found.ended_at is None or now() - found.ended_at > FRESH):
        return None
    return found


def ask_for_what_if(session: Session, export_id: int, *, actor: Actor) -> Asked:
    """Note that an export is to be judged; `what_if_of` does it."""
    return ask_for_work(
        session,
        kind=WHAT_IF,
        key=str(export_id),
        title=f"What export {export_id} would do",
        page=f"/exports/{export_id}/what-if",
        actor=actor,
    )


def what_if_of(export_id: int) -> Do:
    """The work of judging an export against the policies in force."""

    def do(engine: Engine, progress: Progress) -> Keep:
        progress.tell("reading the fleet")
        with session_scope(engine, writes=False) as session:
            export = get_kept_export(session, export_id).export
            values: dict[str, Any] = asdict(
                simulate_export(session, export, tell=lambda done, total: progress.tell("policies judged", done, total))
            )
        return lambda _session: values

    return do


def read_what_if(work: Work) -> WhatIf | None:
    """The answer that a judging gave; None while there is none."""
    if work.state != DONE or work.result is None:
        return None
    told = work.result
    return WhatIf(
        **{
            **told,
            "patterns": tuple(
                PatternWhatIf(**{**one, "deny_rules": tuple((name, users) for name, users in one["deny_rules"])})
                for one in told["patterns"]
            ),
            "starts_default_deny": tuple((name, users) for name, users in told["starts_default_deny"]),
            "only_audited": tuple((name, users) for name, users in told["only_audited"]),
        }
    )
