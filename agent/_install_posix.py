"""Linux calls of setting up, where both halves can be tried: folders alone, for whatever starts the halves there."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.install import CannotInstall, Folder, Ground, Step
from agent.places import NOTE_NAME, Places
from agent.rights import BASE_RIGHTS, INBOX_RIGHTS, MACHINE_RIGHTS

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which platform's calls these are

_MODES = {BASE_RIGHTS: 0o755, INBOX_RIGHTS: 0o711, MACHINE_RIGHTS: 0o700}
"""What the access lists come to: everybody reads the base, walks through the inbox, and stays out of the state."""


def survey(places: Places, program_directory: Path) -> Ground:
    """What the machine says before anything is done, in the terms of Windows."""
    return Ground(
        is_elevated=os.geteuid() == 0,
        base=str(places.base),
        program_directory=str(program_directory),
        base_sddl=_owner(places.base),
        base_is_link=places.base.is_symlink(),
        program_sddl=_owner(program_directory),
    )


def secret_rights(file: Path) -> str | None:
    """Who may read the secret's file, in the terms of Windows; None if it cannot be told."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    return "O:S-1-5-18D:(A;;FA;;;S-1-5-18)" + ("(A;;FR;;;S-1-1-0)" if mode & 0o044 else "")


def carry_out(step: Step, places: Places, _environment: Mapping[str, str]) -> None:
    """Make one folder. raises: CannotInstall, OSError"""
    if not isinstance(step, Folder):
        raise CannotInstall("there are no scheduled tasks on this system: start `user` and `machine` by timers")
    # The plan is written in the paths of Windows; below the base both have the same names.
    name = step.path.replace("\\", "/").removeprefix(str(places.base)).strip("/")
    path = places.base / name if name else places.base
    path.mkdir(mode=0o700, parents=not name, exist_ok=True)
    if path.is_symlink():
        raise CannotInstall(f"{path} is a link to another place: rm {path}")
    if (owner := path.lstat().st_uid) != 0:
        raise CannotInstall(f"{path} was made by the user {owner}: rm -r {path}")
    os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(_MODES[step.sddl])


def look_up_task(_name: str, _wanted: str, _environment: Mapping[str, str]) -> str:
    """There are no tasks here."""
    return "not on this system"


def remove(
    places: Places,
    _environment: Mapping[str, str],
    *,
    with_tasks: bool,  # noqa: ARG001 - the same on both platforms
    keep_state: bool,
) -> tuple[str, ...]:
    """Take the state back unless it is to be kept. Returns what could not be removed."""
    left: list[str] = []
    if keep_state:
        return ()
    for folder in (places.machine, places.orders):
        shutil.rmtree(folder, ignore_errors=True)
    for inbox in places.inbox.iterdir() if places.inbox.is_dir() else ():
        try:
            # Relative to the opened folder: a user may put a link in its place, or in the note's.
            handle = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if stat.S_ISREG(os.lstat(NOTE_NAME, dir_fd=handle).st_mode):
                    os.unlink(NOTE_NAME, dir_fd=handle)
            except FileNotFoundError:
                pass
            finally:
                os.close(handle)
            inbox.rmdir()
        except OSError:
            left.append(str(inbox))
    for empty in (places.inbox, places.base):
        try:
            empty.rmdir()
        except OSError:
            if empty == places.inbox and empty.exists():
                left.append(str(empty))
    return tuple(left)


def _owner(path: Path) -> str | None:
    try:
        owner = path.lstat().st_uid
    except OSError:
        return None
    return "O:SYD:(A;;FA;;;SY)" if owner == 0 else f"O:S-1-22-1-{owner}D:(A;;FA;;;SY)"
