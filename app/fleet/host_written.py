"""Hosts by what is written on them: name, group, state, attestation, agent and tags."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import InvalidError
from app.fleet.host_wanted import HostFilter
from app.fleet.tables import Host, HostTag

_MORE_TAGGED = 8
"""So many times more are looked up by a tag: their numbers stand together in its index."""


def written_so(session: Session, wanted: HostFilter, *, few: int) -> Select[int, str]:
    """The ids and names of those on which it is written so. `few`: so many at most are looked up by name or tag."""
    query = select(Host.id, Host.name)
    if wanted.name:
        if _are_few_by_name(session, wanted.name, few):
            named = select(Host.id).where(_begins_with(Host.name, wanted.name))
            query = query.where(Host.id.in_(find_first(named, "named")))
        else:
            query = query.where(begins_so(session, Host.name, wanted.name))
    if wanted.group_id is not None:
        query = query.where(Host.group_id == wanted.group_id)
    if wanted.state is not None:
        query = query.where(Host.state == wanted.state.value)
    if wanted.attested is not None:
        query = query.where(Host.attested == wanted.attested)
    if wanted.agent_version is not None:
        query = query.where(Host.agent_version == wanted.agent_version)
        if not wanted.attested:
            # Of a Linux trial nothing could be vouched for: it is not called unattested.
            query = query.where(Host.platform == "windows")
    if wanted.tag is not None:
        query = query.where(_tagged(session, wanted.tag, few))
    return query


def _tagged(session: Session, tag: str, few: int) -> ColumnElement[bool]:
    if _are_few_tagged(session, tag, few):
        return Host.id.in_(find_first(select(HostTag.host_id).where(HostTag.tag == tag), "tagged"))
    return exists(
        select(1)
        .select_from(HostTag)
        .where(HostTag.tag == tag, HostTag.host_id == Host.id, HostTag.bucket == Host.bucket)
    )


def _are_few_tagged(session: Session, tag: str, few: int) -> bool:
    """Whether so few hosts have a tag that all are looked up: they may all be at the end of all names."""
    known: dict[tuple[str, int], bool] = session.info.setdefault("few_tagged", {})
    if (tag, few) not in known:
        some = select(HostTag.host_id).where(HostTag.tag == tag).limit(_MORE_TAGGED * few + 1).subquery()
        known[tag, few] = (session.scalar(select(func.count()).select_from(some)) or 0) <= _MORE_TAGGED * few
    return known[tag, few]


def begins_so(session: Session, column: InstrumentedAttribute[str], start: str) -> ColumnElement[bool]:
    """Whether a name begins so, for a walk by name."""
    begins = _begins_with(column, start)
    if session.get_bind().dialect.name != "postgresql":
        return begins
    # However the database sorts letters, no name before this begins so.
    return and_(begins, column >= func.least(start.lower(), start.upper()))


def _begins_with(column: InstrumentedAttribute[str], start: str) -> ColumnElement[bool]:
    if len(start) > 255 or "\x00" in start:
        raise InvalidError("Names are at most 255 characters.", field="name")
    pattern = start.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return func.lower(column).like(pattern.lower(), escape="\\")


def are_few(session: Session, wanted: HostFilter, *, few: int) -> bool:
    """Whether few have the beginning of a name or the tag that is asked for: they are looked up."""
    return bool(
        (wanted.name and _are_few_by_name(session, wanted.name, few))
        or (wanted.tag is not None and _are_few_tagged(session, wanted.tag, few))
    )


def _are_few_by_name(session: Session, start: str, few: int) -> bool:
    return count_named(session, start, few=few) <= few


def count_named(session: Session, start: str, *, few: int) -> int:
    """How many hosts' names begin so: counted once in a session, and no further than to one more than `few`."""
    known: dict[tuple[str, int], int] = session.info.setdefault("named_so", {})
    if (start, few) not in known:
        some = select(literal(1)).select_from(Host).where(_begins_with(Host.name, start)).limit(few + 1)
        if session.get_bind().dialect.name == "postgresql":
            # In the order of their index: else the whole table may be read for names that lie at its end.
            some = some.order_by(text("lower(host.name) USING ~<~"))
        known[start, few] = session.scalar(select(func.count()).select_from(some.subquery())) or 0
    return known[start, few]


def find_first(ids: Select[int], name: str) -> Select[int]:
    """Ids that are found before hosts are walked in order: for a page of few the planner would rather walk them all."""
    chosen = ids.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")
    return select(chosen.c[0])
