"""Linux calls: starting a program without letting it run, the user, the host. A trial ground for the Windows agent.

A Linux start is stopped by the kernel (ptrace) after execve has succeeded and before the program's first instruction,
then ended: so real files can be tried there as safely as on Windows.
"""

# ruff: noqa: PTH114, PTH116
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

from agent.canary import LINUX_CANARY
from agent.channels import ERROR_CHANNEL_NOT_FOUND, ChannelRead
from agent.contract.facts import HostFacts
from agent.controls import ControlAnswers
from agent.judge import SaferAnswer
from agent.policy import PolicyInForce
from agent.principals import Principal
from agent.service import ServiceAnswers
from agent.where import Opened

assert sys.platform != "win32"  # noqa: S101 - tells the type checker which platform's calls these are

PLATFORM: Literal["windows", "linux"] = "linux"
CANARY = LINUX_CANARY
CREATION_FLAGS = 0

_PTRACE_TRACEME = 0
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.prctl.restype = ctypes.c_int


def start_suspended(path: str) -> int:
    """Start a program so that none of its instructions run, and end it. 0, or the errno of the refusal."""
    try:
        process = subprocess.Popen(  # noqa: S603 - the very file that is to be tried
            [path],
            preexec_fn=_let_parent_hold,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
        )
    except OSError as error:
        return error.errno or errno.ENOEXEC
    except subprocess.SubprocessError:
        return errno.ENOSYS  # tracing is not permitted here: nothing can be said
    try:
        os.kill(process.pid, signal.SIGKILL)
    finally:
        while True:
            _, status = os.waitpid(process.pid, 0)
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                break
        process.returncode = os.waitstatus_to_exitcode(status)
    return 0


def _let_parent_hold() -> None:
    # Should the agent be killed now, the child goes with it instead of running on.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if _libc.ptrace(_PTRACE_TRACEME, 0, None, None) != 0:
        raise OSError(ctypes.get_errno(), "this process may not be traced")


def open_place(_path: str) -> Opened | None:
    """Links are followed by name here."""
    return None


def long_name(path: str) -> str:
    """There are no short names here."""
    return path


def load_library(_path: str) -> int:
    """Libraries are not tried here: no such policy is there to judge them."""
    return errno.ENOSYS


def ask_safer(_path: str) -> SaferAnswer:
    """Scripts are not asked about here."""
    return SaferAnswer(identified=False, error=errno.ENOSYS)


def mode_allows_start(path: str) -> bool:
    """Whether the file's mode bits let this user execute it: so a refusal came from something else."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    if os.geteuid() == 0:
        return bool(status.st_mode & 0o111)
    if status.st_uid == os.geteuid():
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == os.getegid() or status.st_gid in os.getgroups():
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def is_link(path: str) -> bool:
    """Whether a path itself is a symbolic link."""
    return os.path.islink(path)


def open_lock(path: Path) -> IO[bytes] | None:
    """Take the lock that a file stands for; None if another process holds it. Closing the file gives it back."""
    handle = path.open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def find_state_dir(environment: Mapping[str, str]) -> Path:
    """Where the agent keeps its state when nothing else is said."""
    base = environment.get("XDG_STATE_HOME", "")
    home = environment.get("HOME") or str(Path.home())
    return (Path(base) if Path(base).is_absolute() else Path(home) / ".local" / "state") / "wayleave-agent"


def read_principal() -> Principal:
    """The user, as the SID form that Samba gives to Unix users (S-1-22-1-uid) and groups (S-1-22-2-gid)."""
    groups = ("S-1-1-0", "S-1-5-11", *(f"S-1-22-2-{gid}" for gid in sorted(set(os.getgroups()))))
    is_root = os.geteuid() == 0
    return Principal(sid=f"S-1-22-1-{os.geteuid()}", groups=groups, elevated=is_root)


def read_host(agent_version: str) -> HostFacts:
    """The host's name, distribution and kernel release."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    return HostFacts(
        name=socket.gethostname(),
        platform=PLATFORM,
        os=system,
        os_build=os.uname().release,
        agent_version=agent_version,
    )


def query_service(_name: str) -> ServiceAnswers | None:
    """There is no AppLocker here, and no service of it."""
    return None


def read_machine_id() -> str:
    """What tells this installation from a clone of it, before hashing."""
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            return Path(name).read_text(encoding="ascii").strip() + "\n" + socket.gethostname()
        except (OSError, UnicodeDecodeError):
            continue
    return socket.gethostname()


def read_machine_account() -> str:
    """The account of this machine where others know it, which a machine made anew keeps."""
    return socket.gethostname().lower() + "$"


def read_policy() -> PolicyInForce:
    """No AppLocker here: nothing is known of the policies in force."""
    return PolicyInForce(collections=None)


def read_channel(_channel: str, _query: str, _limit: int) -> ChannelRead:
    """Linux has no AppLocker to tell of."""
    return ChannelRead(error=ERROR_CHANNEL_NOT_FOUND)


def read_controls() -> ControlAnswers:
    """Linux is a trial ground: no such product is looked for."""
    return ControlAnswers()


def read_machine_variables() -> Mapping[str, str]:
    """Linux has no one place for them."""
    return {}


def read_trust(_path: str) -> str | None:
    """Linux knows no signatures of programs."""
    return None
