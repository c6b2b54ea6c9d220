"""Finds the paths and programs that a line names, and what an output tells of its surroundings."""

from __future__ import annotations

import ntpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.catalogue import classify
from app.diagnosis.lines import JOINT

_COMMAND = re.compile(
    r"(?:^|[>$#%❯]\s{0,3}|^\+ |`|command: )(?P<program>uvx?)(?:\.exe)?(?P<arguments>(?: +[^\s`]{1,200}){1,12})"
)
_ENVIRONMENT = re.compile(
    r"(?:Creating virtual ?env(?:ironment)? at: |Using Python environment at: |VIRTUAL_ENV=)"
    r"`?(?P<path>[^`]{1,1000}?)`?\s*$"
)
_BASE = re.compile(
    r"(?:Using base executable for virtual environment: "
    r"|Using (?:CPython|Python|PyPy|GraalPy) [\w.+]{1,30} interpreter at: )"
    r"`?(?P<path>[^`]{3,1000}?)`?\s*$"
)
_FRAME = re.compile(r'File "(?P<path>[^"]{3,1000})", line \d+')
_BUILD_FOLDER = re.compile(r"(?P<folder>.{0,1000}[\\/]builds-v0[\\/]\.tmp[A-Za-z0-9]{6})[\\/]", re.IGNORECASE)

# What a build backend starts, by the package whose code did it.
BACKEND_PROGRAMS = {
    "uv_build": "uv-build.exe",
    "maturin": "maturin.exe",
    "scikit_build_core": "cmake.exe",
    "cmake": "cmake.exe",
    "ninja": "ninja.exe",
    "mesonpy": "meson.exe",
    "mesonbuild": "ninja.exe",
    "cython": "cython.exe",
}


@dataclass(slots=True)
class Surroundings:
    """What the whole output tells: the commands that were typed, the environment, the Python it is made of."""

    commands: list[str] = field(default_factory=list)
    environment: str | None = None
    base: str | None = None
    text: str = ""


def read_surroundings(lines: Iterable[str]) -> Surroundings:
    """Commands, environment and base interpreter of an output; the last one named counts."""
    found = Surroundings()
    words = []
    for line in lines:
        words.append(line)
        if command := _COMMAND.search(line):
            found.commands.append(command["program"] + command["arguments"])
        if environment := _ENVIRONMENT.search(line):
            found.environment = mend(environment["path"])
        if base := _BASE.search(line):
            found.base = mend(base["path"])
    found.text = "\n".join(words)
    return found


def mend(path: str) -> str:
    """A path that may have been cut: with or without a space at each joint, whichever makes it one of uv's."""
    path = path.strip()
    if JOINT not in path:
        return path
    cut, spaced = path.replace(JOINT, ""), path.replace(JOINT, " ")
    if classify(cut) is None and classify(spaced) is not None:
        return spaced
    return cut


def frame_path(line: str) -> str | None:
    """The file that a line of a traceback names."""
    found = _FRAME.search(line)
    return mend(found["path"]) if found else None


def program_of_backend(frames: list[str]) -> tuple[str, str] | None:
    """(path, package) of the program that a build backend was about to start, from its traceback's files."""
    for frame in reversed(frames):
        inside = _BUILD_FOLDER.match(frame)
        if not inside:
            continue
        package = _package(frame)
        program = BACKEND_PROGRAMS.get(package.lower())
        if program:
            return ntpath.join(inside["folder"], "Scripts", program), package
    return None


def build_folder(frames: list[str]) -> str | None:
    """The build environment that a traceback's files lie in."""
    for frame in reversed(frames):
        if inside := _BUILD_FOLDER.match(frame):
            return inside["folder"]
    return None


def _package(frame: str) -> str:
    parts = re.split(r"[\\/]", frame)
    lowered = [part.lower() for part in parts]
    if "site-packages" in lowered:
        return parts[min(lowered.index("site-packages") + 1, len(parts) - 1)].removesuffix(".py")
    return ""
