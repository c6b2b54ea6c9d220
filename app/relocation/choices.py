"""What an administrator chooses of a relocation: where uv's directories go, what users may still do. Checked here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import InvalidError
from app.policies.choices import checked_folder, checked_project_roots
from app.policies.reach import is_writable_by_users, shown

ADMIN_ROOTS = {
    "uv": r"C:\Program Files\uv",
    "python": r"C:\Program Files\uv\python",
    "tools": r"C:\Program Files\uv\tools",
    "bin": r"C:\Program Files\uv\bin",
}
"""What uv need not write when users run it, and where it goes unless something else is chosen."""

# In a user's own variable Windows fills these in at logon; uv itself fills in nothing.
PER_USER = ("%USERNAME%", "%USERPROFILE%", "%LOCALAPPDATA%", "%APPDATA%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    r"""Where things go. Folders as Windows has them (`C:\Program Files\uv`); `cache` empty: it stays in the profile.

    `cache` may hold one of `PER_USER`, so that each user has one of their own. `forbid_downloads`: users get the
    Pythons that administrators installed, and no others; `forbid_builds`: only wheels are installed.
    """

    uv: str = ADMIN_ROOTS["uv"]
    python: str = ADMIN_ROOTS["python"]
    tools: str = ADMIN_ROOTS["tools"]
    bin: str = ADMIN_ROOTS["bin"]
    cache: str = ""
    project_roots: tuple[str, ...] = ()
    forbid_downloads: bool = True
    forbid_builds: bool = False

    @property
    def is_cache_per_user(self) -> bool:
        """Whether the chosen cache folder is another for each user."""
        return any(name in self.cache.upper() for name in PER_USER)

    @property
    def cache_parent(self) -> str | None:
        r"""The folder above the users' own caches (`D:\uv` of `D:\uv\%USERNAME%`); None if it is in their profiles."""
        if not self.cache or not self.is_cache_per_user or self.cache.startswith("%"):
            return None
        return self.cache[: self.cache.upper().index("%USERNAME%")].rstrip("\\")


def checked_relocation(
    *,
    uv: str = "",
    python: str = "",
    tools: str = "",
    bin_folder: str = "",
    cache: str = "",
    project_roots: Sequence[str] = (),
    forbid_downloads: bool = True,
    forbid_builds: bool = False,
) -> Relocation:
    """The choice, each folder checked; empty ones take their default. raises: InvalidError naming the field"""
    folders = {
        name: _admin_folder(given.strip() or ADMIN_ROOTS[name], name)
        for name, given in (("uv", uv), ("python", python), ("tools", tools), ("bin", bin_folder))
    }
    for name in ("python", "tools", "bin"):
        for other in ("python", "tools", "bin"):
            if name != other and folders[name].lower() == folders[other].lower():
                raise InvalidError(f"{name} and {other} need a folder each.", field=name)
    return Relocation(
        **folders,
        cache=_cache_folder(cache.strip()),
        project_roots=tuple(_on_disk(root) for root in checked_project_roots(project_roots)),
        forbid_downloads=forbid_downloads,
        forbid_builds=forbid_builds,
    )


def can_users_write(folder: str) -> bool:
    r"""Whether users can write in a folder of a disk, by Windows' default permissions.

    >>> can_users_write(r"C:\Program Files\uv"), can_users_write(r"D:\apps")
    (False, True)
    """
    form = re.sub(r"^(?:c:|%osdrive%)\\program files(?: \(x86\))?(?=\\)", lambda _: "%PROGRAMFILES%", folder.lower())
    return is_writable_by_users(re.sub(r"^(?:c:|%osdrive%)\\windows(?=\\)", lambda _: "%WINDIR%", form))


def _admin_folder(text: str, field: str) -> str:
    folder = checked_folder(text, field)
    if "*" in folder:
        raise InvalidError("This folder is one for all users: name it without a user's variable.", field=field)
    return shown(folder)


def _cache_folder(text: str) -> str:
    if not text:
        return ""
    upper = text.upper()
    held = [name for name in PER_USER if name in upper]
    if len(held) > 1 or text.count("%") not in (0, 2):
        raise InvalidError(f"Only one of {', '.join(PER_USER)} can be used, once.", field="cache")
    if not held:
        folder = checked_folder(text, "cache")
        if not can_users_write(folder):
            raise InvalidError(
                "uv writes its cache when users run it, and ordinary users cannot write there. "
                r"Name a folder such as D:\uv-cache\%USERNAME%.",
                field="cache",
            )
        return shown(folder)
    if held == ["%USERNAME%"]:
        if not re.search(r"(?i)[^:]\\%username%(\\|$)", text):
            raise InvalidError(r"Name a folder above the users' own, such as D:\uv-cache\%USERNAME%.", field="cache")
        if not can_users_write(checked_folder(text, "cache")):
            raise InvalidError("Ordinary users cannot make a folder there.", field="cache")
        return re.sub("(?i)%username%", "%USERNAME%", text).rstrip("\\")
    checked_folder(text, "cache")
    return held[0] + text[len(held[0]) :].rstrip("\\")


def _on_disk(folder: str) -> str:
    return shown(folder).replace("\\Users\\*", "%USERPROFILE%", 1).replace("C:%USERPROFILE%", "%USERPROFILE%")
