"""Tags: words that administrators give to hosts, as many as they like, to find them by. Counts don't know them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import CursorResult, delete, func, insert, select
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.errors import InvalidError, NotFoundError
from app.fleet.hosts import MOST_TOLD, NamedHosts
from app.fleet.tables import HostTag

_TAG = re.compile(r"[\w][\w .:/-]{0,59}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCount:
    """A tag and how many hosts have it."""

    tag: str
    hosts: int


def normal_tag(text: str) -> str:
    """A tag as it is stored: lower case, single spaces. raises: InvalidError about `tag`

    >>> normal_tag("  Pilot  Ring 1 ")
    'pilot ring 1'
    """
    tag = " ".join(text.split()).casefold()
    if not _TAG.fullmatch(tag):
        raise InvalidError("A tag is 1 to 60 letters, digits, spaces, or . : / - characters.", field="tag")
    return tag


def tag_hosts(session: Session, tag: str, hosts: NamedHosts, *, actor: Actor) -> int:
    """Gives hosts a tag; how many did not have it."""
    word = normal_tag(tag)
    added = 0
    for some in _parts(hosts.ids):
        have = set(session.scalars(select(HostTag.host_id).where(HostTag.tag == word, HostTag.host_id.in_(some))))
        new = [{"tag": word, "host_id": host_id} for host_id in some if host_id not in have]
        if new:
            session.execute(insert(HostTag), new)
        added += len(new)
    record(session, actor, "hosts.tagged", word, hosts=added, first=hosts.found[:MOST_TOLD])
    return added


def untag_hosts(session: Session, tag: str, hosts: NamedHosts, *, actor: Actor) -> int:
    """Takes a tag from hosts; how many had it."""
    word = normal_tag(tag)
    taken = 0
    for some in _parts(hosts.ids):
        result = session.execute(delete(HostTag).where(HostTag.tag == word, HostTag.host_id.in_(some)))
        taken += result.rowcount if isinstance(result, CursorResult) else 0
    record(session, actor, "hosts.untagged", word, hosts=taken, first=hosts.found[:MOST_TOLD])
    return taken


def drop_tag(session: Session, tag: str, *, actor: Actor) -> int:
    """Takes a tag from every host; how many had it. raises: NotFoundError"""
    result = session.execute(delete(HostTag).where(HostTag.tag == tag))
    count = result.rowcount if isinstance(result, CursorResult) else 0
    if not count:
        raise NotFoundError("There is no such tag.", field="tag")
    record(session, actor, "tag.dropped", tag, hosts=count)
    return count


def list_tags(
    session: Session, *, search: str = "", after: str = "", skip: int = 0, limit: int = 1000
) -> tuple[TagCount, ...]:
    """Tags by name, those with `search` in them, after a tag, without the first `skip`; at most so many."""
    query = select(HostTag.tag, func.count()).group_by(HostTag.tag).order_by(HostTag.tag).offset(skip).limit(limit)
    if search:
        query = query.where(HostTag.tag.contains(search.casefold(), autoescape=True))
    if after:
        query = query.where(HostTag.tag > after)
    return tuple(TagCount(tag=tag, hosts=hosts) for tag, hosts in session.execute(query))


def list_tag_names(session: Session, limit: int = 1000) -> tuple[str, ...]:
    """The first tags by name: each is looked for after the one before it, however many hosts have them."""
    first = select(func.min(HostTag.tag).label("tag")).cte("named", recursive=True)
    after = select(func.min(HostTag.tag)).where(HostTag.tag > first.c.tag).scalar_subquery()
    named = first.union_all(select(after).where(first.c.tag.is_not(None)))
    return tuple(session.scalars(select(named.c.tag).where(named.c.tag.is_not(None)).limit(limit)))


def count_tags(session: Session, *, search: str = "") -> int:
    """How many tags there are, or how many have `search` in them."""
    query = select(func.count(HostTag.tag.distinct()))
    if search:
        query = query.where(HostTag.tag.contains(search.casefold(), autoescape=True))
    return session.scalar(query) or 0


def tags_of(session: Session, host_id: int) -> tuple[str, ...]:
    """The tags of a host."""
    return tuple(session.scalars(select(HostTag.tag).where(HostTag.host_id == host_id).order_by(HostTag.tag)))


def _parts(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + 500] for start in range(0, len(ids), 500)]
