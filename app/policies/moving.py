"""Where uv's folders may be moved so that only administrators write there, and what machines must be told for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.catalogue import Catalogue, Pattern
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import DEFAULT_ROOTS, PatternChoice
from app.policies.libraries import MAX_DLL_HASHES, count_by_origin
from app.policies.plan import rule_giver

PROTECTED_FOLDERS = {
    "python": r"%PROGRAMFILES%\uv\python",
    "tools": r"%PROGRAMFILES%\uv\tools",
    "bin": r"%PROGRAMFILES%\uv\bin",
}
"""Where administrators may move what uv need not write at run time. The cache and environments are not among it."""

VARIABLES_OF_ROOT = {
    "cache": ("UV_CACHE_DIR",),
    "python": ("UV_PYTHON_INSTALL_DIR",),
    "tools": ("UV_TOOL_DIR",),
    "bin": ("UV_TOOL_BIN_DIR", "UV_PYTHON_BIN_DIR"),
}
SYSTEM_PYTHON_SETTINGS = (("UV_PYTHON_PREFERENCE", "only-system"), ("UV_PYTHON_DOWNLOADS", "never"))
UV_FOLDER = r"%PROGRAMFILES%\uv"


def movable_root(catalogue: Catalogue, pattern: Pattern) -> str | None:
    """The root, if all of a pattern's paths lie under one that uv need not write at run time."""
    if pattern.group == "uv-binary":
        return None  # uv itself is moved by whoever deploys it, not by a variable of uv
    try:
        source = rule_giver(catalogue, pattern)
    except InvalidError:
        return None
    for name in PROTECTED_FOLDERS:
        prefix = DEFAULT_ROOTS[name].lower() + "\\"
        if source.applocker_paths and all(path.lower().startswith(prefix) for path in source.applocker_paths):
            return name
    return None


def refuse_too_many(choice: PatternChoice | None, pattern: Pattern, baseline: Sequence[TrustedFile]) -> None:
    """Libraries are not named by the thousand. raises: InvalidError about `files`"""
    if choice is None or choice.kind != "hash" or not choice.files or "Dll" not in pattern.collections:
        return
    chosen = frozenset(choice.files)
    libraries = [file for file in baseline if file.id in chosen and file.kind == "dll"]
    if len(libraries) > MAX_DLL_HASHES:
        raise InvalidError(
            f"The baseline holds {len(libraries):,} libraries for it ({count_by_origin(libraries)}); more than "
            f"{MAX_DLL_HASHES} are not named one by one (numpy and torch alone have thousands, and each new version "
            "has others). Move the environment to a folder that only administrators can write, or accept a path.",
            field="files",
        )


def folder_for(root: str, roots: Mapping[str, str]) -> str:
    """Where a root is moved to: as the rule set says, else where only administrators can write."""
    return roots.get(root) or PROTECTED_FOLDERS[root]
