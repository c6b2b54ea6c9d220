"""Setting a machine up for both halves, and taking it back: what has to be done, and in what order. Pure.

`_install_windows` and `_install_posix` carry the steps out. The same steps serve an administrator's command line and a
package: `plan_install(..., with_tasks=False)` leaves the tasks to whoever registers them otherwise.

Nothing is set up where an ordinary user could have prepared the ground: a folder that somebody made before us, a link
in its place, or a program directory that users may write to, are refused with the command that shows or mends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PureWindowsPath
from xml.etree import ElementTree

from agent.rights import BASE_RIGHTS, INBOX_RIGHTS, MACHINE_RIGHTS, ORDERS_RIGHTS, TRUSTED_OWNERS
from agent.sddl import find_changers, find_readers, read_owner_of
from agent.tasks import MACHINE_TASK, NAMESPACE, PROGRAM, USER_TASK, machine_task_xml, user_task_xml

_COMPUTERS = re.compile(r"S-1-5-21-[0-9-]+-51[56]")
"""A domain's computers and controllers, by their well-known numbers."""


class CannotInstall(Exception):
    """Something has to be put right first; the message says what, and with which command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the machine says before anything is done.

    `installer`: the SID of who installs. `base_sddl`, `program_sddl`: owner and access list, None where there is no
    such folder. `program_ancestors`: the same for each folder above the program's that is not a drive.
    """

    is_elevated: bool
    base: str
    program_directory: str
    installer: str = ""
    base_sddl: str | None = None
    base_is_link: bool = False
    program_sddl: str | None = None
    program_ancestors: tuple[str, ...] = ()
    has_program: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder to be made, or to be given its owner and access list anew."""

    path: str
    sddl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskToRegister:
    """A task to be registered, in place of an older one of the name."""

    name: str
    xml: str


Step = Folder | TaskToRegister


def plan_install(ground: Ground, *, with_tasks: bool = True) -> tuple[Step, ...]:
    """The steps that set a machine up, in order. Done again they change nothing. raises: CannotInstall"""
    if not ground.is_elevated:
        raise CannotInstall("this needs an administrator: open a terminal with 'Run as administrator'")
    if ground.base_is_link:
        raise CannotInstall(
            f"{ground.base} is a link to another place. Look where it leads, then remove the link: "
            f'cmd /c rmdir "{ground.base}"'
        )
    if ground.base_sddl is not None:
        owner = read_owner_of(ground.base_sddl)
        if owner not in TRUSTED_OWNERS | {ground.installer}:
            raise CannotInstall(
                f"{ground.base} was made by {owner}, who is no administrator: what lies in it is not to be trusted. "
                f'Look into it, then remove it: Remove-Item -Recurse "{ground.base}"'
            )
    if with_tasks:
        _check_program(ground)
    base = PureWindowsPath(ground.base)
    steps: list[Step] = [
        Folder(path=str(base), sddl=BASE_RIGHTS),
        Folder(path=str(base / "orders"), sddl=ORDERS_RIGHTS),
        Folder(path=str(base / "machine"), sddl=MACHINE_RIGHTS),
        Folder(path=str(base / "inbox"), sddl=INBOX_RIGHTS),
    ]
    if with_tasks:
        # The users' task last: what it leaves has to have a place.
        steps += [
            TaskToRegister(name=MACHINE_TASK, xml=machine_task_xml(ground.program_directory)),
            TaskToRegister(name=USER_TASK, xml=user_task_xml(ground.program_directory)),
        ]
    return tuple(steps)


def _check_program(ground: Ground) -> None:
    if not ground.has_program:
        raise CannotInstall(f"{ground.program_directory} holds no {PROGRAM}: the tasks would start nothing")
    for place, sddl in ((ground.program_directory, ground.program_sddl), *_ancestors(ground)):
        changers = find_changers(sddl or "", TRUSTED_OWNERS)
        if changers:
            raise CannotInstall(
                f"{place} may be changed by {', '.join(changers)}: the system account must start nothing that users "
                f'control. Install below %ProgramFiles%, or look at the rights: icacls "{place}"'
            )


def _ancestors(ground: Ground) -> tuple[tuple[str, str], ...]:
    above = [str(place) for place in PureWindowsPath(ground.program_directory).parents if place.name]
    return tuple(zip(above, ground.program_ancestors, strict=False))


def warn_of_secret(file: str, sddl: str | None, installer: str) -> str:
    """What to say if others than administrators may read the secret's file; nothing if all is well.

    Computers may: a share from which they install is read by their accounts.
    """
    readers = [sid for sid in find_readers(sddl or "", TRUSTED_OWNERS | {installer}) if not _COMPUTERS.fullmatch(sid)]
    if sddl is None or not readers:
        return ""
    return (
        f"{file} may be read by {', '.join(readers)}: whoever reads it can enrol machines. Remove the file, and next "
        f'time close it first: icacls "{file}" /inheritance:r /grant *S-1-5-18:R *S-1-5-32-544:F'
    )


def plan_uninstall() -> tuple[str, ...]:
    """The tasks to be removed; the users' first, so that nothing is left without a reader."""
    return (USER_TASK, MACHINE_TASK)


