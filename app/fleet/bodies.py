"""The bodies of fact sets by their ids, some at a time: no statement names more of them than a database takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.fleet.tables import FactSet

_AT_ONCE = 500


def iterate_bodies(session: Session, ids: Iterable[int | None]) -> Iterator[tuple[int, str]]:
    """The ids and bodies of those sets that there are. None among the ids stands for no set."""
    ordered = sorted({one for one in ids if one is not None})
    for begin in range(0, len(ordered), _AT_ONCE):
        some = ordered[begin : begin + _AT_ONCE]
        rows = session.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(some)))
        yield from ((row.id, row.body) for row in rows)
