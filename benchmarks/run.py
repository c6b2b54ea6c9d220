"""`make bench`: runs the benchmarks of this folder one after another; standard output is JSON lines alone.

Each benchmark is a program that prints one JSON object a line, with at least `name`, `value` and `unit` (and, where
it compares, `baseline` and `ratio`), and exits with 1 if a target is missed. Usage: run.py [NAME...]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
REQUIRED = ("name", "value", "unit")


def main(wanted: list[str]) -> int:
    """Runs the benchmarks. Exit codes: 0 all targets met, 1 one missed or a benchmark broke, 2 an unknown name."""
    there = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem not in ("run", "__init__")}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        print(f"unknown benchmark: {', '.join(unknown)}; there are: {', '.join(there)}", file=sys.stderr)
        return 2
    emit({"name": "machine", "value": os.cpu_count(), "unit": "cores", "python": platform.python_version()})
    failed = [name for name in wanted or there if not run(name, there[name])]
    for name in failed:
        print(f"benchmark {name}: a target was missed, or it broke", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, path: Path) -> bool:
    """Passes a benchmark's lines on, each with the benchmark's name in it. Whether it ended well."""
    started = time.monotonic()
    print(f"== {name}", file=sys.stderr, flush=True)
    sound = True
    command = [sys.executable, str(path)]
    with subprocess.Popen(
        command, cwd=FOLDER.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            figure = read_figure(line)
            if figure is None:
                sound = False
                print(f"{name} printed no figure but: {line.rstrip()[:200]}", file=sys.stderr, flush=True)
            else:
                emit({"benchmark": name, **figure})
    print(f"== {name} took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return sound and process.returncode == 0


def read_figure(line: str) -> dict[str, object] | None:
    """The object of a line, if it is a figure."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and all(key in value for key in REQUIRED) else None


def emit(figure: dict[str, object]) -> None:
    print(json.dumps(figure, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
