"""In CI a skip is a failure, elsewhere it stays a skip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TESTS = """
import pytest

def test_runs():
    pass

def test_lacks_a_program():
    pytest.skip("needs chromium")

@pytest.mark.skipif(True, reason="needs podman")
def test_is_marked():
    raise AssertionError

def test_lacks_reference_data():
    pytest.skip("shared: no reference data beside this clone")

@pytest.mark.xfail(reason="known")
def test_is_expected_to_fail():
    raise AssertionError
"""
WHOLE_FILE = """
import pytest
pytest.skip("needs wine", allow_module_level=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ci", "expected"),
    [
        ("true", {"passed": 1, "failed": 1, "skipped": 1, "xfailed": 1, "error": 2}),
        ("", {"passed": 1, "skipped": 4, "xfailed": 1}),
    ],
)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_skips_fail_in_ci_alone(tmp_path: Path, ci: str, expected: dict[str, int], workers: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_whole_file.py").write_text(WHOLE_FILE)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-n", workers, "--continue-on-collection-errors", "."]
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False
    )
    counts = {word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last_line(run))}
    assert counts == expected, run.stdout
    assert (run.returncode != 0) == (ci == "true")
    if ci:
        assert "With CI=true nothing may be skipped, and this was: needs chromium" in run.stdout


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout.strip().splitlines()[-1].partition(" in ")[0]
