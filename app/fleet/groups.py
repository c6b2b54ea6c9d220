"""Groups of hosts: by enrolment tag or imported list; Linux hosts have one of their own, outside fleet shares."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.base import now
from app.fleet.tables import HostGroup

DEFAULT_GROUP = "Workstations"
LINUX_GROUP = "Linux trials"


def get_or_make_group(session: Session, name: str, source: str = "tag") -> HostGroup:
    """The group of a name, made when there is none."""
    group = session.scalar(select(HostGroup).where(HostGroup.name == name))
    if group is None:
        group = HostGroup(name=name, source=source, created_at=now())
        session.add(group)
        session.flush()  # its id is wanted
    return group


def make_standard_groups(session: Session) -> tuple[int, int]:
    """The ids of the default group and of the Linux group, which every installation has."""
    default = get_or_make_group(session, DEFAULT_GROUP, "default")
    linux = get_or_make_group(session, LINUX_GROUP, "linux")
    return default.id, linux.id
