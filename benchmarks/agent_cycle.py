"""One full cycle of the agent on the Windows bench, under AppLocker's default rules: all patterns tried, nothing sent.

Once as a program of the bench's Python, once as it is packaged: frozen, with its own launcher.

Target: less than 5 s. Baseline, in the same run: starting the same Python under the same shim to `import httpx`, which
is what any agent on httpx costs before it does anything.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from installer.frozen import freeze
from tests.windows.bench import setup
from tests.windows.bench.agent import STATE, forget_state, install_agent, run_agent
from tests.windows.bench.commands import forget_what_uv_made
from tests.windows.bench.places import PYTHON, REPOSITORY
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run_under_policy, start_server, stop_server
from tests.windows.frozen import CONSOLE, put_in_place

ROUNDS = 5
TARGET_S = 5.0


def main() -> int:
    """Measures and prints. Exit codes: 0 within the target (or no bench here, which is said), 1 not."""
    reason = setup.missing()
    if reason:
        print(json.dumps({"name": "agent full cycle", "value": None, "unit": "s", "skipped": reason}))
        return 0
    setup.build(say=lambda line: print(line, file=sys.stderr))
    start_server()
    try:
        install_agent()
        forget_what_uv_made()
        forget_state()
        enforce((REPOSITORY / "tests/windows/policies/default-rules.xml").read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            put_in_place(freeze(Path(folder) / "agent").directory)
        cycles, packaged, starts = [], [], []
        for number in range(ROUNDS + 1):
            cycle, start = run_agent("probe"), run_under_policy([PYTHON, "-I", "-c", "import httpx"])
            frozen = run_under_policy([CONSOLE, "probe", "--state-dir", STATE, "--project-root", "C:\\src"])
            if cycle.code or start.code or frozen.code or not all('"blocked"' in one.output for one in (cycle, frozen)):
                print(cycle, frozen, start, sep="\n", file=sys.stderr)
                return 1
            if number:  # the first round warms up
                cycles.append(cycle.seconds)
                packaged.append(frozen.seconds)
                starts.append(start.seconds)
    finally:
        stop_server()
    baseline = statistics.median(starts)
    for name, measured in (("agent full cycle", cycles), ("packaged agent full cycle", packaged)):
        value = statistics.median(measured)
        figure = {
            "name": name,
            "value": round(value, 2),
            "unit": "s",
            "baseline": round(baseline, 2),
            "ratio": round(value / baseline, 1),
            "target": TARGET_S,
            "worst": round(max(measured), 2),
        }
        print(json.dumps(figure), flush=True)
    value = max(statistics.median(cycles), statistics.median(packaged))
    return 0 if value < TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
