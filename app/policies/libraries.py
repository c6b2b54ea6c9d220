"""Which trusted libraries belong to a pattern: those of environments, or those of a Python itself, never all there are.

A library's name says nothing of where it stands, so where it was taken from decides: the vendor's archive, or what the
administrator called the source. One source counts as one environment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from agent.catalogue import Pattern
from app.policies.baselines import TrustedFile

MAX_DLL_HASHES = 300
"""More libraries than this are not named one by one: their folder is moved out of users' reach instead."""

_OWN_LIBRARY_OF_PYTHON = "python3*.dll"


def libraries_for(source: Pattern, baseline: Sequence[TrustedFile]) -> Mapping[str, tuple[TrustedFile, ...]]:
    """The libraries that may stand at a pattern, by the archive or source that they are from.

    A source with Python's own library (python312.dll) is a Python; one with extension modules (.pyd) and without that
    is an environment; any other is no business of uv. What another vendor signed has its publisher for a rule.
    """
    found: dict[str, list[TrustedFile]] = defaultdict(list)
    for file in baseline:
        if file.kind == "dll":
            found[origin_of(file)].append(file)
    wants_python = source.group == "managed-python"
    kept = {}
    for origin, files in sorted(found.items()):
        names = [file.name.lower() for file in files]
        is_python = any(fnmatchcase(name, _OWN_LIBRARY_OF_PYTHON) for name in names)
        is_environment = not is_python and any(name.endswith(".pyd") for name in names)
        if is_python if wants_python else is_environment:
            # A vendor's archive was checked as a whole; a folder may hold what somebody else put there.
            kept[origin] = tuple(file for file in files if file.archive is not None or file.publisher is None)
    return {origin: files for origin, files in kept.items() if files}


def origin_of(file: TrustedFile) -> str:
    """The vendor's archive that a file is from, else what the administrator called its source."""
    return file.archive or file.source


def count_by_origin(files: Sequence[TrustedFile]) -> str:
    """How many files are from where, the most first, in words."""
    counts: dict[str, int] = defaultdict(int)
    for file in files:
        counts[origin_of(file)] += 1
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    more = f" and {len(most) - 4:,} other sources" if len(most) > 4 else ""
    return ", ".join(f"{count:,} of {origin[:80]!a}" for origin, count in most[:4]) + more
