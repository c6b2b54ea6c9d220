"""What hosts can be filtered by, as far as the fleet itself has it: versions of uv, and policies in force."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.fleet.tables import KIND_NUMBERS, FactSet, Tally, VersionTally
from app.fleet.versions import version_key

MOST_VERSIONS = 200
MOST_POLICIES = 50
LOOKED_AT = 200
"""So many policies, the first that were seen, are looked at for those that most users have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """A policy in force, by the name that the pages about policies have for it."""

    id: int
    name: str
    users: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The versions in use, the newest first, and the policies that most users have."""

    versions: tuple[str, ...]
    policies: tuple[PolicyChoice, ...]


def read_choices(session: Session) -> Choices:
    """Two statements, however large the fleet."""
    used = session.scalars(select(VersionTally.version).distinct().limit(MOST_VERSIONS))
    some = (
        select(FactSet.id, FactSet.digest)
        .where(FactSet.kind == KIND_NUMBERS["policy"], FactSet.retired_at.is_(None))
        .limit(LOOKED_AT)
        .subquery()
    )
    users = func.sum(Tally.subjects)
    rows = session.execute(
        select(some.c.id, some.c.digest, users)
        .join(Tally, Tally.set_id == some.c.id)
        .group_by(some.c.id, some.c.digest)
        .order_by(users.desc(), some.c.id)
        .limit(MOST_POLICIES)
    )
    return Choices(
        versions=tuple(sorted((one for one in used if one), key=version_key, reverse=True)),
        policies=tuple(
            PolicyChoice(id=set_id, name=bytes(digest).hex()[:8], users=int(count)) for set_id, digest, count in rows
        ),
    )
