"""Watches real uv at work and holds the catalogue against it: every file made, every program started.

A run goes through uv's workflows one after the other, from nothing. What is there between steps is seen by comparing
the tree, what comes and goes within one by looking again and again (a file of a few milliseconds may escape), and every
start of a program, however short, is in the shim's log. Not gone through: `uv python install`, `uv format` and `uv self
update`, which fetch from where the bench can't.
"""

from __future__ import annotations

import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.catalogue import Catalogue, classify, load
from tests.windows.bench.commands import decisions, forget_what_uv_made
from tests.windows.bench.debian import run_logged
from tests.windows.bench.index import LIBRARY, SCRIPTED, TOOL
from tests.windows.bench.places import (
    BENCH,
    DOWNLOADS,
    LOCAL_APPDATA,
    PROFILE,
    PYTHON,
    ROAMING_APPDATA,
    SHIM_POLICY,
    UV,
    UV_BEFORE_SIGNING,
    on_disk,
)
from tests.windows.bench.run import Finished, run_under_policy

NEWEST, OLDER = "0.13.8", "0.7.12"
"""The versions that the bench has, pinned by hash."""
LOOK_EVERY_S = 0.05

_WATCHED = (r"C:\users", r"C:\src", r"C:\ProgramData")
_HOMES = (
    rf"{LOCAL_APPDATA}\uv",
    rf"{ROAMING_APPDATA}\uv",
    rf"{PROFILE}\.local\bin",
    rf"{LOCAL_APPDATA}\Temp",
    r"C:\src",
)
_NOT_UVS = (r"c:\windows" + "\\", r"c:\program files" + "\\", r"c:\bench" + "\\")
_EXECUTABLE = (".exe", ".com", ".dll", ".ocx", ".pyd", ".node", ".ps1", ".bat", ".cmd", ".vbs", ".js", ".msi", ".msp")
_CACHE = rf"{LOCAL_APPDATA}\uv\cache".lower() + "\\"
_PROJECT = r"C:\src\demo"
_PACKAGE = r"C:\src\package"
_SCRIPT = r"C:\src\script.py"
_MANAGED = ("--managed-python", "--python", "3.13")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a workflow. `program`: `uv`, `uvx`, or a path."""

    workflow: str
    program: str
    arguments: tuple[str, ...]
    directory: str = r"C:\src"
    prepare: Callable[[], None] | None = None


@dataclass(slots=True, kw_only=True)
class Observed:
    """What one version of uv did. Paths are as on Windows, each with the workflow in which it was first seen."""

    version: str
    made: dict[str, str] = field(default_factory=dict)
    started: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Something that the catalogue does not know, or says otherwise."""

    path: str
    workflow: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}\n    {self.reason} (seen at: {self.workflow})"


def _make_project() -> None:
    folder = on_disk(_PROJECT)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "1.0"\nrequires-python = ">=3.13"\n'
        f'dependencies = ["{SCRIPTED}", "{LIBRARY}"]\n'
    )


def _make_package() -> None:
    folder = on_disk(_PACKAGE)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n\n'
        '[project]\nname = "package"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(
        "import pathlib, tarfile, zipfile\n\n\n"
        "def build_wheel(directory, config_settings=None, metadata_directory=None):\n"
        '    name = "package-1.0-py3-none-any.whl"\n'
        "    with zipfile.ZipFile(pathlib.Path(directory) / name, 'w') as wheel:\n"
        "        metadata = 'Metadata-Version: 2.1\\nName: package\\nVersion: 1.0\\n'\n"
        "        wheel.writestr('package-1.0.dist-info/METADATA', metadata)\n"
        "        wheel.writestr('package-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nTag: py3-none-any\\n')\n"
        "        wheel.writestr('package-1.0.dist-info/RECORD', '')\n"
        "    return name\n"
    )


def _make_script() -> None:
    on_disk(_SCRIPT).write_text(f'# /// script\n# dependencies = ["{TOOL}"]\n# ///\nimport {TOOL}\n{TOOL}.main()\n')


STEPS = (
    Step(workflow="venv", program="uv", arguments=("venv", *_MANAGED, r"C:\src\fresh\.venv")),
    Step(workflow="sync-build", program="uv", arguments=("sync", *_MANAGED), directory=_PROJECT, prepare=_make_project),
    Step(workflow="run-entrypoint", program="uv", arguments=("run", *_MANAGED, SCRIPTED), directory=_PROJECT),
    Step(workflow="run-python", program="uv", arguments=("run", *_MANAGED, "python", "-V"), directory=_PROJECT),
    Step(workflow="run-with", program="uv", arguments=("run", *_MANAGED, "--with", TOOL, TOOL), directory=_PROJECT),
    Step(workflow="run-script", program="uv", arguments=("run", "--python", PYTHON, _SCRIPT), prepare=_make_script),
    Step(workflow="uvx", program="uvx", arguments=("--python", PYTHON, TOOL)),
    Step(workflow="tool-install", program="uv", arguments=("tool", "install", "--python", PYTHON, TOOL)),
    Step(workflow="tool-run-installed", program=rf"{PROFILE}\.local\bin\{TOOL}.exe", arguments=()),
    Step(
        workflow="sync-build",
        program="uv",
        arguments=("pip", "install", "--python", PYTHON, "--target", r"C:\src\target", LIBRARY),
    ),
    Step(
        workflow="build",
        program="uv",
        arguments=("build", "--wheel", "--python", PYTHON),
        directory=_PACKAGE,
        prepare=_make_package,
    ),
)


