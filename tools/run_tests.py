"""`make test`: all tests, in parts that fit a machine with two cores, with one table and one sum at the end.

Wine and containers leave half of the machine idle, so the fast tests run beside them; Chromium comes afterwards, alone.
A part that fails does not keep another from running. Usage: run_tests.py [PART...], one after the other.
"""

from __future__ import annotations

import asyncio
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
LONGEST_LINE = 1 << 24

# Part -> (pytest's arguments, seconds after which it is ended).
PARTS: dict[str, tuple[list[str], int]] = {
    "windows": (["-m", "windows"], 1500),
    "fast": (["-n", "2", "--dist", "loadfile", "-m", f"not ({' or '.join(ALONE)})"], 1200),
    "browser": (["-m", "browser"], 900),
    "containers": (["-m", "containers"], 1200),
}
STAGES: tuple[tuple[tuple[str, ...], ...], ...] = ((("windows", "containers"), ("fast",)), (("browser",),))
"""One stage after the other; the rows of a stage at the same time; the parts of a row one after the other."""


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
    results = asyncio.run(run_stages(((tuple(arguments),),) if arguments else STAGES))
    print_table(results)
    return 1 if any(result.failed for result in results) else 0


async def run_stages(stages: tuple[tuple[tuple[str, ...], ...], ...]) -> list[Result]:
    """What every part did, in the order of the stages."""
    results: list[Result] = []
    for rows in stages:
        if len(rows) > 1:
            # Tests of other parts read the real files that the bench unpacks. What it lacks, its own tests tell.
            await run_with_limit([sys.executable, "-m", "tests.windows.bench", "build"], 900, "")
        done = await asyncio.gather(*(run_row(row, with_names=len(rows) > 1) for row in rows))
        results += [result for row in done for result in row]
    return results


async def run_row(row: tuple[str, ...], *, with_names: bool) -> list[Result]:
    """Runs parts one after the other. with_names: each of their lines begins with the part's name."""
    results = []
    for part in row:
        say(f"tests: {part}")
        results.append(await run_part(part, f"{part} | " if with_names else ""))
        say(f"tests: {part} took {results[-1].duration_s:.0f} s")
    return results


def say(sentence: str) -> None:
    """A progress line with the time of day."""
    print(f"== {datetime.now(tz=UTC):%H:%M:%S} {sentence}", flush=True)


async def run_part(part: str, prefix: str) -> Result:
    """Runs one pytest over a part and counts from its own report; a run without a report counts as one failure."""
    arguments, limit_s = PARTS[part]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wayleave-tests-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--durations=10", "--durations-min=5", f"--junitxml={report}"]
        command += ["--continue-on-collection-errors", *arguments, "tests"]
        code = await run_with_limit(command, limit_s, prefix)
        result = count(part, report, code)
    return Result(
        part=part,
        passed=result.passed,
        failed=result.failed,
        skipped=result.skipped,
        duration_s=time.monotonic() - started,
        note=result.note,
    )


async def run_with_limit(command: list[str], limit_s: int, prefix: str) -> int | None:
    """The exit code of a command; None when it had to be ended, with everything that it started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if prefix else None,
        stderr=subprocess.STDOUT if prefix else None,
        limit=LONGEST_LINE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            return await follow(process, prefix)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            # An interrupt lets fixtures unmount and stop what they started.
            os.killpg(process.pid, signal.SIGINT)
            try:
                async with asyncio.timeout(60):
                    await follow(process, prefix)
            except TimeoutError:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


async def follow(process: asyncio.subprocess.Process, prefix: str) -> int:
    """Shows what a command prints, as it comes, where that isn't shown anyway. Its exit code."""
    if process.stdout:
        async for line in process.stdout:
            print(prefix + line.decode(errors="replace"), end="", flush=True)
    return await process.wait()


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
