"""What an administrator may put into an export: patterns, a kind of rule, a SID, folders. All of it is checked here.

Only these words, the catalogue and the baseline ever reach a rule; no text that a workstation reported does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.errors import InvalidError

RULE_KINDS = ("publisher", "hash", "path")
PLAN_KINDS = (*RULE_KINDS, "broad", "system")
"""`broad`: a path rule for the whole folder; `system`: the publisher of a Python that administrators deployed."""

COLLECTIONS = ("Exe", "Dll", "Script", "Msi")
ALL_USERS = {
    "S-1-1-0": "Everyone",
    "S-1-5-11": "Authenticated Users",
    "S-1-5-32-545": "Users",
    "S-1-5-4": "Interactive",
}
"""SIDs that every person at a workstation has, whoever they are."""

MAX_FOLDER_LETTERS = 200
MAX_PROJECT_ROOTS = 20

# Where uv keeps things by default, in AppLocker's words. Users can write in all four.
DEFAULT_ROOTS = {
    "cache": r"%OSDRIVE%\Users\*\AppData\Local\uv\cache",
    "python": r"%OSDRIVE%\Users\*\AppData\Roaming\uv\python",
    "tools": r"%OSDRIVE%\Users\*\AppData\Roaming\uv\tools",
    "bin": r"%OSDRIVE%\Users\*\.local\bin",
}
ROOT_VARIABLES = {
    "cache": "UV_CACHE_DIR",
    "python": "UV_PYTHON_INSTALL_DIR",
    "tools": "UV_TOOL_DIR",
    "bin": "UV_TOOL_BIN_DIR and UV_PYTHON_BIN_DIR",
}

_SID = re.compile(r"S-1-[0-9]{1,14}(-[0-9]{1,10}){1,15}")
_DOMAIN_USERS = re.compile(r"S-1-5-21(-[0-9]{1,10}){3}-513")
_DRIVE = re.compile(r"[A-Za-z]:")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")
_VARIABLES = {
    "%OSDRIVE%": "%OSDRIVE%",
    "%SYSTEMDRIVE%": "%OSDRIVE%",
    "%PROGRAMFILES%": "%PROGRAMFILES%",
    "%PROGRAMDATA%": r"%OSDRIVE%\ProgramData",
    "%USERPROFILE%": r"%OSDRIVE%\Users\*",
    "%LOCALAPPDATA%": r"%OSDRIVE%\Users\*\AppData\Local",
    "%APPDATA%": r"%OSDRIVE%\Users\*\AppData\Roaming",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternChoice:
    """One pattern to open. `kind` None: what works best; `files`: baseline ids, None: those that fit by name."""

    pattern: str
    kind: str | None = None
    files: tuple[int, ...] | None = None


def read_choice(text: str) -> PatternChoice:
    """A choice from `ID` or `ID=KIND`. raises: InvalidError about `patterns`

    >>> read_choice("venv-python=path").kind
    'path'
    """
    pattern, separator, kind = text.partition("=")
    if separator and kind not in RULE_KINDS:
        raise InvalidError(f"There is no rule kind {kind!r}; choose {', '.join(RULE_KINDS)}.", field="patterns")
    return PatternChoice(pattern=pattern, kind=kind or None)


def checked_sid(text: str) -> str:
    """A SID as Windows writes it, upper-cased. raises: InvalidError about `sid`

    >>> checked_sid(" s-1-5-32-545 ")
    'S-1-5-32-545'
    """
    sid = text.strip().upper()
    if not _SID.fullmatch(sid) or any(int(part) > 0xFFFFFFFF for part in sid.split("-")[3:]):
        raise InvalidError(
            f"{_shown(text)} is not a SID such as S-1-5-21-1004336348-1177238915-682003330-1234; a name won't do.",
            field="sid",
        )
    return sid


def is_everybody(sid: str) -> bool:
    """Whether a checked SID names all users: one of `ALL_USERS`, or a domain's users.

    >>> is_everybody("S-1-5-11"), is_everybody("S-1-5-21-1-2-3-513"), is_everybody("S-1-5-21-1-2-3-1513")
    (True, True, False)
    """
    return sid in ALL_USERS or _DOMAIN_USERS.fullmatch(sid) is not None


def checked_folder(text: str, field: str) -> str:
    r"""A folder that an administrator named, in AppLocker's words. raises: InvalidError about `field`

    >>> checked_folder(r"C:\src\ ".strip(), "project_roots")
    '%OSDRIVE%\\src'
    >>> checked_folder(r"%USERPROFILE%\source", "project_roots")
    '%OSDRIVE%\\Users\\*\\source'
    >>> checked_folder(r"D:\uv-cache\%USERNAME%", "roots.cache")
    'D:\\uv-cache\\*'
    """
    folder = text.rstrip("\\")
    if not folder:
        raise InvalidError("A folder is needed, such as C:\\src.", field=field)
    if len(folder) > MAX_FOLDER_LETTERS:
        raise InvalidError(f"A folder of at most {MAX_FOLDER_LETTERS} letters, please.", field=field)
    if not folder.isprintable():
        raise InvalidError(f"{_shown(folder)} holds a character that cannot be printed.", field=field)
    if folder.startswith(("\\\\", "//")):
        raise InvalidError(
            f"{_shown(folder)} is a network or device path; name a folder on a local drive.", field=field
        )
    found = re.search(r'[*?"<>|/]', folder)
    if found:
        raise InvalidError(f"{_shown(folder)} holds {found[0]!r}, which no folder's name can hold.", field=field)
    head, *parts = folder.split("\\")
    if head.startswith("%"):
        start = _VARIABLES.get(head.upper())
        if start is None:
            raise InvalidError(
                f"{_shown(head)} cannot be used here; a drive letter or one of {', '.join(_VARIABLES)} can.",
                field=field,
            )
    elif _DRIVE.fullmatch(head):
        # Windows is on C: wherever nobody took pains; AppLocker's own name for that drive is right even then.
        start = "%OSDRIVE%" if head.upper() == "C:" else head.upper()
    else:
        raise InvalidError(f"{_shown(folder)} does not begin with a drive, such as C:\\src.", field=field)
    if not parts and (start == "%OSDRIVE%" or _DRIVE.fullmatch(start)):
        raise InvalidError(f"{_shown(folder)} is a whole drive; name a folder on it.", field=field)
    for part in parts:
        if part.upper() != "%USERNAME%":
            _check_part(part, folder, field)
    # A folder that each user has under their own name: the only wildcard that a named folder can bring.
    return "\\".join((start, *("*" if part.upper() == "%USERNAME%" else part for part in parts)))


def checked_project_roots(roots: Sequence[str]) -> tuple[str, ...]:
    """Folders in which projects live, in AppLocker's words, each once. raises: InvalidError about `project_roots`"""
    if len(roots) > MAX_PROJECT_ROOTS:
        raise InvalidError(f"At most {MAX_PROJECT_ROOTS} project roots.", field="project_roots")
    checked: dict[str, str] = {}
    for root in roots:
        folder = checked_folder(root, "project_roots")
        checked.setdefault(folder.casefold(), folder)
    return tuple(checked.values())


