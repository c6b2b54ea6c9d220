"""`make test`: all tests, in parts that fit a machine with two cores, with one table and one sum at the end.

Fast tests share the cores; what measures time, starts Chromium, Wine or containers runs alone. A part that fails
does not keep the next from running. Usage: run_tests.py [PART...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALONE = ("windows", "containers", "browser")
NO_TESTS_COLLECTED = 5

# Part -> (pytest's arguments, seconds after which it is ended).
# The Windows bench comes first: tests of other parts read the real files that it unpacks.
PARTS: dict[str, tuple[list[str], int]] = {
    "windows": (["-m", "windows"], 1500),
    "fast": (["-n", "2", "--dist", "loadfile", "-m", f"not ({' or '.join(ALONE)})"], 1200),
    "browser": (["-m", "browser"], 900),
    "containers": (["-m", "containers"], 1200),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one part did."""

    part: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    duration_s: float = 0.0
    note: str = ""


def main(arguments: list[str]) -> int:
    """Runs the parts. Exit codes: 0 all passed, 1 something failed, 2 an unknown part was asked for."""
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"unknown part: {', '.join(unknown)}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    results = []
    for part in arguments or list(PARTS):
        say(f"tests: {part}")
        results.append(run_part(part))
        say(f"tests: {part} took {results[-1].duration_s:.0f} s")
    print_table(results)
    return 1 if any(result.failed for result in results) else 0


def say(sentence: str) -> None:
    """A progress line with the time of day."""
    print(f"== {datetime.now(tz=UTC):%H:%M:%S} {sentence}", flush=True)


def run_part(part: str) -> Result:
    """Runs one pytest over a part and counts from its own report; a run without a report counts as one failure."""
    arguments, limit_s = PARTS[part]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wayleave-tests-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--durations=10", "--durations-min=5", f"--junitxml={report}"]
        code = run_with_limit([*command, "--continue-on-collection-errors", *arguments, "tests"], limit_s)
        result = count(part, report, code)
    return Result(
        part=part,
        passed=result.passed,
        failed=result.failed,
        skipped=result.skipped,
        duration_s=time.monotonic() - started,
        note=result.note,
    )


def run_with_limit(command: list[str], limit_s: int) -> int | None:
    """The exit code of a command; None when it had to be ended, with everything that it started."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            # An interrupt lets fixtures unmount and stop what they started.
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def count(part: str, report: Path, code: int | None) -> Result:
    """The numbers in a JUnit report; what pytest's exit code says beyond them counts as a failure too."""
    if code is None:
        return Result(part=part, failed=1, note="ended at its time limit")
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return Result(part=part, failed=1, note=f"pytest ended with {code} and wrote no report")
    total, failed, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites for key in keys)
        for keys in (("tests",), ("failures", "errors"), ("skipped",))
    )
    if code == NO_TESTS_COLLECTED:
        in_ci = os.environ.get("CI") == "true"
        return Result(part=part, failed=int(in_ci), note="no test was collected")
    if code != 0 and failed == 0:
        return Result(part=part, passed=total - skipped, failed=1, skipped=skipped, note=f"pytest ended with {code}")
    return Result(part=part, passed=max(total - failed - skipped, 0), failed=failed, skipped=skipped)


def print_table(results: list[Result]) -> None:
    """One line a part, and the sum as the very last line."""
    print(f"\n{'part':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for result in results:
        numbers = f"{result.passed:>8}{result.failed:>8}{result.skipped:>9}{result.duration_s:>9.0f}"
        print(f"{result.part:<12}{numbers}  {result.note}".rstrip())
    passed, failed, skipped = (
        sum(getattr(result, key) for result in results) for key in ("passed", "failed", "skipped")
    )
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
