"""How many hosts are unattested: their users run the agent themselves, and could have it say anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import func, not_, select
from sqlalchemy.orm import Session

from app.fleet.standing import HostState
from app.fleet.tables import Host

MANY = 10_000
ABOUT_S = 30.0
"""So long a page may go on saying what was counted for another one."""


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


@dataclass(slots=True)
class UnattestedLately:
    """The count of the whole fleet, as one process last made it: every page tells it, and it changes seldom."""

    found: Unattested = Unattested(hosts=0)
    counted_at: float | None = None

    def read(self, session: Session, *, clock: Callable[[], float] = time.monotonic) -> Unattested:
        """The count, at most half a minute old."""
        now = clock()
        if self.counted_at is None or now - self.counted_at > ABOUT_S:
            self.found, self.counted_at = count_unattested(session), now
        return self.found
