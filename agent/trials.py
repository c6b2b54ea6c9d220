"""What is tried for the catalogue's patterns, and with what. Pure but for looking at what stands there.

For a program: the real file where there is one; where uv would put a copy of the host's own venv launcher, a copy of
that; else the canary. Where both can be had the canary is tried as well, after all else: a policy that lets one start
and not the other is worth knowing. Libraries and scripts are tried for the patterns that are made of them.
"""

# ruff: noqa: PTH114, PTH116, PTH119, PTH122
# Paths are text here: the catalogue's globs are, and no step may normalise them behind our back.
from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.catalogue import Catalogue, Machine, Pattern, canary_paths, classify, expand
from agent.catalogue.expand import root_places
from agent.contract.facts import Outcome, Probe, Specimen
from agent.placement import has_marker
from agent.search import find_files

COLLECTION = "Exe"
MAX_FILES = 2
MAX_CANARIES = 2
MAX_LAUNCHER_BYTES = 4 << 20

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "Exe": (".exe", ".com"),
    "Dll": (".pyd", ".dll", ".ocx", ".node"),
    "Script": (".ps1", ".bat", ".cmd", ".vbs", ".js"),
}
"""What a collection's files end in; the first is what a canary of it is called."""

_LAUNCHERS = ("python.exe", "venvlauncher.exe")
_LAUNCHER_PLACES = (
    r"<python dir>\*-windows-*-none\Lib\venv\scripts\nt",
    r"%LOCALAPPDATA%\Programs\Python\Python3*\Lib\venv\scripts\nt",
    r"%ProgramFiles%\Python3*\Lib\venv\scripts\nt",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one pattern is tried with: paths of real files, or of canaries to be; without any, `otherwise` is told.

    `source`: the host's own launcher, of which a copy is put at the paths. `is_second`: the canary beside something
    better, tried if the day has room for it.
    """

    pattern: str
    specimen: Specimen
    paths: tuple[str, ...] = ()
    otherwise: Outcome = Outcome.UNKNOWN
    collection: str = COLLECTION
    source: str | None = None
    is_second: bool = False

    @property
    def key(self) -> str:
        """The name under which its outcome is remembered."""
        return key_of(self.pattern, self.collection, self.specimen)

    @property
    def starts(self) -> int:
        """How many processes are started or libraries loaded for it. Of a script the policy is only asked."""
        return 0 if self.collection == "Script" else len(self.paths)


def key_of(pattern: str, collection: str | None, specimen: Specimen) -> str:
    """The name of a try at a pattern.

    >>> key_of("venv-python", "Exe", Specimen.REAL)
    'venv-python Exe real'
    """
    return f"{pattern} {collection or COLLECTION} {specimen.value}"


def probe_key(probe: Probe) -> str:
    """The name under which a probe is remembered: that of its trial."""
    return key_of(probe.pattern, probe.collection, probe.specimen)


def plan_trials(
    catalogue: Catalogue,
    machine: Machine,
    token: str,
    *,
    uvs: Sequence[str] = (),
    launcher: str | None = None,
) -> tuple[Trial, ...]:
    """The trials of all patterns that uv starts or loads something of, in the catalogue's order.

    `uvs`: every uv found; `launcher`: the venv launcher that uv would copy on this machine.
    """
    executed = [pattern for pattern in catalogue.patterns if pattern.is_executed and _places(pattern, machine)]
    planned = [
        trial
        for pattern in executed
        if COLLECTION in pattern.collections
        for trial in _plan_programs(pattern, machine, token, uvs, launcher)
    ]
    if machine.platform == "windows":
        planned += (
            _plan_others(pattern, machine, token, pattern.collections[0])
            for pattern in executed
            if pattern.collections[:1] in (("Dll",), ("Script",))
        )
    return (*(trial for trial in planned if not trial.is_second), *(trial for trial in planned if trial.is_second))


def find_launcher(machine: Machine) -> str | None:
    """The venv launcher that uv would copy into a new environment: that of the newest Python, uv's own ones first.

    source: uv 0.13.8, crates/uv-virtualenv/src/virtualenv.rs, copy_launcher_windows: python.exe of the base's
    Lib\\venv\\scripts\\nt, then venvlauncher.exe there.
    """
    if machine.platform != "windows":
        return None
    for place in _LAUNCHER_PLACES:
        for name in _LAUNCHERS:
            globs = [glob for glob in _filled(place, machine) if _is_absolute(glob, machine)]
            for path in find_files([f"{glob}\\{name}" for glob in globs], limit=1):
                if 0 < _size(path) <= MAX_LAUNCHER_BYTES:
                    return path
    return None


def _filled(place: str, machine: Machine) -> tuple[str, ...]:
    root, _, rest = place.partition("\\")
    return tuple(f"{found}\\{rest}" for found in root_places(root, machine))


def _places(pattern: Pattern, machine: Machine) -> tuple[str, ...]:
    return pattern.templates if machine.platform == "windows" else pattern.posix


def _plan_programs(
    pattern: Pattern, machine: Machine, token: str, uvs: Sequence[str], launcher: str | None
) -> tuple[Trial, ...]:
    is_uv = pattern.group == "uv-binary"
    globs = [glob for glob in expand(pattern, machine) if _is_absolute(glob, machine)]
    files = find_real_files(pattern, globs, machine, known=uvs if is_uv else ())
    places = _canaries(pattern, machine, token, COLLECTION)
    canary = Trial(pattern=pattern.id, specimen=Specimen.CANARY, paths=places)
    copies = tuple(place for place in places if os.path.basename(place.replace("\\", "/")) == "python.exe")
    if files:
        first = Trial(pattern=pattern.id, specimen=Specimen.REAL, paths=files)
    elif launcher is not None and copies:
        first = Trial(pattern=pattern.id, specimen=Specimen.LAUNCHER, paths=copies[:1], source=launcher)
    elif places:
        return (canary,)
    else:
        # Without a place to look at (no project root, no such variable) nothing is known; an empty place is an answer.
        otherwise = Outcome.ABSENT if globs or is_uv else Outcome.UNKNOWN
        return (Trial(pattern=pattern.id, specimen=Specimen.NONE, otherwise=otherwise),)
    return (first, replace(canary, is_second=True)) if places else (first,)


def _plan_others(pattern: Pattern, machine: Machine, token: str, collection: str) -> Trial:
    globs = [glob for glob in expand(pattern, machine) if _is_absolute(glob, machine)]
    files = find_real_files(pattern, globs, machine, collection=collection)
    if files:
        return Trial(pattern=pattern.id, specimen=Specimen.REAL, paths=files, collection=collection)
    places = _canaries(pattern, machine, token, collection)
    if places:
        return Trial(pattern=pattern.id, specimen=Specimen.CANARY, paths=places, collection=collection)
    otherwise = Outcome.ABSENT if globs else Outcome.UNKNOWN
    return Trial(pattern=pattern.id, specimen=Specimen.NONE, otherwise=otherwise, collection=collection)


def _canaries(pattern: Pattern, machine: Machine, token: str, collection: str) -> tuple[str, ...]:
    """Where canaries of a collection may be put: as the catalogue says, with an ending of that collection."""
    found = []
    for place in canary_paths(pattern, machine, token):
        stem, ending = os.path.splitext(place)
        if machine.platform == "windows" and ending.lower() not in SUFFIXES[collection]:
            place = stem + SUFFIXES[collection][0]
        found.append(place)
    return tuple(dict.fromkeys(found))[:MAX_CANARIES]


def find_real_files(
    pattern: Pattern,
    globs: Sequence[str],
    machine: Machine,
    *,
    known: Sequence[str] = (),
    collection: str = COLLECTION,
) -> tuple[str, ...]:
    """Files of a collection that stand at a pattern, newest first: those that the catalogue counts to it alone."""
    found = [path for path in (*known, *find_files(globs, limit=50)) if not has_marker(path)]
    if machine.platform == "windows":
        found = [path for path in found if path.lower().endswith(SUFFIXES[collection])]
        matching = [path for path in found if classify(path, machine=machine) == pattern.id]
    else:
        found = [path for path in found if path not in known or _matches_any(path, globs)]
        # A link runs where its target lies, which says nothing of the place that it is in.
        matching = [path for path in found if not os.path.islink(path) and _is_executable(path)]
    return tuple(dict.fromkeys(matching))[:MAX_FILES]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_absolute(glob: str, machine: Machine) -> bool:
    return glob[1:3] == ":\\" or glob.startswith("\\\\") if machine.platform == "windows" else glob.startswith("/")


def _matches_any(path: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, glob) for glob in globs)


def _is_executable(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o111)
    except OSError:
        return False
