"""Windows calls of setting up: folders by their security descriptors, tasks by the scheduler's own program."""

# ruff: noqa: E402
# The type checker must know the platform before it follows the imports.
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

assert sys.platform == "win32"  # noqa: S101 - tells the type checker which platform's calls these are

from agent._platform import CREATION_FLAGS, is_link, read_principal
from agent._security_windows import make_directory, read_owner, read_sddl, set_security
from agent.install import (
    CannotInstall,
    Folder,
    Ground,
    Step,
    TaskToRegister,
    create_command,
    delete_command,
    judge_task,
    plan_uninstall,
    query_command,
)
from agent.places import NOTE_NAME, Places
from agent.rights import TRUSTED_OWNERS
from agent.tasks import LOCAL_SYSTEM, PROGRAM, encode_task

COMMAND_TIMEOUT_S = 60


def survey(places: Places, program_directory: Path) -> Ground:
    """What the machine says before anything is done."""
    principal = read_principal()
    return Ground(
        is_elevated=principal.elevated or principal.sid == LOCAL_SYSTEM,
        installer=principal.sid,
        base=str(places.base),
        program_directory=str(program_directory),
        base_sddl=_sddl(places.base),
        base_is_link=is_link(str(places.base)),
        program_sddl=_sddl(program_directory),
        program_ancestors=tuple(_sddl(place) or "" for place in program_directory.parents if place.name),
        has_program=(program_directory / PROGRAM).is_file(),
    )


def secret_rights(file: Path) -> str | None:
    """Who may do what with the secret's file; None if it cannot be told."""
    return _sddl(file)


def carry_out(step: Step, places: Places, environment: Mapping[str, str]) -> None:
    """Do one step. raises: CannotInstall, OSError"""
    if isinstance(step, Folder):
        path = Path(step.path)
        if not make_directory(path, step.sddl):
            if is_link(step.path):
                raise CannotInstall(f'{path} is a link to another place; remove it: cmd /c rmdir "{path}"')
            # Looked at again: somebody may have made it since the survey.
            owner = read_owner(path)
            if owner not in TRUSTED_OWNERS | {read_principal().sid}:
                raise CannotInstall(f'{path} was made by {owner}; remove it: Remove-Item -Recurse "{path}"')
            set_security(path, step.sddl)
    else:
        _register(step, places, _system_root(environment))


def _register(step: TaskToRegister, places: Places, system_root: str) -> None:
    # In the folder that only the system and administrators can open: nobody exchanges the text in between.
    file = places.machine / "task.xml"
    try:
        file.write_bytes(encode_task(step.xml))
        code, output = _run(create_command(step.name, str(file), system_root))
    finally:
        file.unlink(missing_ok=True)
    if code != 0:
        raise CannotInstall(f"the task {step.name} could not be registered: {_text(output)}")
    state = judge_task(step.xml, *_run(query_command(step.name, system_root)))
    if state != "ok":
        raise CannotInstall(f"the task {step.name} was registered, it was said, but is {state}")


def look_up_task(name: str, wanted: str, environment: Mapping[str, str]) -> str:
    """How a task stands: see `judge_task`."""
    return judge_task(wanted, *_run(query_command(name, _system_root(environment))))


def remove(places: Places, environment: Mapping[str, str], *, with_tasks: bool, keep_state: bool) -> tuple[str, ...]:
    """Take the tasks back, and the state unless it is to be kept. Returns what could not be removed."""
    left = []
    if with_tasks:
        for name in plan_uninstall():
            code, output = _run(query_command(name, _system_root(environment)))
            if code == 0 and b"<Task" in output.replace(b"\x00", b""):
                code, output = _run(delete_command(name, _system_root(environment)))
                if code != 0:
                    left.append(f"{name}: {_text(output)}")
    if not keep_state:
        left += _remove_state(places)
    return tuple(left)


def _remove_state(places: Places) -> list[str]:
    left: list[str] = []
    for folder in (places.machine, places.orders):
        if folder.is_dir() and not is_link(str(folder)):
            shutil.rmtree(folder, onerror=lambda _call, path, _error: left.append(str(path)))
    # Users control what is in their inboxes: nothing there is followed, and only what is ours by name is removed.
    for inbox in places.inbox.iterdir() if places.inbox.is_dir() else ():
        try:
            if not is_link(str(inbox)):
                (inbox / NOTE_NAME).unlink(missing_ok=True)
            inbox.rmdir()
        except OSError:
            left.append(str(inbox))
    for empty in (places.inbox, places.base):
        try:
            empty.rmdir()
        except OSError:
            if empty.exists() and empty == places.inbox:
                left.append(str(empty))
    return left


def _run(command: list[str]) -> tuple[int, bytes]:
    try:
        finished = subprocess.run(  # noqa: S603 - a program of the system by its whole path
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_S,
            creationflags=CREATION_FLAGS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error).encode()
    return finished.returncode, finished.stdout


def _system_root(environment: Mapping[str, str]) -> str:
    return environment.get("SYSTEMROOT") or os.environ.get("SYSTEMROOT", "C:\\Windows")


def _sddl(path: Path) -> str | None:
    try:
        return read_sddl(path)
    except OSError:
        return None


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()[:300] or "no reason was given"