def create_command(name: str, file: str, system_root: str) -> list[str]:
    """The command that registers a task from a file."""
    return [f"{system_root}\\System32\\schtasks.exe", "/Create", "/TN", name, "/XML", file, "/F"]


def query_command(name: str, system_root: str) -> list[str]:
    """The command that prints a registered task as XML."""
    return [f"{system_root}\\System32\\schtasks.exe", "/Query", "/TN", name, "/XML", "ONE"]


def delete_command(name: str, system_root: str) -> list[str]:
    """The command that removes a task."""
    return [f"{system_root}\\System32\\schtasks.exe", "/Delete", "/TN", name, "/F"]


def judge_task(wanted: str, code: int, output: bytes) -> str:
    """What became of a task, from the answer of `query_command`: `ok`, `missing`, or what differs.

    The exit code alone is not believed: a task that was registered can be printed, and what is printed is compared.
    """
    if code != 0:
        return "missing"
    text = _decode(output)
    start = text.find("<Task")
    try:
        found = _read(text[start:]) if start >= 0 else None
    except (ElementTree.ParseError, ValueError):
        found = None
    if found is None:
        return "missing"
    asked = _read(wanted[wanted.index("<Task") :])
    differing = sorted(name for name in _COMPARED if asked.get(name) != found.get(name, _DEFAULTS.get(name)))
    return f"differs in {', '.join(differing)}" if differing else "ok"


_COMPARED = (
    "UserId",
    "GroupId",
    "RunLevel",
    "DisallowStartIfOnBatteries",
    "StopIfGoingOnBatteries",
    "StartWhenAvailable",
    "ExecutionTimeLimit",
    "MultipleInstancesPolicy",
    "Command",
    "Arguments",
    "triggers",
    "Enabled",
)
# Windows leaves out what is as usual. source: MS-TSCH 2.5.4
_DEFAULTS = {"RunLevel": "LeastPrivilege", "MultipleInstancesPolicy": "IgnoreNew", "Enabled": "true"}


def _read(xml: str) -> dict[str, str]:
    root = ElementTree.fromstring(xml[: xml.rindex(">") + 1])  # noqa: S314 - what the system's own scheduler prints
    values: dict[str, str] = {}
    triggers = root.find(f"{{{NAMESPACE}}}Triggers")
    values["triggers"] = ",".join(sorted(_local(trigger.tag) for trigger in triggers)) if triggers is not None else ""
    for part in ("Principals", "Settings", "Actions"):
        found = root.find(f"{{{NAMESPACE}}}{part}")
        for element in found.iter() if found is not None else ():
            if len(element) == 0 and element.text and element.text.strip():
                values.setdefault(_local(element.tag), element.text.strip())
    return values


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _decode(output: bytes) -> str:
    # schtasks writes UTF-16 to a console and its code page to a pipe; the document itself is ASCII but for paths.
    if output[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return output.decode("utf-16", "replace")
    if b"\x00" in output[:8]:
        return output.decode("utf-16-le", "replace")
    return re.sub(r"<\?xml[^>]*\?>", "", output.decode("utf-8", "replace"))
