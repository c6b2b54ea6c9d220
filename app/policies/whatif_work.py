"""What an export would do to a large fleet, worked out as any long work is; its answer as JSON and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.audit.record import Actor
from app.policies.queries_exports import get_kept_export
from app.policies.whatif import PatternWhatIf, WhatIf, simulate_export
from app.work.rows import DONE, Asked, Work, ask_for_work, find_fresh_work
from app.work.run import Do, Progress, reading

WHAT_IF = "export-what-if"
FRESH = timedelta(minutes=10)
"""An answer so young is shown again."""


def find_what_if(session: Session, export_id: int) -> Work | None:
    """The newest judging of an export; None if there is none, or its answer is old."""
    return find_fresh_work(session, WHAT_IF, str(export_id), within=FRESH)


def ask_for_what_if(session: Session, export_id: int, *, actor: Actor) -> Asked:
    """Note that an export is to be judged; `what_if_of` does it."""
    title, page = f"What export {export_id} would do", f"/exports/{export_id}/what-if"
    return ask_for_work(session, kind=WHAT_IF, key=str(export_id), title=title, page=page, actor=actor)


def what_if_of(export_id: int) -> Do:
    """The work of judging an export against the policies in force."""

    def read(session: Session, progress: Progress) -> dict[str, Any]:
        export = get_kept_export(session, export_id).export
        return asdict(
            simulate_export(session, export, tell=lambda done, total: progress.tell("policies judged", done, total))
        )

    return reading("reading the fleet", read)


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
