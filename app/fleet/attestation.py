"""How many hosts are unattested: their users run the agent themselves, and could have it say anything."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, not_, select
from sqlalchemy.orm import Session

from app.fleet.standing import HostState
from app.fleet.tables import Host

MANY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattested:
    """`hosts`: their number, `is_more`: there are at least as many."""

    hosts: int
    is_more: bool = False


def count_unattested(session: Session, group_id: int | None = None) -> Unattested:
    """The active Windows hosts of the fleet or a group whose reports no system account vouches for."""
    query = select(Host.id).where(not_(Host.attested), Host.state == HostState.ACTIVE.value, Host.platform == "windows")
    if group_id is not None:
        query = query.where(Host.group_id == group_id)
    found = session.scalar(select(func.count()).select_from(query.limit(MANY).subquery())) or 0
    return Unattested(hosts=found, is_more=found == MANY)
