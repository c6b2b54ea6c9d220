"""`wayleave` as a process of its own, forked from one that has read the server's modules and done nothing else.

Reading them takes longer than most of what a test starts a process for. Nothing else is shared: each process opens its
own database, listens for itself, and can be ended in any way. At least one test of each command starts it by its name.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.cli.main import main

# What the commands read that are run so; what was forgotten is read by the process that needs it.
MODULES = ("app.main", "app.cli.serve", "app.cli.fleet", "app.cli.db", "app.cli.enrol_secret")


class Forked:
    """One process that runs `wayleave` with these arguments, and writes what it says on either stream to a file."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], said: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(MODULES))
        # Should a test leave it behind, it ends with the tests.
        self._process = context.Process(target=_become, args=(list(arguments), dict(environment), said), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit code. raises: subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("wayleave", timeout)
        return code


def _become(arguments: list[str], environment: dict[str, str], said: Path) -> None:
    # It may start processes itself.
    multiprocessing.current_process().daemon = False
    os.environ.clear()
    os.environ.update(environment)
    with said.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = ["wayleave", *arguments]
    main()
