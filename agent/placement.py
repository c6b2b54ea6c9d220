"""Putting canaries where uv would put programs, and taking them away again: also after being killed half-way.

Everything that will be made is written to a journal before anything is made. What the journal names is removed at the
end of a cycle, or swept at the next start: a file only if its path has our marker and its content is a canary's (or
the beginning of one), a directory only if it is empty. Links and junctions in what we made are never followed.
"""

# ruff: noqa: PTH102, PTH106, PTH108, PTH120
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import string
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.canary import CANARIES, is_canary
from agent.storage import read_json, write_json

TOKEN_LENGTH = 13

_MAX_CANARY_BYTES = max(map(len, CANARIES))
# The markers that the catalogue's canary places carry, documented in docs/agent.md.
_MARKED = re.compile(r"^\.tmpWLV|^WLV|^tmpwlv|^\.wlv-probe$|wayleave-?probe")
_TOKEN_LETTERS = string.ascii_letters + string.digits


def new_token() -> str:
    """Random letters and digits for one cycle, of which a path's marker takes as many as it has room for."""
    return "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(TOKEN_LENGTH))


def has_marker(path: str) -> bool:
    """Whether a path carries one of the documented markers in one of its components."""
    return any(_MARKED.search(part) for part in path.replace("\\", "/").split("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One canary to be: its path, and the directories that have to be made for it, outermost first.

    `copy_bytes`: it is a copy of one of the host's own files, of so many bytes, and no canary.
    """

    path: str
    directories: tuple[str, ...]
    copy_bytes: int = 0


def plan_placement(path: str) -> Placement:
    """What has to be made for a canary at a path. raises: ValueError for a path without a marker."""
    if not has_marker(path):
        raise ValueError(f"{path} carries no marker")
    missing: list[str] = []
    parent = os.path.dirname(path)
    while parent and not os.path.lexists(parent):
        missing.append(parent)
        above = os.path.dirname(parent)
        if above == parent:
            break
        parent = above
    return Placement(path=path, directories=tuple(reversed(missing)))


class Journal:
    """The list, on disk, of what has been or is about to be made."""

    def __init__(self, path: Path, is_link: Callable[[str], bool]) -> None:
        self.path = path
        self._is_link = is_link
        self._files: list[str] = []
        self._directories: list[str] = []
        self._copies: dict[str, int] = {}

    def add(self, placements: Iterable[Placement]) -> None:
        """Write down what is about to be made, on disk before this returns."""
        before = len(self._files) + len(self._directories) + len(self._copies)
        for placement in placements:
            if placement.path not in self._files:
                self._files.append(placement.path)
            if placement.copy_bytes:
                self._copies[placement.path] = placement.copy_bytes
            for directory in placement.directories:
                if directory not in self._directories:
                    self._directories.append(directory)
        if len(self._files) + len(self._directories) + len(self._copies) != before:
            self._write()

    def sweep(self) -> tuple[str, ...]:
        """Remove what an earlier run wrote down and left. Returns what could not be removed and stays written down."""
        data = read_json(self.path)
        if data is None:
            self.path.unlink(missing_ok=True)
            return ()
        self._files = _texts(data.get("files"))
        self._directories = _texts(data.get("directories"))
        copies = data.get("copies")
        if isinstance(copies, dict):
            self._copies = {path: size for path, size in copies.items() if type(size) is int and size > 0}
        return self.clear()

    def clear(self) -> tuple[str, ...]:
        """Remove all that is written down. Returns the paths of canaries that are still there."""
        left = [path for path in self._files if not self._remove_file(path)]
        directories: list[str] = []
        for directory in sorted(self._directories, key=len, reverse=True):
            if not self._remove_directory(directory) and any(_is_below(path, directory) for path in left):
                directories.append(directory)
        self._files, self._directories = left, directories
        self._copies = {path: size for path, size in self._copies.items() if path in left}
        if left:
            self._write()
        else:
            self.path.unlink(missing_ok=True)
        return tuple(left)

    def remove(self, placement: Placement) -> None:
        """Remove one canary and the directories made for it, as far as they are empty."""
        self._remove_file(placement.path)
        for directory in reversed(placement.directories):
            self._remove_directory(directory)

    def _remove_file(self, path: str) -> bool:
        """Whether nothing of ours is left at a path."""
        if not has_marker(path) or self._passes_link(path):
            return True
        for attempt in range(20):
            try:
                if not _holds_canary(path) and not self._holds_copy(path):
                    return True
                os.unlink(path)
                return True
            except FileNotFoundError:
                return True
            except OSError:
                # Windows lets go of an ended program's file a moment later; a scanner may hold it for longer.
                time.sleep(0.01 * (attempt + 1))
        return False

    def _write(self) -> None:
        value: dict[str, object] = {"files": self._files, "directories": self._directories}
        if self._copies:
            value["copies"] = self._copies
        write_json(self.path, value)

    def _holds_copy(self, path: str) -> bool:
        """Whether a copy, or the beginning of one, is still there: no larger than it, in a folder that we made for it.

        Its bytes are the host's own and may change under us; that the folder did not exist before says whose it is.
        """
        size = self._copies.get(path)
        if size is None or os.path.dirname(path) not in self._directories or not has_marker(os.path.dirname(path)):
            return False
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size <= size

    def _remove_directory(self, directory: str) -> bool:
        if self._is_link(directory) or self._passes_link(directory):
            return False
        try:
            os.rmdir(directory)  # which removes nothing that is not empty
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _passes_link(self, path: str) -> bool:
        """Whether the path itself, or a directory on its way that we made, has become a link."""
        made = [directory for directory in self._directories if _is_below(path, directory)]
        return any(self._is_link(step) for step in (*made, path))


def place(placement: Placement, content: bytes) -> None:
    """Make the directories and the file. raises: OSError; FileExistsError if something is there already."""
    for directory in placement.directories:
        # Whoever made it meanwhile, uv perhaps, keeps it: it is removed only while empty.
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(placement.path, flags, 0o700)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(28, "the canary could not be written whole")
    finally:
        os.close(descriptor)


def _holds_canary(path: str) -> bool:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    descriptor = os.open(path, flags)
    try:
        return is_canary(os.read(descriptor, _MAX_CANARY_BYTES + 1))
    finally:
        os.close(descriptor)


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(directory) and path[len(directory) : len(directory) + 1] in ("/", "\\")


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