def install_version(version: str) -> str:
    """The path of uv.exe of a version on the bench; one that is not pinned is fetched. raises: BenchError."""
    if version in (NEWEST, OLDER):
        return UV if version == NEWEST else UV_BEFORE_SIGNING
    target = rf"C:\Program Files\uv-{version}"
    if not on_disk(rf"{target}\uv.exe").exists():
        folder = BENCH / "uv" / version
        wanted = ["--no-deps", "--platform", "win_amd64", "--only-binary=:all:", "-d", str(folder), f"uv=={version}"]
        run_logged(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", *wanted],
            DOWNLOADS.parent / "logs" / f"pip-uv-{version}.log",
        )
        on_disk(target).mkdir(parents=True, exist_ok=True)
        [wheel] = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as contents:
            for name in contents.namelist():
                if name.endswith(".exe"):
                    (on_disk(target) / name.rpartition("/")[2]).write_bytes(contents.read(name))
    return rf"{target}\uv.exe"


def observe(version: str, index_url: str, say: Callable[[str], None] = lambda _line: None) -> Observed:
    """What a version does in all steps. Whatever uv made before is removed, and the bench has no policy then."""
    uv = install_version(version)
    on_disk(SHIM_POLICY).unlink(missing_ok=True)
    forget_what_uv_made()
    observed = Observed(version=version)
    known = set(_tree())
    for step in STEPS:
        if step.prepare:
            step.prepare()
            known |= set(_tree())
        with _looking(known, observed.made, step.workflow):
            finished = _run(step, uv, index_url)
        say(f"uv {version}: {step.program} {' '.join(step.arguments)}: {finished.code}, {finished.seconds:.1f} s")
        if finished.code:
            observed.failed.append(str(finished))
        for decision in decisions():
            if decision.collection == "exe":
                observed.started.setdefault(decision.path, step.workflow)
    return observed


def judge(
    observed: Observed, catalogue: Catalogue | None = None, name: Callable[[str], str | None] = classify
) -> list[Unknown]:
    """What the catalogue does not know of what was observed, or dates otherwise. `name`: the pattern of a path."""
    catalogue = catalogue or load()
    patterns = {pattern.id: pattern for pattern in catalogue.patterns}
    unknown: list[Unknown] = []

    def complain(path: str, workflow: str, reason: str) -> None:
        unknown.append(Unknown(path=path, workflow=workflow, reason=reason))

    for what, paths in (("started", observed.started), ("made", observed.made)):
        for path, workflow in sorted(paths.items()):
            is_program = what == "started" or path.lower().endswith(_EXECUTABLE)
            if not is_program or path.lower().startswith(_NOT_UVS):
                continue
            pattern = patterns.get(name(path) or "")
            if pattern is None:
                complain(path, workflow, f"was {what}, and belongs to no pattern")
            elif what == "started" and not pattern.is_executed:
                complain(path, workflow, f"was started, but {pattern.id} says that nothing is executed there")
            elif pattern.since and _number(pattern.since) > _number(observed.version):
                complain(path, workflow, f"{pattern.id} is said to begin with uv {pattern.since}")
            elif pattern.until and _number(pattern.until) < _number(observed.version):
                complain(path, workflow, f"{pattern.id} is said to end with uv {pattern.until}")
    for path, workflow in sorted(observed.made.items()):
        if not path.lower().startswith(tuple(home.lower() + "\\" for home in _HOMES)):
            complain(path, workflow, "was made where the catalogue has no root of uv's")
    for folder, (path, workflow) in _cache_folders(observed.made).items():
        if reason := _fault_of_folder(folder, observed.version, catalogue):
            complain(path, workflow, reason)
    return unknown


def _cache_folders(made: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The folders of the cache, each with the first file in it."""
    found: dict[str, tuple[str, str]] = {}
    for path, workflow in sorted(made.items()):
        if path.lower().startswith(_CACHE) and "\\" in (rest := path[len(_CACHE) :]):
            found.setdefault(rest.split("\\")[0], (path, workflow))
    return found


def _fault_of_folder(folder: str, version: str, catalogue: Catalogue) -> str | None:
    """Why a folder of the cache is not as the catalogue says. Kinds of folders that it does not list hold only data."""
    stem, mark, number = folder.rpartition("-v")
    alike = [bucket for bucket in catalogue.buckets if bucket.folder.rpartition("-v")[0] == stem]
    if not mark or not number.isdecimal() or not alike:
        return None
    for bucket in alike:
        if bucket.folder != folder:
            continue
        if _number(bucket.since) <= _number(version) and (
            not bucket.until or _number(version) <= _number(bucket.until)
        ):
            return None
        return f"the cache's folder {folder} is said to be of uv {bucket.since} to {bucket.until or 'now'}"
    return f"the cache's folder {folder} is in no [[bucket]]"


def _run(step: Step, uv: str, index_url: str) -> Finished:
    program = {"uv": uv, "uvx": uv.replace("uv.exe", "uvx.exe")}.get(step.program, step.program)
    variables = {"UV_DEFAULT_INDEX": index_url, "UV_PYTHON_DOWNLOADS": "never"}
    return run_under_policy([program, *step.arguments], directory=step.directory, variables=variables)


def _tree() -> Iterator[str]:
    """Every file below the watched folders."""
    for root in _WATCHED:
        start = str(on_disk(root))
        for folder, _, names in os.walk(start):
            inside = root + folder[len(start) :].replace("/", "\\")
            for name in names:
                yield f"{inside}\\{name}"


@contextmanager
def _looking(known: set[str], made: dict[str, str], workflow: str) -> Iterator[None]:
    """Notes every file that comes, also those that go again before the end."""
    ended = threading.Event()

    def look() -> None:
        while True:
            is_last = ended.is_set()
            for path in _tree():
                if path not in known:
                    known.add(path)
                    made.setdefault(path, workflow)
            if is_last:
                return
            ended.wait(LOOK_EVERY_S)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
