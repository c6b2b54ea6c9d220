"""Finding uv, asking it where it keeps things, and learning where projects live.

uv is asked from a neutral working directory, so that no project's settings speak, with a time limit and without the
caller's terminal. Where it cannot be asked (it is blocked, say), the catalogue computes the places.
"""

# ruff: noqa: PTH100, PTH113, PTH116, PTH117, PTH118, PTH119
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent._platform import CREATION_FLAGS, PLATFORM
from agent.catalogue import Catalogue, Machine, expand
from agent.search import find_files
from agent.where import with_long_names

ASK_TIMEOUT_S = 10.0
MAX_UVS = 8
MAX_PROJECT_ROOTS = 4
SEARCH_TIMEOUT_S = 2.0
MAX_SEARCHED_DIRECTORIES = 3_000
SEARCH_DEPTH = 4

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "cache_dir": ("cache", "dir"),
    "python_dir": ("python", "dir"),
    "python_bin_dir": ("python", "dir", "--bin"),
    "tool_dir": ("tool", "dir"),
    "tool_bin_dir": ("tool", "dir", "--bin"),
}

_SILENCED = ("UV_WORKING_DIR", "UV_PROJECT", "UV_NO_CACHE", "VIRTUAL_ENV", "RUST_LOG", "UV_ENV_FILE")
"""What makes uv answer for one project or one run, or talk more: taken out of its environment."""

_COMMON_ROOTS = ("src", "source", "dev", "work", "projects", "code", "git", "repos")
_UNSEARCHED = frozenset(
    ("appdata", "node_modules", "library", "__pycache__", "windows", "program files", "site-packages")
)

_VERSION = re.compile(r"uv[xw]?(?:\.exe)? (\d{1,5}\.\d{1,5}\.\d{1,5}[0-9A-Za-z.+-]{0,32})(?: \(([^()]{0,200})\))?\s*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """One uv executable. `version` and `target` are None if it could not be asked; `error` is then why (a number)."""

    path: str
    version: str | None = None
    target: str | None = None
    error: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Everything found: the uvs (the one a person would get first), and the machine as the catalogue wants it."""

    uvs: tuple[Uv, ...]
    machine: Machine
    preferred: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict)


def discover(
    catalogue: Catalogue,
    environment: Mapping[str, str],
    *,
    configured_roots: Sequence[str] = (),
    search_projects: bool = True,
    may_ask: bool = True,
    is_known: Callable[[str], bool] = lambda _path: True,
    long_name: Callable[[str], str] = lambda path: path,
) -> Discovery:
    """Find uv and its places. `may_ask`: False where no uv may be run (as SYSTEM, say); `is_known`: which of them may.

    A uv that is not asked has no version, and its places are computed as it would compute them. `long_name`: writes
    short names out (`JANEDO~1`), which name a person and would hide that a folder is a known one.
    """
    told = with_long_names(environment, long_name)
    plain = Machine(env=told, platform=PLATFORM)
    paths = find_uvs(catalogue, plain, environment)
    if not may_ask:
        uvs: tuple[Uv, ...] = tuple(Uv(path=path) for path in paths)
        answers: dict[str, str] = {}
    else:
        known = [path for path in paths if is_known(path)]
        asked_by_path = {uv.path: uv for uv in ask_versions(known, environment)}
        uvs = tuple(asked_by_path.get(path, Uv(path=path)) for path in paths)
        asked = next((uv for uv in uvs if uv.version is not None), None)
        answers = ask_directories(asked.path, environment) if asked else {}
    answers = with_long_names(answers, long_name)
    roots = list(dict.fromkeys(os.path.abspath(root) for root in configured_roots))
    if search_projects:
        learnt = learn_project_roots(environment, deadline=time.monotonic() + SEARCH_TIMEOUT_S)
        roots = list(dict.fromkeys((*roots, *learnt)))
    machine = Machine(env=told, platform=PLATFORM, project_roots=tuple(roots[:MAX_PROJECT_ROOTS]), answers=answers)
    return Discovery(uvs=uvs, machine=machine, preferred=uvs[0].path if uvs else None, answers=answers)


