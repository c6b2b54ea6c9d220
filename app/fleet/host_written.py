"""Hosts by what is written on them: name, group, state, attestation, agent and tags."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, exists, func, literal, select, text
from sqlalchemy.orm import Session

from app.errors import InvalidError
from app.fleet.host_wanted import HostFilter
from app.fleet.tables import Host, HostTag


def written_so(session: Session, wanted: HostFilter, *, few: int) -> Select[int, str]:
    """The ids and names of those on which it is written so. `few`: so many at most are looked up by name or tag."""
    query = select(Host.id, Host.name)
    if wanted.name:
        begins = _begins_with(wanted.name)
        if are_few_by_name(session, wanted.name, few=few):
            query = query.where(Host.id.in_(find_first(select(Host.id).where(begins), "named")))
        else:
            query = query.where(begins)
            if session.get_bind().dialect.name == "postgresql":
                # However the database sorts letters, no name before this begins so.
                query = query.where(Host.name >= func.least(wanted.name.lower(), wanted.name.upper()))
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
    some = select(HostTag.host_id).where(HostTag.tag == tag)
    count = session.scalar(select(func.count()).select_from(some.limit(few + 1).subquery())) or 0
    if count <= few:
        return Host.id.in_(find_first(some, "tagged"))
    return exists(
        select(1)
        .select_from(HostTag)
        .where(HostTag.tag == tag, HostTag.host_id == Host.id, HostTag.bucket == Host.bucket)
    )


def _begins_with(start: str) -> ColumnElement[bool]:
    if len(start) > 255 or "\x00" in start:
        raise InvalidError("Names are at most 255 characters.", field="name")
    pattern = start.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return func.lower(Host.name).like(pattern.lower(), escape="\\")


def are_few_by_name(session: Session, start: str, *, few: int) -> bool:
    """Whether at most so many hosts' names begin so: counted once in a session. Nothing is a beginning of all."""
    if not start:
        return False
    known: dict[tuple[str, int], bool] = session.info.setdefault("few_by_name", {})
    if (start, few) not in known:
        some = select(literal(1)).select_from(Host).where(_begins_with(start)).limit(few + 1)
        if session.get_bind().dialect.name == "postgresql":
            # In the order of their index: else the whole table may be read for names that lie at its end.
            some = some.order_by(text("lower(host.name) USING ~<~"))
        known[start, few] = (session.scalar(select(func.count()).select_from(some.subquery())) or 0) <= few
    return known[start, few]


def find_first(ids: Select[int], name: str) -> Select[int]:
    """Ids that are found before hosts are walked in order: for a page of few the planner would rather walk them all."""
    chosen = ids.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")
    return select(chosen.c[0])
