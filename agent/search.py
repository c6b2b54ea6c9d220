"""Finding files by the catalogue's globs, within bounds: a workstation's disk is not ours to walk."""

# ruff: noqa: PTH113, PTH116, PTH117, PTH118
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import fnmatch
import itertools
import os
import re
from collections.abc import Iterable, Iterator

MAX_DIRECTORIES = 1_000
MAX_ENTRIES = 2_000
MAX_DEPTH = 4

_REPARSE_POINT = 0x400  # st_file_attributes of a junction, which is no link to Python before 3.12


def find_files(globs: Iterable[str], *, limit: int) -> tuple[str, ...]:
    """Files that match any of the globs (`*`, `?` within a name, `**` across), newest first, at most `limit`."""
    found: dict[str, float] = {}
    reader = _Reader()
    for glob in globs:
        reader.left = MAX_DIRECTORIES
        for path in _match(glob, reader):
            try:
                found.setdefault(path, os.stat(path).st_mtime)
            except OSError:
                continue
            if len(found) >= MAX_ENTRIES:
                break
    newest = sorted(found, key=lambda path: (-found[path], path))
    return tuple(newest[:limit])


class _Reader:
    """Lists directories: each once, and no more than `left` for one glob."""

    def __init__(self) -> None:
        self.left = MAX_DIRECTORIES
        self._read: dict[str, list[os.DirEntry[str]]] = {}

    def entries(self, directory: str) -> list[os.DirEntry[str]]:
        if self.left <= 0:
            return []
        self.left -= 1
        if directory not in self._read:
            try:
                with os.scandir(directory) as scan:
                    found = list(itertools.islice(scan, MAX_ENTRIES))
            except OSError:
                found = []
            self._read[directory] = sorted(found, key=lambda entry: entry.name)
        return self._read[directory]


def _match(glob: str, reader: _Reader) -> Iterator[str]:
    drive, rest = os.path.splitdrive(glob)
    parts = [part for part in rest.replace("\\", "/" if os.sep == "\\" else "\\").split("/") if part]
    if parts and os.path.isabs(glob):
        yield from _walk(drive + os.sep, parts, reader)


def _walk(base: str, parts: list[str], reader: _Reader) -> Iterator[str]:
    literal = 0
    while literal < len(parts) and not _is_wild(parts[literal]):
        literal += 1
    base = os.path.join(base, *parts[:literal])
    parts = parts[literal:]
    if not parts:
        if os.path.isfile(base):
            yield base
        return
    if parts[0] == "**":
        for directory in _descend(base, reader):
            yield from _walk(directory, parts[1:], reader) if len(parts) > 1 else _files(directory, reader)
        return
    matches = re.compile(fnmatch.translate(os.path.normcase(parts[0]))).match
    for entry in reader.entries(base):
        if not matches(os.path.normcase(entry.name)):
            continue
        if len(parts) == 1:
            if _is_file(entry):
                yield entry.path
        elif _is_directory(entry):
            yield from _walk(entry.path, parts[1:], reader)


def _descend(base: str, reader: _Reader, depth: int = 0) -> Iterator[str]:
    yield base
    if depth < MAX_DEPTH:
        for entry in reader.entries(base):
            if _is_directory(entry, follow=False):
                yield from _descend(entry.path, reader, depth + 1)


def _files(base: str, reader: _Reader) -> Iterator[str]:
    yield from (entry.path for entry in reader.entries(base) if _is_file(entry))


def _is_wild(part: str) -> bool:
    return any(letter in part for letter in "*?[")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_directory(entry: os.DirEntry[str], *, follow: bool = True) -> bool:
    try:
        if not follow and getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0) & _REPARSE_POINT:
            return False
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False
