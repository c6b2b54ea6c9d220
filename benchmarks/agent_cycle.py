"""One full cycle of the agent on the Windows bench, under AppLocker's default rules: all patterns tried, nothing sent.

Target: less than 5 s. Baseline, in the same run: starting the same Python under the same shim to `import httpx`, which
is what any agent on httpx costs before it does anything.
"""

from __future__ import annotations

import json
import statistics
import sys

from tests.windows.bench import setup
from tests.windows.bench.agent import forget_state, install_agent, run_agent
from tests.windows.bench.commands import forget_what_uv_made
from tests.windows.bench.places import PYTHON, REPOSITORY
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run_under_policy, start_server, stop_server

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
        cycles, starts = [], []
        for number in range(ROUNDS + 1):
            cycle, start = run_agent("probe"), run_under_policy([PYTHON, "-I", "-c", "import httpx"])
            if cycle.code or start.code or '"blocked"' not in cycle.output:
                print(cycle, start, sep="\n", file=sys.stderr)
                return 1
            if number:  # the first round warms up
                cycles.append(cycle.seconds)
                starts.append(start.seconds)
    finally:
        stop_server()
    value, baseline = statistics.median(cycles), statistics.median(starts)
    figure = {
        "name": "agent full cycle",
        "value": round(value, 2),
        "unit": "s",
        "baseline": round(baseline, 2),
        "ratio": round(value / baseline, 1),
        "target": TARGET_S,
        "worst": round(max(cycles), 2),
    }
    print(json.dumps(figure))
    return 0 if value < TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
