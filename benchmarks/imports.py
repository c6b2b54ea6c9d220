"""How fast an event log is imported, against a loop over its records by `evtx` that looks at nothing.

The log: half AppLocker's refusals, a tenth of them of uv's files, all mixed, so that no chunk is without any. It is
read by the command's own code with two processes, once without and once with storing in SQLite. Two processes gain
only where two cores are free: the processor time, halved, says what is reachable there, whatever else the machine does.
The memory is the most that both processes had together. `WAYLEAVE_BENCH_MB` sets the size (1000). Prints JSON lines;
exits with 1 if a target is missed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evtx import PyEvtxParser

from app.imports.model import Given
from app.imports.read import read_beginning, read_parts, recognise
from tests.app.imports.evtx_files import make_chunks, write_large
from tests.app.imports.logs import mixed_events

TARGET_RATIO = 0.7
TARGET_MB = 300
ROUNDS = 3


def main() -> int:
    """Measures and prints. Exit codes: 0 targets met, 1 missed."""
    if len(sys.argv) == 3 and sys.argv[1] == "peak":
        return peak(Path(sys.argv[2]))
    megabytes = int(os.environ.get("WAYLEAVE_BENCH_MB", "1000"))
    with tempfile.TemporaryDirectory(prefix="wayleave-bench-") as folder:
        log = Path(folder) / "log.evtx"
        records = write_large(log, make_chunks(mixed_events(12_000)), megabytes * 1_000_000)
        loops: list[float] = []
        reads: list[float] = []
        loop_cpus: list[float] = []
        read_cpus: list[float] = []
        for _ in range(ROUNDS):
            # In turn, so that whatever else the machine does meets both.
            began = processor_seconds()
            loops.append(seconds(lambda: loop(log, records)))
            between = processor_seconds()
            reads.append(seconds(lambda: read(log, records)))
            loop_cpus.append(between - began)
            read_cpus.append(processor_seconds() - between)
        stored_s = min(store(log, Path(folder) / f"data{n}", records) for n in range(2))
        base_s, read_s = min(loops), min(reads)
        tell("import, reading", megabytes / read_s, base_s / read_s, megabytes / base_s, records)
        figure = {
            "name": "import, reading, processor time of both processes",
            "value": round(min(read_cpus) / records * 1e6, 2),
            "unit": "us a record",
            "baseline": round(min(loop_cpus) / records * 1e6, 2),
            "ratio": round(min(loop_cpus) / (min(read_cpus) / 2), 2),
        }
        print(json.dumps(figure), flush=True)
        ratio = base_s / stored_s
        tell("import, reading and storing in SQLite", megabytes / stored_s, ratio, megabytes / base_s, records)
        answer = subprocess.run(
            [sys.executable, __file__, "peak", str(log)], capture_output=True, text=True, check=True
        )
        peak_mb = float(answer.stdout)
    figure = {"name": "import, memory of both processes", "value": peak_mb, "unit": "MB", "target": TARGET_MB}
    print(json.dumps(figure), flush=True)
    return int(ratio < TARGET_RATIO or peak_mb > TARGET_MB)


def tell(name: str, rate: float, ratio: float, base: float, records: int) -> None:
    figure = {
        "name": name,
        "value": round(rate, 1),
        "unit": "MB/s",
        "baseline": round(base, 1),
        "ratio": round(ratio, 2),
        "target": TARGET_RATIO,
        "records": records,
    }
    print(json.dumps(figure), flush=True)


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def processor_seconds() -> float:
    """What this process and those that it has waited for have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def loop(log: Path, records: int) -> None:
    """Looks at nothing, with as many threads as evtx likes."""
    count = 0
    for _ in PyEvtxParser(str(log)).records():
        count += 1
    assert count == records


def read(log: Path, records: int) -> None:
    count = sum(part.read for part in read_parts(log, recognise(read_beginning(log)), {}, Given()))
    assert count == records


def store(log: Path, data: Path, records: int) -> float:
    """How long the command itself says that reading and storing took."""
    command = [sys.executable, "-m", "app.cli.main", "import", "--json", str(log)]
    environment = {**os.environ, "WAYLEAVE_DATA_DIR": str(data), "WAYLEAVE_DATABASE_URL": ""}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    [report] = json.loads(answer.stdout)
    assert report["events"] == records
    assert report["added"] > records // 25
    return float(report["seconds"])


def peak(log: Path) -> int:
    """Prints the most memory, in MB, that reading a log took."""
    for _ in read_parts(log, recognise(read_beginning(log)), {}, Given()):
        pass
    both = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(round(both / 1000, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
