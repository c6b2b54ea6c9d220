"""A minimal Debian 13 folder, from the mirror that this machine's own apt uses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.windows.bench.enter import remove_tree

SUITE = "trixie"
_INCLUDED = ("ca-certificates",)


class BenchError(Exception):
    """The bench can't be built here; the message says why and what would help."""


def debian_mirror(etc_apt: Path = Path("/etc/apt")) -> str:
    """The address of the Debian archive in apt's sources: the first for the main archive (not security or backports).

    `WAYLEAVE_BENCH_MIRROR` wins. raises: BenchError when apt names none.
    """
    chosen = os.environ.get("WAYLEAVE_BENCH_MIRROR")
    if chosen:
        return chosen.rstrip("/")
    for address, suites, components in _apt_sources(etc_apt):
        plain = [suite for suite in suites if re.fullmatch(r"[a-z]+", suite)]
        if plain and "main" in components and re.fullmatch(r"(https?://|file:/).*/debian/?", address):
            return address.rstrip("/")
    raise BenchError(f"no Debian archive found in {etc_apt}; name one in WAYLEAVE_BENCH_MIRROR")


def build_debian(target: Path, log: Path) -> None:
    """Unpacks a minimal Debian 13 with debootstrap into `target`. Does nothing where it stands already.

    raises: BenchError with the end of debootstrap's log.
    """
    if (target / "etc/debian_version").exists():
        return
    if shutil.which("debootstrap") is None:
        raise BenchError("needs debootstrap")
    unfinished = target.with_name(target.name + ".unfinished")
    remove_tree(unfinished)
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_INCLUDED)}", SUITE, str(unfinished)]
    # debootstrap mounts /proc in the folder: in a namespace of its own nothing stays behind, not even if it is killed.
    run_logged(["unshare", "--mount", "--propagation", "private", "--", *command, debian_mirror()], log)
    (unfinished / "etc/dpkg/dpkg.cfg.d/bench").write_text(
        "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n"
    )
    unfinished.rename(target)


def run_logged(command: list[str], log: Path, timeout_s: float = 600) -> None:
    """Runs a command with its output in a file. raises: BenchError with the end of that output when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            finished = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{command[0]} did not end within {timeout_s:.0f} s; see {log}") from error
    if finished.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BenchError(f"{' '.join(command[:12])} ... failed ({finished.returncode}); the end of {log}:\n{tail}")


def _apt_sources(etc_apt: Path) -> list[tuple[str, list[str], list[str]]]:
    """(address, suites, components) of every enabled binary source, in apt's order of files."""
    folder = etc_apt / "sources.list.d"
    files = [etc_apt / "sources.list", *sorted(folder.glob("*"))]
    found: list[tuple[str, list[str], list[str]]] = []
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            found += _deb822_sources(text)
        elif file.suffix == ".list":
            found += _one_line_sources(text)
    return found


def _one_line_sources(text: str) -> list[tuple[str, list[str], list[str]]]:
    lines = re.findall(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#\n]*)", text, re.MULTILINE)
    return [(address, [suite], components.split()) for address, suite, components in lines]


def _deb822_sources(text: str) -> list[tuple[str, list[str], list[str]]]:
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        body = "\n".join(line for line in paragraph.splitlines() if not line.startswith("#"))
        fields = dict(re.findall(r"^([\w-]+):\s*(.*(?:\n[ \t]+.*)*)", body, re.MULTILINE))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
            suites, components = fields.get("Suites", "").split(), fields.get("Components", "").split()
            found += [(address, suites, components) for address in fields.get("URIs", "").split()]
    return found
