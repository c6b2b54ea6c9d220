"""Runs the agent's command line and kills it, as kill -9 would, before a given line of its own code is run.

    python killing.py LINE|count COMMAND...

Lines are counted as they are executed, in the modules that touch the workstation. With `count` nothing is killed and
the number of lines is written to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from agent import cli

COUNTED = tuple(f"/agent/{name}.py" for name in ("placement", "storage", "_posix"))


def main() -> int:
    limit, *command = sys.argv[1:]
    last = None if limit == "count" else int(limit)
    executed = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal executed
        if event == "call":
            return trace if frame.f_code.co_filename.endswith(COUNTED) else None
        if event == "line":
            executed += 1
            if executed == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    code = cli.main(command)
    sys.settrace(None)
    print(f"lines: {executed}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
