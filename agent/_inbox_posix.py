"""Linux calls of the inbox: a file opened below a folder opened before, no link followed at either step."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.left import FileFacts, Left

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_FIRST_PERSON, _LAST_PERSON = 1_000, 60_000
_PREFIX = "S-1-22-1-"


@contextlib.contextmanager
def open_left(inbox: Path, sid: str, name: str) -> Iterator[Left]:
    """Open what a user left. raises: OSError; FileNotFoundError if nothing was left"""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(inbox / sid, flags | os.O_DIRECTORY)
    try:
        # Without waiting: a pipe that nobody writes to would hold us for ever.
        handle = os.open(name, flags | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(handle)
        facts = FileFacts(
            owner=f"{_PREFIX}{status.st_uid}",
            size=status.st_size,
            links=status.st_nlink,
            is_regular=stat.S_ISREG(status.st_mode),
        )
        yield Left(facts=facts, read=lambda most: _read(handle, most))
    finally:
        os.close(handle)


def _read(handle: int, most: int) -> bytes:
    content = b""
    while len(content) < most and (part := os.read(handle, most - len(content))):
        content += part
    return content


def make_inbox(inbox: Path, sid: str) -> bool:
    """Make a user's folder, which only that user may look into. Whether it had to be made. raises: OSError"""
    if not sid.startswith(_PREFIX):
        raise ValueError(f"{sid} is no user of this system")
    folder = inbox / sid
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    # Nobody else can write to the inbox itself, so this is still the folder that was just made.
    os.chown(folder, int(sid.removeprefix(_PREFIX)), -1, follow_symlinks=False)
    return True


def list_people() -> tuple[str, ...]:
    """The SIDs of people who may have something to report."""
    ids = sorted({entry.pw_uid for entry in pwd.getpwall() if _FIRST_PERSON <= entry.pw_uid < _LAST_PERSON})
    return tuple(f"{_PREFIX}{number}" for number in ids)


def claim(_path: Path, _sid: str) -> None:
    """On Linux a file belongs to whoever made it."""
