"""Runs Windows programs in the bench: a clean environment, output by way of a file, a time limit, an exit code.

Output goes to a file because Wine's background processes inherit a pipe and hold it open. A Wine server that stays for
a while after its last program keeps starts at 0.1 to 0.3 s; `stop_server` ends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.windows.bench.enter import inside
from tests.windows.bench.places import DRIVE_C, LAUNCHER, PREFIX_INSIDE, USER, WINE, on_disk

_NOISE = ("wine32 is missing", "multiarch needs", 'execute "dpkg', "apt-get install wine32")
_NEVER_BEGAN = "wine client error:0: recvmsg: Connection reset by peer"
"""All that is printed when the Wine server drops a client before its program is loaded; seen once in thousands."""
SERVER_LINGERS_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended: its exit code (Windows' 32 bits cut to 8 by Wine's loader), its output, how long it took."""

    arguments: tuple[str, ...]
    code: int
    output: str
    seconds: float

    def __str__(self) -> str:
        return f"{' '.join(self.arguments)}\n-> {self.code} in {self.seconds:.1f} s\n{self.output}"


def run(
    arguments: Sequence[str],
    *,
    directory: str = "C:\\",
    variables: Mapping[str, str] | None = None,
    limit_s: float = 120,
) -> Finished:
    r"""Runs a Windows program and waits for it.

    directory: the working directory on C:. variables: added to the program's environment.
    A program that the Wine server never let begin is started once more: nothing of it ran.
    raises: TimeoutError after `limit_s`, when the program's processes are ended.
    """
    with start(arguments, directory=directory, variables=variables) as running:
        finished = running.wait(limit_s)
    if finished.output.strip() != _NEVER_BEGAN:
        return finished
    start_server()
    with start(arguments, directory=directory, variables=variables) as running:
        return running.wait(limit_s)


def run_under_policy(
    arguments: Sequence[str],
    *,
    directory: str = "C:\\",
    variables: Mapping[str, str] | None = None,
    limit_s: float = 120,
) -> Finished:
    """Runs a Windows program as an ordinary user under the shim; 121 means that its own start was refused."""
    return run([LAUNCHER, *arguments], directory=directory, variables=variables, limit_s=limit_s)


class Running:
    """A program that was started in the bench. As a context manager it is ended on the way out."""

    def __init__(self, arguments: Sequence[str], process: subprocess.Popen[bytes], output: Path) -> None:
        self.arguments = tuple(arguments)
        self.process = process
        self._output = output
        self._started_s = time.monotonic()

    def wait(self, limit_s: float) -> Finished:
        """Waits for the end. raises: TimeoutError with the output so far."""
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"{' '.join(self.arguments)} still ran after {limit_s} s:\n{self.output()}") from error
        seconds = time.monotonic() - self._started_s
        return Finished(arguments=self.arguments, code=code, output=self.output(), seconds=seconds)

    def output(self) -> str:
        """What was written so far, without Wine's own remarks."""
        lines = self._output.read_text(errors="replace").replace("\r", "").splitlines()
        return "\n".join(line for line in lines if not any(noise in line for noise in _NOISE))

    def kill(self) -> None:
        """Ends the program as `kill -9` does, and its children with it: they can clean up nothing."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._output.unlink(missing_ok=True)


def start(arguments: Sequence[str], *, directory: str = "C:\\", variables: Mapping[str, str] | None = None) -> Running:
    """Starts a Windows program and returns at once."""
    unix_directory = _unix(directory)
    handle, name = tempfile.mkstemp(prefix="wayleave-bench-")
    with os.fdopen(handle, "wb") as output:
        process = subprocess.Popen(
            inside(WINE, ["wine", *arguments], {**wine_environment(), **(variables or {})}, unix_directory),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(arguments, process, Path(name))


def _unix(directory: str) -> str:
    """The working directory inside the folder; `/` while there is no drive yet."""
    on_drive = on_disk(directory)
    return "/" + str(on_drive.relative_to(WINE)) if DRIVE_C.exists() else "/"


def wine_environment() -> dict[str, str]:
    """What Wine itself needs; the Windows user's name comes from USER."""
    return {
        "USER": USER,
        "HOME": "/root",
        "XDG_RUNTIME_DIR": "/tmp",
        "WINEPREFIX": PREFIX_INSIDE,
        "WINEARCH": "win64",
        # uv is installed for all users, and on their PATH.
        "WINEPATH": r"C:\Program Files\uv",
        "WINEDEBUG": "-all",
        # Neither .NET nor the HTML engine is asked for; event logs are served by the bench's own wevtapi.
        "WINEDLLOVERRIDES": "mscoree=;mshtml=;wevtapi=n",
        "TERM": "dumb",
    }


def start_server() -> None:
    """Starts the Wine server so that it outlives single programs. Does nothing when one runs."""
    _wineserver(f"-p{SERVER_LINGERS_S}")


def stop_server() -> None:
    """Ends every program of this bench's drive, and its Wine server."""
    _wineserver("-k")


def _wineserver(option: str) -> None:
    with tempfile.TemporaryFile() as output:
        command = inside(WINE, ["wineserver", option], wine_environment())
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=60)
