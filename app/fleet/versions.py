"""How versions of uv sort, and which of those in use are older than another."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.fleet.tables import VersionTally

MOST_VERSIONS = 2_000
"""A workstation may report any word as its version: so many are looked at."""


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """How versions sort: numbers as numbers; none at all before all others.

    >>> sorted(["0.10.0", "0.9.2", ""], key=version_key)
    ['', '0.9.2', '0.10.0']
    """
    if not version:
        return ()
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in version.replace("-", ".").split("."))


def versions_before(session: Session, version: str) -> list[str]:
    """The versions in use that are older than one; users without a uv have none."""
    used = session.scalars(select(VersionTally.version).distinct().order_by(VersionTally.version).limit(MOST_VERSIONS))
    return [one for one in used if one and version_key(one) < version_key(version)]
