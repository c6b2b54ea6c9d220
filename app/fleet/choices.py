"""What hosts can be filtered by, as far as the fleet has it: versions of uv and of the agent, policies in force."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.orm import Session

from app.fleet.tables import KIND_NUMBERS, AgentVersionCount, FactSet, Tally, VersionTally
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
    """The versions of uv and of the agent in use, the newest first, and the policies that most users have.

    `agents` are as of the last hourly count.
    """

    versions: tuple[str, ...]
    agents: tuple[str, ...]
    policies: tuple[PolicyChoice, ...]


def read_choices(session: Session) -> Choices:
    """Two statements, however large the fleet."""
    of_uv = select(literal(True), VersionTally.version).distinct().limit(MOST_VERSIONS).subquery()
    of_agents = select(literal(False), AgentVersionCount.version).distinct().limit(MOST_VERSIONS).subquery()
    used = [(is_uv, version) for is_uv, version in session.execute(union_all(select(of_uv), select(of_agents)))]
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
        versions=_sorted(version for is_uv, version in used if is_uv),
        agents=_sorted(version for is_uv, version in used if not is_uv),
        policies=tuple(
            PolicyChoice(id=set_id, name=bytes(digest).hex()[:8], users=int(count)) for set_id, digest, count in rows
        ),
    )


def _sorted(versions: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted((one for one in versions if one), key=version_key, reverse=True))