def checked_roots(roots: Mapping[str, str]) -> dict[str, str]:
    """Where uv's directories were moved to, by name, in AppLocker's words. raises: InvalidError about `roots.NAME`"""
    for name in roots:
        if name not in DEFAULT_ROOTS:
            raise InvalidError(f"There is no root {_shown(name)}; choose {', '.join(DEFAULT_ROOTS)}.", field="roots")
    return {name: checked_folder(folder, f"roots.{name}") for name, folder in roots.items()}


def _check_part(part: str, folder: str, field: str) -> None:
    if not part:
        raise InvalidError(f"{_shown(folder)} has two backslashes in a row.", field=field)
    if part in (".", ".."):
        raise InvalidError(f"{_shown(folder)} has a {part!r} in it; write the folder out.", field=field)
    if part.endswith((".", " ")) or part.startswith(" "):
        raise InvalidError(f"{_shown(folder)}: no folder's name begins or ends like {_shown(part)}.", field=field)
    if ":" in part or "%" in part:
        raise InvalidError(f"{_shown(folder)} has a colon or a percent sign inside.", field=field)
    if re.search(r"~[0-9]", part):
        raise InvalidError(f"{_shown(folder)} is a short (8.3) name, which AppLocker never matches.", field=field)
    if _RESERVED.fullmatch(part):
        raise InvalidError(f"{_shown(folder)}: {part!r} is a device, not a folder.", field=field)


def _shown(text: str) -> str:
    """Text in a message: short, quoted, and harmless on any terminal."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
