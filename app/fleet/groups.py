"""Groups of hosts: by enrolment tag or imported list; Linux hosts have one of their own, outside fleet shares."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.errors import ConflictError, InvalidError, NotFoundError
from app.fleet.tables import Host, HostGroup

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


def read_group(session: Session, number: str, name: str = "") -> int | None:
    """The group that a form names, by its name or else its number; None for none. raises: InvalidError about `group`"""
    if name.strip():
        found = session.scalar(select(HostGroup.id).where(HostGroup.name == name.strip()))
        if found is None:
            raise InvalidError("There is no group of this name.", field="group")
        return found
    if not number:
        return None
    if not (number.isascii() and number.isdecimal()) or len(number) > 9:
        raise InvalidError("Choose a group.", field="group")
    return int(number)


def read_group_names(session: Session) -> dict[int, str]:
    """The names of all groups by their ids."""
    return {row.id: row.name for row in session.execute(select(HostGroup.id, HostGroup.name))}


def find_group_names(session: Session, text: str, *, limit: int) -> tuple[str, ...]:
    """Names of groups that hold a text, however it is written, in their order."""
    query = select(HostGroup.name).where(HostGroup.name.icontains(text.strip(), autoescape=True))
    return tuple(session.scalars(query.order_by(HostGroup.name).limit(limit)))


def create_group(session: Session, name: str, *, actor: Actor) -> HostGroup:
    """A new group without hosts. raises: InvalidError, ConflictError about `name`"""
    wanted = _group_name(name)
    if session.scalar(select(HostGroup.id).where(HostGroup.name == wanted)) is not None:
        raise ConflictError("There is already a group of this name.", field="name")
    group = get_or_make_group(session, wanted, "import")
    record(session, actor, "group.created", wanted)
    return group


def rename_group(session: Session, group_id: int, name: str, *, actor: Actor) -> None:
    """Gives a group another name; enrolment secrets and hosts stay with it.

    raises: NotFoundError; InvalidError, ConflictError about `name`.
    """
    group = _get_group(session, group_id)
    wanted = _group_name(name)
    if wanted == group.name:
        return
    if session.scalar(select(HostGroup.id).where(HostGroup.name == wanted)) is not None:
        raise ConflictError("There is already a group of this name.", field="name")
    record(session, actor, "group.renamed", group.name, to=wanted)
    group.name = wanted


def delete_group(session: Session, group_id: int, *, actor: Actor) -> None:
    """Deletes a group that has no host. raises: NotFoundError, ConflictError"""
    group = _get_group(session, group_id)
    if group.source in ("default", "linux"):
        raise ConflictError("Every installation has this group.", field="group")
    if session.scalar(select(exists().where(Host.group_id == group_id))):
        raise ConflictError("There are hosts in this group: move them first.", field="group")
    name = group.name
    try:
        with session.begin_nested():
            session.delete(group)
    except IntegrityError as error:
        raise ConflictError("An enrolment secret or a switch still names this group.", field="group") from error
    record(session, actor, "group.deleted", name)


def _get_group(session: Session, group_id: int) -> HostGroup:
    group = session.get(HostGroup, group_id)
    if group is None:
        raise NotFoundError("There is no such group.", field="group")
    return group


def _group_name(name: str) -> str:
    wanted = " ".join(name.split())
    if not wanted or len(wanted) > 120 or not wanted.isprintable():
        raise InvalidError("A group's name is 1 to 120 characters.", field="name")
    return wanted
