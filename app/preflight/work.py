"""An upgrade check of a large fleet as a piece of work, and its answer as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from agent.catalogue.changes import compare_versions
from app.audit.record import Actor
from app.preflight.compare import Break
from app.preflight.fleet import BrokenGroup, BrokenPattern, BrokenRules, Preflight, as_values, check_upgrade
from app.work.rows import DONE, Asked, Work, ask_for_work, find_fresh_work
from app.work.run import Do, Progress, reading

PREFLIGHT = "preflight"
FRESH = timedelta(minutes=10)
"""An answer so young is shown again: the fleet does not change its policies between two looks."""


def find_check(session: Session, before: str, after: str) -> Work | None:
    """The newest check of an upgrade; None if there is none, or its answer is old."""
    return find_fresh_work(session, PREFLIGHT, _key(before, after), within=FRESH)


def ask_for_check(session: Session, before: str, after: str, *, page: str, actor: Actor) -> Asked:
    """Note that an upgrade is to be checked; `check_of` does it."""
    title = f"What upgrading uv {before} to {after} breaks"
    return ask_for_work(session, kind=PREFLIGHT, key=_key(before, after), title=title, page=page, actor=actor)


def check_of(before: str, after: str) -> Do:
    """The work of checking an upgrade."""

    def read(session: Session, progress: Progress) -> dict[str, Any]:
        found = check_upgrade(
            session, before, after, tell=lambda done, total: progress.tell("policies judged", done, total)
        )
        values: dict[str, Any] = json.loads(json.dumps(as_values(found)))
        return values

    return reading("reading who runs it", read)


def read_check(work: Work) -> Preflight | None:
    """The answer that a check gave; None while there is none."""
    if work.state != DONE or work.result is None:
        return None
    told: Mapping[str, Any] = work.result
    return Preflight(
        **{
            **told,
            "changes": compare_versions(load_catalogue(), told["before"], told["after"]),
            "patterns": tuple(BrokenPattern(**one) for one in told["patterns"]),
            "groups": tuple(BrokenGroup(**one) for one in told["groups"]),
            "rules": tuple(
                BrokenRules(**{**one, "breaks": tuple(Break(**broken) for broken in one["breaks"])})
                for one in told["rules"]
            ),
            "baseline": tuple(told["baseline"]),
        }
    )


def _key(before: str, after: str) -> str:
    return f"{before}:{after}"
