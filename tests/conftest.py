"""Rules for all tests: what the machine is, and that in CI nothing is skipped silently.

A test that needs a program skips with the program's name (`pytest.skip("needs chromium")`). With CI=true every
such skip is a failure: there the programs are installed, and a test that did not run proves nothing. Only reasons
that begin with "shared:" stay skips; they name reference data that lies outside the repository.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

ALLOWED_IN_CI = "shared:"
PROGRAMS = ("psql", "chromium", "podman", "debootstrap", "x86_64-w64-mingw32-gcc", "osslsigncode", "npm")

# CI repeats itself: the same examples each time, and no failure because the machine was busy. Elsewhere they vary.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


def pytest_report_header() -> list[str]:
    """The facts of the machine that explain a failure seen only here."""
    user = "root" if hasattr(os, "geteuid") and os.geteuid() == 0 else "an ordinary user"
    machine = f"{operating_system()}, {os.cpu_count()} cores, {memory_gib()} GiB"
    there = [name for name in PROGRAMS if shutil.which(name)]
    missing = [name for name in PROGRAMS if name not in there]
    return [
        f"machine: {machine}, as {user}, CI={os.environ.get('CI', '')}",
        f"python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {postgresql_version()}",
        f"programs: {', '.join(there) or 'none'}; missing: {', '.join(missing) or 'none'}",
    ]


def operating_system() -> str:
    """The distribution's own name, with the kernel's release."""
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name} (kernel {platform.release()})"


def memory_gib() -> str:
    """Memory of the whole machine, or a question mark."""
    try:
        return str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30)
    except (ValueError, OSError, AttributeError):
        return "?"


def postgresql_version() -> str:
    """The newest PostgreSQL server's version line; Debian keeps the programs out of PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    program = str(installed[-1]) if installed else shutil.which("postgres")
    if program is None:
        return "no PostgreSQL"
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the skip of a test into a failure in CI."""
    report = yield
    if not hasattr(report, "wasxfail"):
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turns the skip of a whole file into an error in CI."""
    report = yield
    refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Marks a skipped report as failed where CI=true and the reason is not an allowed one."""
    if not report.skipped or os.environ.get("CI") != "true":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if reason.startswith(ALLOWED_IN_CI):
        return
    report.outcome = "failed"
    report.longrepr = f"With CI=true nothing may be skipped, and this was: {reason}"