def find_uvs(catalogue: Catalogue, machine: Machine, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Paths of uv executables: first those on PATH, in its order, then those in the catalogue's places."""
    name = "uv.exe" if PLATFORM == "windows" else "uv"
    found: list[str] = []
    for directory in environment.get("PATH", "").split(os.pathsep):
        # An empty or relative entry means the working directory, and says nothing of the workstation.
        directory = directory.strip('"')
        if os.path.isabs(directory) and os.path.isfile(candidate := os.path.join(directory, name)):
            found.append(candidate)
    if PLATFORM == "windows":
        # Where an administrator's package puts it, and a session begun before it was installed has no PATH to it.
        program_files = (environment.get(name, "") for name in ("PROGRAMW6432", "PROGRAMFILES"))
        places = (os.path.join(place, "uv", name) for place in program_files if os.path.isabs(place))
        found += (place for place in places if os.path.isfile(place))
    for pattern in catalogue.patterns:
        if pattern.group == "uv-binary":
            globs = [glob for glob in expand(pattern, machine) if "**" not in glob]
            found += (path for path in find_files(globs, limit=MAX_UVS) if os.path.basename(path).lower() == name)
    unique: dict[str, str] = {}
    for path in found:
        unique.setdefault(os.path.normcase(os.path.realpath(path)), path)
    return tuple(list(unique.values())[:MAX_UVS])


def parse_version(text: str) -> tuple[str, str | None] | None:
    """Version and target of `uv --version`; the target is told since 0.9 only.

    >>> parse_version("uv 0.13.8 (3d97a6aad 2026-11-12 x86_64-pc-windows-msvc)")
    ('0.13.8', 'x86_64-pc-windows-msvc')
    >>> parse_version("uv 0.7.12 (dc3fd4647 2025-06-06)")
    ('0.7.12', None)
    """
    found = _VERSION.fullmatch(text.strip() + "\n") or _VERSION.fullmatch(text.strip())
    if found is None:
        return None
    words = (found.group(2) or "").split()
    targets = [word for word in words if word.count("-") >= 2 and not _DATE.fullmatch(word)]
    return found.group(1), targets[-1] if targets else None


def parse_directory(text: str) -> str | None:
    """The one absolute directory that uv answered with, normalised; None for anything else (a relative one, say)."""
    line = text.strip("\r\n")
    if not line or len(line) > 1_000 or not os.path.isabs(line) or any(ord(letter) < 32 for letter in line):
        return None
    return os.path.normpath(line)


def ask_versions(paths: Sequence[str], environment: Mapping[str, str]) -> tuple[Uv, ...]:
    """Ask every uv for its version, all at once."""
    answers = _run_all([(path, "--version") for path in paths], environment)
    uvs = []
    for path, (output, error) in zip(paths, answers, strict=True):
        parsed = parse_version(output) if output is not None else None
        version, target = parsed if parsed else (None, None)
        uvs.append(Uv(path=path, version=version, target=target, error=error))
    return tuple(uvs)


def ask_directories(uv: str, environment: Mapping[str, str]) -> dict[str, str]:
    """uv's own answers, by name; those it did not give, or not as an absolute path, are missing."""
    outputs = _run_all([(uv, *arguments) for arguments in QUESTIONS.values()], environment)
    answers = {}
    for name, (output, _) in zip(QUESTIONS, outputs, strict=True):
        directory = parse_directory(output) if output is not None else None
        if directory is not None:
            answers[name] = directory
    return answers


def learn_project_roots(environment: Mapping[str, str], *, deadline: float) -> tuple[str, ...]:
    """Directories whose `.venv` was made by uv, newest first; `deadline` in time.monotonic() seconds."""
    home = environment.get("USERPROFILE" if PLATFORM == "windows" else "HOME", "")
    tops = [home] if os.path.isabs(home) else []
    if PLATFORM == "windows":
        drive = environment.get("SYSTEMDRIVE", "C:")
        tops += (f"{drive}\\{name}" for name in _COMMON_ROOTS)
    found: dict[str, float] = {}
    budget = MAX_SEARCHED_DIRECTORIES
    for top in tops:
        for directory in _search(top, depth=SEARCH_DEPTH):
            budget -= 1
            if budget < 0 or time.monotonic() > deadline:
                break
            settings = os.path.join(directory, ".venv", "pyvenv.cfg")
            if _is_made_by_uv(settings):
                found[directory] = os.stat(settings).st_mtime
    return tuple(sorted(found, key=lambda directory: (-found[directory], directory)))


def _search(top: str, *, depth: int) -> Iterator[str]:
    """Directories breadth first, so that what lies near the top is seen even if the limits end the search."""
    level = [top]
    for remaining in range(depth, -1, -1):
        below: list[str] = []
        for directory in level:
            yield directory
            if remaining:
                below += _subdirectories(directory)
        level = below


def _subdirectories(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as scan:
            entries = [entry for _, entry in zip(range(1_000), scan, strict=False)]
    except OSError:
        return []
    found = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in _UNSEARCHED:
            continue
        try:
            attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)
            if entry.is_dir(follow_symlinks=False) and not attributes & 0x400:  # a junction leads elsewhere
                found.append(entry.path)
        except OSError:
            continue
    return found


def _is_made_by_uv(settings: str) -> bool:
    try:
        with Path(settings).open(encoding="utf-8", errors="replace") as file:
            text = file.read(8_192)
    except OSError:
        return False
    return any(re.match(r"uv\s*=", line) for line in text.splitlines())


def _run_all(
    commands: Sequence[tuple[str, ...]], environment: Mapping[str, str]
) -> list[tuple[str | None, int | None]]:
    """Run all commands at once; for each its output, or None and the error number of the refused start."""
    quiet = {name: value for name, value in environment.items() if name.upper() not in _SILENCED}
    quiet |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    deadline = time.monotonic() + ASK_TIMEOUT_S
    started: list[subprocess.Popen[bytes] | int] = []
    for command in commands:
        try:
            started.append(
                subprocess.Popen(  # noqa: S603 - the uv that the person at this workstation runs too
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd=neutral_directory(environment),
                    env=quiet,
                    creationflags=CREATION_FLAGS,
                )
            )
        except OSError as error:
            started.append(getattr(error, "winerror", None) or error.errno or -1)
    return [_collect(process, deadline) for process in started]


def _collect(process: subprocess.Popen[bytes] | int, deadline: float) -> tuple[str | None, int | None]:
    if isinstance(process, int):
        return None, process
    try:
        output, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, None
    if process.returncode != 0:
        return None, None
    try:
        return output.decode("utf-8"), None
    except UnicodeDecodeError:
        return None, None


def neutral_directory(environment: Mapping[str, str]) -> str:
    """A directory above which no project file can lie: the root, which on Windows only administrators write to."""
    if PLATFORM != "windows":
        return "/"
    drive = environment.get("SYSTEMDRIVE", "C:")
    return f"{drive}\\" if re.fullmatch(r"[A-Za-z]:", drive) else "C:\\"
