r"""`python -m tests.windows.bench build | base | run PROGRAM... | policy FILE.xml | catalogue UV... | stop | remove`.

`catalogue` holds the catalogue against what versions of uv do (without one: the newest pinned and an older one).
`run` starts a Windows program as it is, `launch` as an ordinary user under the shim; `policy` makes the bench obey an
AppLocker policy; `base` builds the minimal Debian folder alone and prints its path.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.windows.bench import run as runner
from tests.windows.bench import setup, upkeep
from tests.windows.bench.debian import BenchError
from tests.windows.bench.index import package_index
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
        elif command == "catalogue":
            return check_catalogue(rest)
        elif command == "policy" and len(rest) == 1:
            print(enforce(Path(rest[0]).read_text(encoding="utf-8-sig")))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except (BenchError, RuntimeError, TimeoutError, ValueError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def check_catalogue(versions: Sequence[str]) -> int:
    """Tells what versions of uv do that the catalogue does not know. Returns 1 for anything found or a failed step."""
    setup.build()
    runner.start_server()
    count = 0
    with package_index() as index_url:
        for version in versions or (upkeep.NEWEST, upkeep.OLDER):
            observed = upkeep.observe(version, index_url, lambda line: print(line, flush=True))
            unknown = upkeep.judge(observed)
            count += len(unknown) + len(observed.failed)
            print(f"uv {version}: {len(observed.made)} files made, {len(observed.started)} programs started; ", end="")
            print(f"{len(unknown)} that the catalogue does not know, {len(observed.failed)} steps failed")
            for found in (*unknown, *observed.failed):
                print(f"  {found}")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
