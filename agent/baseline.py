"""Takes a baseline: identifies every program, library, script and installer below folders of a trusted machine.

Only reads. Links, junctions and mounted volumes' reparse points that lead elsewhere are not followed; what cannot be
read is listed. Works wherever files can be read: on Windows, or on Linux over a mounted share or image.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.pe import FileIdentity, PeError
from agent.pe.identity import identify_source, is_checked
from agent.pe.listing import KINDS, MAX_FILES, LeftOut, ListedFile, Listing
from agent.pe.source import source_of_file

MAX_DEPTH = 64
MAX_ENTRIES = 2_000_000
"""So many files are looked at; more are rather a whole disk than an installation."""

_LEADS_ELSEWHERE = 0x20000000
"""The bit of a reparse tag that says: another name for something else. source: [MS-FSCC] 2.1.2.1"""

Progress = Callable[[int, int], None]


class TooMuch(ValueError):
    """More than a list holds."""


def take_baseline(
    folders: Iterable[Path], *, source: str = "", with_libraries: bool = True, progress: Progress | None = None
) -> Listing:
    """Identify the files below folders, or files named alone. `progress` hears of (looked at, taken).

    raises: TooMuch, FileNotFoundError for a folder that is not there.
    """
    files: list[ListedFile] = []
    left_out: list[LeftOut] = []
    named = tuple(folders)
    for folder in named:
        if not folder.exists():
            raise FileNotFoundError(2, "no such folder or file", str(folder))
    for looked_at, (shown, path) in enumerate(_all_files(named, left_out), start=1):
        if looked_at > MAX_ENTRIES:
            raise TooMuch(f"more than {MAX_ENTRIES:,} files to look at; name fewer folders")
        identity = _identity(path, shown, left_out)
        if identity is not None and (with_libraries or identity.kind != "dll"):
            files.append(ListedFile(path=shown, identity=identity))
        if len(files) > MAX_FILES or len(left_out) > MAX_FILES:
            raise TooMuch(f"more than {MAX_FILES:,} files for one list; name fewer folders, or leave libraries out")
        if progress is not None:
            progress(looked_at, len(files))
    return Listing(
        source=source or ", ".join(_name(folder) for folder in named),
        files=tuple(sorted(files, key=lambda one: (one.path, one.identity.sha256))),
        left_out=tuple(sorted(left_out, key=lambda one: (one.path, one.reason))),
    )


def _all_files(named: Iterable[Path], left_out: list[LeftOut]) -> Iterator[tuple[str, Path]]:
    for one in named:
        shown = printable(_name(one))
        if one.is_dir():
            yield from _below(one, shown, 0, left_out)
        else:
            yield shown, one


def _below(folder: Path, shown: str, depth: int, left_out: list[LeftOut]) -> Iterator[tuple[str, Path]]:
    if depth >= MAX_DEPTH:
        left_out.append(LeftOut(path=shown, reason=f"more than {MAX_DEPTH} folders deep"))
        return
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda one: one.name)
    except OSError as error:
        left_out.append(LeftOut(path=shown, reason=_why(error)))
        return
    for entry in entries:
        name = f"{shown}/{printable(entry.name)}"
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            left_out.append(LeftOut(path=name, reason=_why(error)))
            continue
        if leads_elsewhere(status):
            left_out.append(LeftOut(path=name, reason="a link or junction, not followed"))
        elif stat.S_ISDIR(status.st_mode):
            yield from _below(Path(entry.path), name, depth + 1, left_out)
        elif stat.S_ISREG(status.st_mode):
            yield name, Path(entry.path)


def leads_elsewhere(status: os.stat_result) -> bool:
    """Whether this is a symbolic link, or on Windows a junction or mount point."""
    if stat.S_ISLNK(status.st_mode):
        return True
    return bool(getattr(status, "st_reparse_tag", 0) & _LEADS_ELSEWHERE)


def _identity(path: Path, shown: str, left_out: list[LeftOut]) -> FileIdentity | None:
    """The identity of a file that some collection checks; None for others, and for what goes to `left_out`."""
    try:
        with path.open("rb") as file:
            source = source_of_file(path, file)
            # Whatever else lies there is not read to its end.
            identity = identify_source(source) if is_checked(source) else None
    except PeError as error:
        left_out.append(LeftOut(path=shown, reason=printable(str(error).replace(str(path), "the file"))[:500]))
        return None
    except OSError as error:
        left_out.append(LeftOut(path=shown, reason=_why(error)))
        return None
    if identity is None or identity.kind not in KINDS:
        return None
    if identity.name != printable(identity.name):
        left_out.append(LeftOut(path=shown, reason="its name has control characters"))
        return None
    return identity


def printable(text: str) -> str:
    r"""A name as it may stand in a list: what cannot be printed is written out.

    >>> printable("a\nb.exe")
    'a\\x0ab.exe'
    """
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)[:4096] or "-"


def _name(folder: Path) -> str:
    resolved = folder.absolute()
    return resolved.name or resolved.anchor


def _why(error: OSError) -> str:
    return printable(error.strerror or type(error).__name__)[:500]
