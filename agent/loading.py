"""Loading a library to see whether a policy lets it in: in a child, without running anything of it.

The child is this agent again. It is told paths, one a line, loads each without resolving what it needs and without
calling its entry point, lets go of it, and answers with the number of the error (0: it was loaded). So no instruction
of any library runs, whoever asks, and a library that cannot be borne takes the child with it and not the agent. The
child ends when its input does, and so with the agent, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from agent._platform import CREATION_FLAGS, load_library

COMMAND = "load-libraries"
TIMEOUT_S = 20.0
_NO_ANSWER = -1


def serve(requests: Iterable[str], answers: IO[str], *, load: Callable[[str], int] = load_library) -> int:
    """The child's side: a path in JSON on each line in, a number on each line out."""
    for line in requests:
        try:
            path = json.loads(line)
        except ValueError:
            path = None
        answers.write(f"{load(path) if isinstance(path, str) and path else _NO_ANSWER}\n")
        answers.flush()
    return 0


def child_command() -> list[str]:
    """How this agent is started again as a child: frozen it is a program of its own, else Python runs it."""
    is_python = Path(sys.executable).stem.lower().startswith("python")
    return [sys.executable, "-I", "-m", "agent.loading"] if is_python else [sys.executable, COMMAND]


class Loader:
    """The agent's side. The child is started with the first library, and again if a library took it down."""

    def __init__(self, command: list[str] | None = None) -> None:
        self._command = command or child_command()
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, path: str) -> int:
        """0 if the library may be loaded, else the error number; -1 if the child gave no answer."""
        try:
            child = self._running()
        except OSError as error:
            return getattr(error, "winerror", None) or error.errno or _NO_ANSWER
        assert child.stdin is not None  # noqa: S101 - for the type checker: both are pipes
        assert child.stdout is not None  # noqa: S101 - for the type checker: both are pipes
        try:
            child.stdin.write(json.dumps(path) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        try:
            return int(answer)
        except ValueError:
            self.close()
            return _NO_ANSWER

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.communicate(timeout=TIMEOUT_S)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            child.kill()
            child.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(  # noqa: S603 - this agent itself
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                creationflags=CREATION_FLAGS,
            )
        return self._child


if __name__ == "__main__":
    sys.exit(serve(sys.stdin, sys.stdout))
