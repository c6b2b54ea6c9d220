"""What the agent costs a workstation: importing it, a full cycle, a cycle in which nothing changed, and its reports.

Cycles run as a user would run them, against the real server on loopback with real uv, and are measured from outside:
processor time and peak memory of the whole process with its children. Importing is compared with `import httpx`, one
after the other in the same run. The full cycle on Windows is measured by `agent_cycle`.

Targets: import ≤ 1.3 × httpx, unchanged cycle < 0.3 s CPU and < 60 MB, unchanged report < 600 bytes gzipped, full
report < 6 KB.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.catalogue import load
from agent.observe import preview
from agent.options import Options
from agent.report import encode_report

ROUNDS = 15
CYCLES = 7
BIN = Path(sys.executable).parent
START_LIMIT_S = 60.0


def main() -> int:
    """Measures and prints. Exit codes: 0 within the targets, 1 not."""
    with tempfile.TemporaryDirectory(prefix="wayleave-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        figures = [measure_import(), *measure_cycles(Path(folder), home), *measure_reports(Path(folder), home)]
    for figure in figures:
        print(json.dumps(figure), flush=True)
    return 0 if all(met(figure) for figure in figures) else 1


def met(figure: dict[str, object]) -> bool:
    """Whether a figure is within its target, if it has one (of its ratio where it compares)."""
    value = figure["ratio"] if "ratio" in figure else figure["value"]
    target = figure.get("target")
    return target is None or float(str(value)) <= float(str(target))


def measure_import() -> dict[str, object]:
    """Processor time of `import agent.cli` beside `import httpx`, without the interpreter's own start."""
    seconds: dict[str, list[float]] = {"pass": [], "import agent.cli": [], "import httpx": []}
    for _ in range(ROUNDS):
        for statement, measured in seconds.items():
            measured.append(run([sys.executable, "-I", "-c", statement], dict(os.environ))[0])
    bare = statistics.median(seconds["pass"])
    agent, httpx = (statistics.median(seconds[name]) - bare for name in ("import agent.cli", "import httpx"))
    return {
        "name": "import agent.cli, CPU",
        "value": round(agent * 1000, 1),
        "unit": "ms",
        "baseline": round(httpx * 1000, 1),
        "ratio": round(agent / httpx, 2),
        "target": 1.3,
    }


def measure_cycles(folder: Path, home: Path) -> list[dict[str, object]]:
    """A forced cycle and one in which nothing changed, both delivering to a server in another process."""
    environment = {"HOME": str(home), "PATH": f"{BIN}:/usr/bin:/bin", "LANG": "C.UTF-8"}
    agent = [str(BIN / "wayleave-agent")]
    server = subprocess.Popen(
        [str(BIN / "wayleave"), "serve", "--port", "0"],
        env={**os.environ, "WAYLEAVE_DATA_DIR": str(folder / "server")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address, secret = read_enrolment(server)
        subprocess.run([*agent, "enrol", "--server", address, "--secret", secret], env=environment, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        run([*agent, "once"], environment)
        full = [run([*agent, "once", "--force"], environment) for _ in range(CYCLES)]
        unchanged = [run([*agent, "once"], environment) for _ in range(CYCLES)]
    finally:
        server.terminate()
        server.wait(timeout=30)
    return [
        {
            "name": "full cycle, CPU, Linux",
            "value": round(statistics.median(cpu for cpu, _ in full), 3),
            "unit": "s",
        },
        {
            "name": "unchanged cycle, CPU",
            "value": round(statistics.median(cpu for cpu, _ in unchanged), 3),
            "unit": "s",
            "target": 0.3,
        },
        {
            "name": "peak memory of a cycle",
            "value": round(max(peak for _, peak in (*full, *unchanged)), 1),
            "unit": "MB",
            "target": 60,
        },
    ]


def read_enrolment(server: subprocess.Popen[str]) -> tuple[str, str]:
    """The address and the secret of the enrolment command that a first start prints."""
    assert server.stdout is not None
    command, deadline_s = "", time.monotonic() + START_LIMIT_S
    for line in server.stdout:
        command = line if "--secret" in line else command
        if "listens on" in line and (found := re.search(r"--server (\S+) --secret (\S+)", command)):
            return found[1], found[2]
        if time.monotonic() > deadline_s:
            break
    raise SystemExit("the server printed no enrolment command")


def measure_reports(folder: Path, home: Path) -> list[dict[str, object]]:
    """Sizes of a report with all bodies and of one without any, gzipped as they are sent."""
    environment = {"HOME": str(home), "PATH": f"{BIN}:/usr/bin:/bin"}
    options = Options(state_dir=folder / "state", project_roots=(str(home),))
    report, _ = preview(options, environment)
    sizes = {
        "full report, gzipped": (report, 6_000),
        "unchanged report, gzipped": (dataclasses.replace(report, bodies={}), 600),
    }
    return [
        {
            "name": name,
            "value": len(gzip.compress(encode_report(one), 6)),
            "unit": "bytes",
            "target": target,
            "patterns": len(load().patterns),
        }
        for name, (one, target) in sizes.items()
    ]


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(processor seconds, peak megabytes) of a program with its children."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
