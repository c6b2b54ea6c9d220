"""The groups of a host's users: a fact about people, shown by number to those who may see it, each look audited."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.errors import NotFoundError
from app.fleet.queries_hosts import users_of
from app.fleet.tables import FactSet, Host, Pulse, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRights:
    """What a user's token held of groups, as last reported: well-known ones, and those that rules in force name."""

    number: int
    is_administrator: bool
    sids: tuple[str, ...]
    reported_at: datetime


def look_at_rights(session: Session, host_id: int, *, actor: Actor) -> tuple[UserRights, ...]:
    """The groups of each user of a host, by the user's number. That it was looked at goes into the audit log.

    raises: NotFoundError.
    """
    name = session.scalar(select(Host.name).where(Host.id == host_id))
    if name is None:
        raise NotFoundError("There is no such host.", field="host")
    rows = session.execute(users_of(host_id, Subject.token_id, Pulse.last_seen_at)).all()
    known = {row.token_id for row in rows if row.token_id is not None}
    stored = session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(known)))
    tokens = {set_id: json.loads(body) for set_id, body in stored}
    found = tuple(
        UserRights(
            number=number,
            is_administrator=bool(tokens[row.token_id].get("administrator")),
            sids=tuple(tokens[row.token_id].get("sids", ())),
            reported_at=row.last_seen_at,
        )
        for number, row in enumerate(rows, 1)
        if row.token_id in tokens
    )
    record(session, actor, "rights.viewed", name, host=host_id, users=len(found))
    return found
