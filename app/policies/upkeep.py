"""How often a rule has to be followed up: new hashes a year, and what ends a rule.

The figures are rates of releases, each with where it comes from. They are for planning; nobody promised them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.catalogue import Pattern
from app.policies.baselines import TrustedFile

CPYTHON_BUILDS_A_YEAR = 6
"""Of each minor version that still gets fixes. source: PEP 602, bugfix releases about every two months"""

UV_RELEASES_A_YEAR = 105
"""source: 21 releases from uv 0.12.12 (9 September 2026) to 0.13.8 (by 21 November 2026), 73 days, scaled up"""

_LAUNCHER_FILES = 2
"""python.exe and pythonw.exe: a build has both, and both are launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """`hashes_a_year` None: cannot be told in advance; `sentence`: what to do, and on what the figure rests."""

    hashes_a_year: int | None
    sentence: str


NOTHING_TO_ADD = Upkeep(hashes_a_year=0, sentence="")


def upkeep_of_hashes(pattern: Pattern, files: Sequence[TrustedFile]) -> Upkeep:
    """What hash rules for a pattern need in a year, for the builds that the baseline holds (at least one)."""
    if pattern.group == "uv-binary" or pattern.id.startswith("self-replace"):
        return Upkeep(
            hashes_a_year=UV_RELEASES_A_YEAR,
            sentence="A new hash for every uv release that you roll out; uv had 21 in the 73 days to November 2026.",
        )
    if is_python(pattern):
        minors = {_minor(file.version) for file in files if file.version} or {None}
        count = CPYTHON_BUILDS_A_YEAR * _LAUNCHER_FILES * len(minors)
        return Upkeep(
            hashes_a_year=count,
            sentence=(
                f"A new hash for every new Python build: about {CPYTHON_BUILDS_A_YEAR} a year for each minor version, "
                f"python.exe and pythonw.exe each ({_listed_minors(minors)})."
            ),
        )
    if "Dll" in pattern.collections:
        return Upkeep(
            hashes_a_year=None,
            sentence="Every new version of a package brings as many new hashes as it has libraries.",
        )
    return Upkeep(hashes_a_year=None, sentence="A new hash for every new version of each file.")


def is_python(pattern: Pattern) -> bool:
    """Whether a pattern's file is a Python or its launcher, whose bytes are those of the build."""
    names = [template.rpartition("\\")[2].lower() for template in pattern.templates]
    return bool(names) and all(name.startswith(("python", "pypy", "graalpy")) for name in names)


def _minor(version: str | None) -> str | None:
    return ".".join((version or "").split(".")[:2]) or None


def _listed_minors(minors: set[str | None]) -> str:
    known = sorted(one for one in minors if one)
    return f"counted for {', '.join(known)}" if known else "counted for one minor version"
