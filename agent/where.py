"""Where a folder really is, as AppLocker would write it: from the opened folder's own final path, not from its name.

A profile may lie on another drive, on a share, on a volume mounted into a folder (FSLogix and the like), or in the
private store of a packaged application; a drive letter may stand for a share or another folder. What a rule for
`%OSDRIVE%\\Users\\*` opens there is nothing, so a place is told as what was opened. Pure; `_places_windows` asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum


class DriveKind(IntEnum):
    """GetDriveTypeW's answers that matter."""

    UNKNOWN = 0
    NO_ROOT = 1
    REMOVABLE = 2
    FIXED = 3
    REMOTE = 4
    CD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the system said of an opened folder.

    `dos`: its final path by letter or share (`C:\\...`, `UNC\\server\\...`, behind the literal prefix), empty if its
    volume has neither; `guid`: by the volume's name; `drive_guid`: the volume of the drive in `dos`, which is another
    where a volume is mounted into a folder; `kind`: of that drive; `rest`: what does not exist yet below it.
    """

    dos: str = ""
    guid: str = ""
    drive_guid: str = ""
    kind: DriveKind = DriveKind.FIXED
    rest: str = ""


Open = Callable[[str], Opened | None]
"""Open a folder, or the nearest one above it that exists; None if not even that can be."""

NO_LETTER = "\\\\?\\Volume{*}"
"""What stands for a volume that has no letter: no rule that begins with a drive matches there."""


def real_place(opened: Opened) -> tuple[str, str]:
    """Where an opened folder is, and what to write for its drive (empty: the drive's own letter).

    >>> real_place(Opened(dos=r"\\\\?\\UNC\\nas\\home$\\jane", rest=r"\\uv\\cache"))
    ('\\\\\\\\nas\\\\home$\\\\jane\\\\uv\\\\cache', '')
    >>> real_place(Opened(guid=r"\\\\?\\Volume{1-2}\\jane", rest=r"\\uv"))[1]
    '\\\\\\\\?\\\\Volume{*}'
    """
    if opened.dos:
        path = opened.dos.removeprefix("\\\\?\\")
        if path.upper().startswith("UNC\\"):
            return "\\\\" + path[4:].rstrip("\\") + opened.rest, ""
        if re.match(r"[A-Za-z]:", path) and not _is_mounted(opened):
            word = {DriveKind.REMOVABLE: "%HOT%", DriveKind.CD: "%REMOVABLE%"}.get(opened.kind, "")
            return path.rstrip("\\") + opened.rest, word
    inside = re.sub(r"^\\\\\?\\[^\\]+", "", opened.guid or opened.dos)
    return "?:" + inside.rstrip("\\") + opened.rest, NO_LETTER


def _is_mounted(opened: Opened) -> bool:
    """Whether the path goes through a drive on which the folder does not lie: its volume is mounted into a folder."""
    volume, drive = opened.guid.lower(), opened.drive_guid.lower().rstrip("\\")
    return bool(volume and drive) and not (volume + "\\").startswith(drive + "\\")


def with_long_names(variables: Mapping[str, str], long_name: Callable[[str], str]) -> dict[str, str]:
    """Variables with the short names (`JANEDO~1`) of the folders in them written out, as far as they exist.

    >>> with_long_names({"TEMP": r"C:\\Users\\JANEDO~1", "A": "x~y"}, lambda path: path.replace("JANEDO~1", "Jane Doe"))
    {'TEMP': 'C:\\\\Users\\\\Jane Doe', 'A': 'x~y'}
    """
    return {name: long_name(value) if _has_short_name(value) else value for name, value in variables.items()}


def _has_short_name(value: str) -> bool:
    return bool(re.match(r"(?:[A-Za-z]:|\\\\)", value)) and re.search(r"~\d", value) is not None and ";" not in value
