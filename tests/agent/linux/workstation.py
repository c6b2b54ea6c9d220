"""A Linux workstation in a folder: a home, the real uv, a project, an offline package; and ways to close its doors."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

NOEXEC, EXEC = "noexec", "exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workstation:
    """`home` holds everything that uv writes; `outside` what lies beside it: uv, packages, the agent's state."""

    home: Path
    outside: Path

    @property
    def project(self) -> Path:
        return self.home / "src" / "thing"

    @property
    def state_dir(self) -> Path:
        return self.outside / "state"

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.outside / 'bin'}:/usr/bin:/bin",
            "TMPDIR": str(self.home / "tmp"),
            "UV_OFFLINE": "1",
            "UV_NO_INDEX": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "LANG": "C.UTF-8",
        }

    def run_uv(self, *arguments: str, cwd: Path | None = None, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the real uv here."""
        return subprocess.run(
            [self.outside / "bin" / "uv", *arguments],
            env=self.environment(),
            cwd=cwd or self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    def run_agent(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "agent.cli"),
    ) -> subprocess.CompletedProcess[str]:
        """Run the agent here, as a process of its own."""
        command, *rest = arguments
        return subprocess.run(
            [sys.executable, *program, command, "--state-dir", str(self.state_dir), *rest],
            env={**self.environment(), **(variables or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def probe(self) -> dict[str, dict[str, Any]]:
        """The agent's probes by pattern."""
        finished = self.run_agent("probe", "--project-root", str(self.project))
        assert finished.returncode == 0, finished.stderr
        return probes_of(finished.stdout)


def probes_of(output: str) -> dict[str, dict[str, Any]]:
    """The probes by pattern in what `wayleave-agent probe` printed."""
    report = json.loads(output)
    return {probe["pattern"]: probe for probe in report["bodies"][report["sets"]["probes"]]["probes"]}


def build(home: Path, outside: Path) -> Workstation:
    """A workstation whose user has not used uv yet. `home` exists already."""
    (outside / "bin").mkdir(parents=True)
    (outside / "packages").mkdir()
    (outside / "bin" / "uv").write_bytes(Path(uv.find_uv_bin()).read_bytes())
    (outside / "bin" / "uv").chmod(0o755)
    write_wheel(outside / "packages")
    workstation = Workstation(home=home, outside=outside)
    workstation.project.mkdir(parents=True)
    (home / "tmp").mkdir()
    return workstation


def use_uv(workstation: Workstation) -> None:
    """What a user does: a project environment and a tool, each with an entry point of the offline package."""
    python = ("--python", system_python())
    workstation.run_uv("venv", "--quiet", *python, check=True)
    packages = ("--find-links", str(workstation.outside / "packages"))
    workstation.run_uv("pip", "install", "--quiet", *packages, "greeter", check=True)
    workstation.run_uv("tool", "install", "--quiet", *packages, *python, "greeter", check=True)


def system_python() -> str:
    """The interpreter that the distribution installed, else the tests' own base."""
    installed = Path("/usr/bin/python3")
    return str(installed if installed.exists() else Path(sys.base_prefix) / "bin" / "python3")


def write_wheel(folder: Path) -> None:
    """A wheel with one console script, `greet`."""
    info = "greeter-1.0.dist-info"
    files = {
        "greeter.py": "def main():\n    print('hello')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeter\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
    }
    with zipfile.ZipFile(folder / "greeter-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))


@contextmanager
def noexec_mount(folder: Path) -> Iterator[None]:
    """A file system of its own on a folder, from which nothing may be executed. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,mode=0755", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """Open (`EXEC`) or close (`NOEXEC`) a mounted folder."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def listing(*folders: Path) -> dict[str, tuple[str, int]]:
    """Everything below folders: kind and size, by path."""
    found: dict[str, tuple[str, int]] = {}
    for folder in folders:
        for directory, names, files in os.walk(folder):
            for name in (*names, *files):
                path = Path(directory, name)
                status = path.lstat()
                kind = stat.filemode(status.st_mode)
                found[str(path)] = (kind, 0 if stat.S_ISDIR(status.st_mode) else status.st_size)
    return found
