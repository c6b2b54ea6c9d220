"""Base policies: what rule sets are added to. Uploaded (a Group Policy object's or an Intune grouping's own policy),
or taken from what hosts report.

A policy seen in force is the sum of several objects. Nobody may write that sum back into one of them, so such a base
only gives exports of added rules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.applocker.model import AppLockerError, Policy
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from app.applocker.xmltree import decode
from app.audit.record import Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import InvalidError, NotFoundError
from app.fleet.tables import KIND_NUMBERS, FactSet
from app.policies.export import read_base
from app.policies.reported_policy import reported_policy
from app.policies.tables_rule_sets import BasePolicyRow

MAX_NAME_LETTERS = 200
SHOWN_BASES = 200


class Origin(StrEnum):
    """Where a base policy comes from."""

    GPO = "gpo"
    INTUNE = "intune"
    SEEN = "seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePolicy:
    """A base policy as it was given. `policy`: the same, read; `seen_set_id`: the reported set that it is."""

    id: int
    name: str
    origin: Origin
    sha256: str
    content: str
    added_at: datetime
    added_by: str
    policy: Policy
    seen_set_id: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is one object's own policy, so that a whole policy may be written back."""
        return self.origin is not Origin.SEEN

    @property
    def in_force(self) -> tuple[str, ...]:
        """The collections that have rules."""
        return tuple(one.type for one in self.policy.collections if one.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLine:
    """A base policy for a list of choices."""

    id: int
    name: str
    origin: Origin
    sha256: str
    added_at: datetime


def add_base_policy(
    session: Session, content: bytes, *, name: str, origin: Origin | str = Origin.GPO, actor: Actor
) -> BasePolicy:
    """Keep an uploaded policy; the same text again is the one already kept.

    raises: InvalidError about `base` (unreadable, too large, no rules) or `name`.
    """
    kind = _checked_origin(origin)
    policy = read_base(content)
    if not any(collection.rules for collection in policy.collections):
        raise InvalidError(
            "This policy has no rules. Whatever is added to it would be the first rule, and block all the rest.",
            field="base",
        )
    return _kept(session, decode(content).decode(), policy, name=_checked_name(name), origin=kind, actor=actor)


def take_seen_policy(session: Session, set_id: int, *, actor: Actor) -> BasePolicy:
    """Keep a policy that hosts report as a base for added rules.

    raises: NotFoundError, InvalidError about `base` when agents could not read it as a whole.
    """
    row = session.get(FactSet, set_id)
    if row is None or row.kind != KIND_NUMBERS["policy"]:
        raise NotFoundError("No host reports this policy any more.")
    policy = reported_policy(row.body)
    if policy is None:
        raise InvalidError(
            "Agents could not read this policy as a whole (Intune's part, or rules that are not valid XML), so nothing "
            "can be judged with it. Upload the policy instead.",
            field="base",
        )
    if not any(collection.rules for collection in policy.collections):
        raise InvalidError("This policy has no rules: everything runs there, nothing has to be opened.", field="base")
    short = bytes(row.digest).hex()[:8]
    text = render_policy(policy)
    try:
        parse_policy(text)
    except AppLockerError as error:
        # A registry holds each collection by itself; a file of all of them may not have an id twice, for instance.
        raise InvalidError(
            f"This policy as hosts hold it makes no valid file ({error.problems[0]}). Upload the policy instead.",
            field="base",
        ) from error
    return _kept(
        session,
        text,
        policy,
        name=f"Seen in force, {short}",
        origin=Origin.SEEN,
        actor=actor,
        seen_set_id=set_id,
    )


def get_base_policy(session: Session, base_id: int) -> BasePolicy:
    """One base policy. raises: NotFoundError"""
    row = session.get(BasePolicyRow, base_id)
    if row is None:
        raise NotFoundError(f"There is no base policy {base_id}.")
    return _base(row, parse_policy(row.content))


def list_base_policies(session: Session) -> tuple[BaseLine, ...]:
    """The newest first, without their text."""
    rows = session.execute(
        select(BasePolicyRow.id, BasePolicyRow.name, BasePolicyRow.origin, BasePolicyRow.sha256, BasePolicyRow.added_at)
        .order_by(BasePolicyRow.id.desc())
        .limit(SHOWN_BASES)
    )
    return tuple(
        BaseLine(id=base_id, name=name, origin=Origin(origin), sha256=sha256, added_at=added_at)
        for base_id, name, origin, sha256, added_at in rows
    )


def _kept(
    session: Session,
    text: str,
    policy: Policy,
    *,
    name: str,
    origin: Origin,
    actor: Actor,
    seen_set_id: int | None = None,
) -> BasePolicy:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    present = session.scalar(
        select(BasePolicyRow).where(BasePolicyRow.origin == origin.value, BasePolicyRow.sha256 == sha256)
    )
    if present is not None:
        return _base(present, policy)
    row = BasePolicyRow(
        name=name,
        origin=origin.value,
        sha256=sha256,
        content=text,
        seen_set_id=seen_set_id,
        added_at=from_ms(to_ms(now())),
        added_by=actor.name[:254],
    )
    session.add(row)
    session.flush()  # the caller needs the id
    record(session, actor, "base_policy.added", name, origin=origin.value, sha256=sha256)
    return _base(row, policy)


def _base(row: BasePolicyRow, policy: Policy) -> BasePolicy:
    return BasePolicy(
        id=row.id,
        name=row.name,
        origin=Origin(row.origin),
        sha256=row.sha256,
        content=row.content,
        added_at=row.added_at,
        added_by=row.added_by,
        policy=policy,
        seen_set_id=row.seen_set_id,
    )


def _checked_origin(origin: Origin | str) -> Origin:
    if origin in (Origin.GPO, Origin.INTUNE):
        return Origin(origin)
    raise InvalidError("Say whether it is a Group Policy object's or an Intune grouping's own policy.", field="origin")


def _checked_name(name: str) -> str:
    text = name.strip()
    if not text or len(text) > MAX_NAME_LETTERS or not text.isprintable():
        raise InvalidError(f"A name of 1 to {MAX_NAME_LETTERS} printable letters is needed.", field="name")
    return text
