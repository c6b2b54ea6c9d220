r"""`python -m tests.windows.bench build | base | run PROGRAM ARGUMENTS... | policy FILE.xml | stop | remove`.

`run` starts a Windows program as it is, `launch` as an ordinary user under the shim; `policy` makes the bench obey an
AppLocker policy; `base` builds the minimal Debian folder alone and prints its path.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.windows.bench import run as runner
from tests.windows.bench import setup
from tests.windows.bench.debian import BenchError
from tests.windows.bench.policy import enforce


def main(arguments: list[str]) -> int:
    """Does one command. Returns the exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    try:
        if command == "build":
            setup.build()
        elif command == "base":
            print(setup.build_base())
        elif command == "remove":
            setup.remove()
        elif command == "stop":
            runner.stop_server()
        elif command in ("run", "launch") and rest:
            runner.start_server()
            finished = (runner.run if command == "run" else runner.run_under_policy)(rest)
            print(finished.output)
            return finished.code
        elif command == "policy" and len(rest) == 1:
            print(enforce(Path(rest[0]).read_text(encoding="utf-8-sig")))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (BenchError, RuntimeError, TimeoutError, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
