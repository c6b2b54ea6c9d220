"""What became of an export in a large fleet: worked out as any long work is, kept, and shown with the time it is of.

Going over a million users takes seconds, so a page shows the newest figures that there are and says as of when. They
are worked out anew for whoever looks once they are old, or once other policies are in force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from agent.catalogue import load as load_catalogue
from app.audit.record import Actor
from app.db.base import now
from app.fleet.standing import Standing
from app.fleet.tables import KIND_NUMBERS, FactSet, HostGroup, Tally
from app.policies.after import After, BlockedFor, PatternAfter, read_after
from app.policies.after_judge import Because, Reason
from app.work.rows import DONE, INTERRUPTED, Asked, Work, ask_for_work, find_work
from app.work.run import Do, Progress, reading

AFTER = "export-after"
FRESH = timedelta(minutes=10)
"""Figures so young are shown again as they are."""
AT_MOST_EVERY = timedelta(minutes=1)
"""Policies come and go one by one in a large fleet: that alone makes figures anew no more often than this."""
_FORM = 1
"""Of kept figures: another one when they are kept differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAfter:
    """The newest figures and the newest work. `as_of`: when the fleet was as they say; `is_of_other_policies`: others
    are in force by now, or the server's catalogue is another.
    """

    after: After | None
    as_of: datetime | None
    is_of_other_policies: bool
    work: Work | None

    @property
    def is_due(self) -> bool:
        """Whether figures are to be worked out now, because there are none or these have had their time."""
        # What failed or was cancelled is not begun anew by a mere look.
        if self.work is not None and self.work.state not in (DONE, INTERRUPTED):
            return False
        if self.after is None or self.as_of is None:
            return True
        age = now() - self.as_of
        return age > FRESH or (self.is_of_other_policies and age > AT_MOST_EVERY)


def find_after(session: Session, export_id: int, *, group_id: int | None = None) -> KeptAfter:
    """The figures of an export as they were last worked out, of the fleet or of a group. Three statements at most."""
    key = _key(export_id, group_id)
    work = find_work(session, AFTER, key)
    with_figures = work if work is None or _has_figures(work) else find_work(session, AFTER, key, state=DONE)
    if with_figures is None or not _has_figures(with_figures):
        return KeptAfter(after=None, as_of=None, is_of_other_policies=False, work=work)
    told = with_figures.result or {}
    return KeptAfter(
        after=from_kept(told["after"]),
        as_of=datetime.fromisoformat(told["as_of"]),
        is_of_other_policies=told["of"] != _digest_of_policies(session),
        work=work,
    )


def ask_for_after(session: Session, export_id: int, *, actor: Actor, group_id: int | None = None) -> Asked:
    """Note that an export's figures are to be worked out; `after_of` does it."""
    title, page = f"What became of export {export_id}", f"/exports/{export_id}/after"
    if group_id is not None:
        name = session.scalar(select(HostGroup.name).where(HostGroup.id == group_id)) or str(group_id)
        title, page = f"{title} in group {name}", f"/exports/{export_id}/hosts?group={group_id}"
    return ask_for_work(session, kind=AFTER, key=_key(export_id, group_id), title=title, page=page, actor=actor)


def after_of(export_id: int, group_id: int | None = None) -> Do:
    """The work of finding out what became of an export."""

    def read(session: Session, _progress: Progress) -> dict[str, Any]:
        as_of = now()
        # First: a policy that comes while the users are gone over makes these figures old.
        policies = _digest_of_policies(session)
        after = read_after(session, export_id, group_id=group_id)
        return {"form": _FORM, "of": policies, "as_of": as_of.isoformat(), "after": to_kept(after)}

    return reading("going over all users", read)


def to_kept(after: After) -> dict[str, Any]:
    """Figures as JSON values."""
    return asdict(after)


def from_kept(kept: Mapping[str, Any]) -> After:
    """The other way."""
    return After(
        **{
            **kept,
            "reasons": tuple(
                BlockedFor(because=_because(one["because"]), users=one["users"], patterns=tuple(one["patterns"]))
                for one in kept["reasons"]
            ),
            "patterns": tuple(
                PatternAfter(**{**one, "reasons": tuple((_because(why), users) for why, users in one["reasons"])})
                for one in kept["patterns"]
            ),
        }
    )


def _because(kept: Mapping[str, str]) -> Because:
    return Because(Reason(kept["reason"]), kept["detail"])


def _key(export_id: int, group_id: int | None) -> str:
    return str(export_id) if group_id is None else f"{export_id} in {group_id}"


def _has_figures(work: Work) -> bool:
    return work.state == DONE and work.result is not None and work.result.get("form") == _FORM


def _digest_of_policies(session: Session) -> str:
    """By what the policies in force are known again, with the catalogue by which they are judged."""
    in_use = exists().where(Tally.set_id == FactSet.id, Tally.standing == Standing.COUNTED.value, Tally.subjects > 0)
    ids = session.scalars(select(FactSet.id).where(FactSet.kind == KIND_NUMBERS["policy"], in_use)).all()
    return hashlib.sha256(repr((load_catalogue().etag, sorted(ids))).encode()).hexdigest()
