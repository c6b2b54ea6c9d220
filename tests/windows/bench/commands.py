"""The uv commands that people type, each with what it needs to work on the bench and with what shows that it did."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.windows.bench.index import LIBRARY, SCRIPTED, TOOL
from tests.windows.bench.places import (
    LOCAL_APPDATA,
    MANAGED_PYTHON,
    PROFILE,
    PYTHON,
    ROAMING_APPDATA,
    SHIM_LOG,
    UV,
    UVX,
    on_disk,
)
from tests.windows.bench.run import Finished, run_under_policy

PROJECT = r"C:\src\demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A uv command. `says` is in its output where it worked, `makes` is a file that it then made."""

    name: str
    arguments: tuple[str, ...]
    says: str
    makes: str | None = None
    directory: str = "C:\\src"
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One line of the shim's log: what it decided about a program or a library, and the rule that said so."""

    pid: int
    collection: str
    word: str
    path: str
    rule: str


def make_project() -> None:
    """A project that depends on one package of the index, without an environment yet."""
    folder = on_disk(PROJECT)
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "demo"\nversion = "1.0"\nrequires-python = ">=3.13"\ndependencies = ["{SCRIPTED}"]\n'
    )


MANAGED = ("--managed-python", "--python", "3.13")
COMMANDS = (
    Command(
        name="uv venv",
        arguments=(UV, "venv", *MANAGED, r"C:\src\fresh\.venv"),
        says="Creating virtual environment",
        makes=r"C:\src\fresh\.venv\Scripts\python.exe",
    ),
    Command(
        name="uv run",
        arguments=(UV, "run", *MANAGED, SCRIPTED),
        says=rf"{PROJECT}\.venv\Scripts\python.exe",
        directory=PROJECT,
        prepare=make_project,
    ),
    Command(name="uvx", arguments=(UVX, "--python", PYTHON, TOOL), says="this way"),
    Command(
        name="uv pip install (sdist)",
        arguments=(UV, "pip", "install", "--python", PYTHON, "--target", r"C:\src\target", LIBRARY),
        says=f"Built {LIBRARY}==1.0",
        makes=r"C:\src\target\waystone.py",
    ),
)


def run_command(command: Command, index_url: str, variables: Mapping[str, str] | None = None) -> Finished:
    """Runs a command as an ordinary user under the policy in force, from a state in which uv has cached nothing."""
    forget_what_uv_made()
    if command.prepare:
        command.prepare()
    told = {"UV_DEFAULT_INDEX": index_url, "UV_PYTHON_DOWNLOADS": "never", **(variables or {})}
    return run_under_policy(command.arguments, directory=command.directory, variables=told)


def forget_what_uv_made() -> None:
    """Removes uv's cache, tools, bin directory and projects, and empties the shim's log. Managed Python stays."""
    for folder in (rf"{LOCAL_APPDATA}\uv", rf"{ROAMING_APPDATA}\uv\tools", rf"{PROFILE}\.local", r"C:\src"):
        shutil.rmtree(on_disk(folder), ignore_errors=True)
    on_disk(r"C:\src").mkdir()
    for left in on_disk(MANAGED_PYTHON).parent.parent.iterdir():
        if left.name.startswith("."):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    on_disk(SHIM_LOG).unlink(missing_ok=True)


def decisions() -> list[Decision]:
    """What the shim decided since its log was emptied, in order."""
    log = on_disk(SHIM_LOG)
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    fields = [line.split("\t") for line in lines]
    return [
        Decision(pid=int(pid), collection=what, word=word, path=path, rule=rule)
        for pid, what, word, path, rule in fields
    ]


def refused() -> list[str]:
    """The paths that the shim refused, in order."""
    return [decision.path for decision in decisions() if decision.word == "DENY"]


def did_work(command: Command, finished: Finished) -> bool:
    """Whether a command ended well and left what it should."""
    made = command.makes is None or on_disk(command.makes).exists()
    return finished.code == 0 and command.says in finished.output and made
