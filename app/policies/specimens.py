"""The files that a simulation judges: for each pattern what probes try there, and what the draft's rules name.

Paths come from the catalogue's templates, filled with where a workstation's folders really are. Reports choose places
to judge, never what a rule says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from agent.catalogue import Catalogue, Machine, Pattern, canary_paths, expand
from app.applocker.evaluate import collection_of
from app.applocker.model import (
    File,
    HashCondition,
    PathCondition,
    PublisherCondition,
    parse_version,
)
from app.policies.coverage import TYPICAL_ENVIRONMENT, example_of
from app.policies.drafts import Setting
from app.policies.plan import PlannedRule, also_stands_at
from app.policies.reach import shown
from app.policies.roots import Places, file_at, machine_at

_CANARY_TOKEN = "wlv000"  # noqa: S105 - part of a file name
_FQBN = re.compile(r"(?P<publisher>[^\\]+)\\(?P<product>[^\\]*)\\(?P<binary>[^\\]*)\\(?P<version>[0-9.]*)")
_ROOT = re.compile(r"(<[^<>]+>|%[^%]+%)")
_VARIABLE = re.compile(r"%([A-Za-z0-9_()]+)%")

_MOVED_BY = {
    "<cache>": ("cache_dir", "LOCALAPPDATA", "USERPROFILE"),
    "<python dir>": ("python_dir", "APPDATA", "USERPROFILE"),
    "<tool dir>": ("tool_dir", "APPDATA", "USERPROFILE"),
    "<bin>": ("tool_bin_dir", "python_bin_dir", "USERPROFILE"),
    "<tool bin>": ("tool_bin_dir", "USERPROFILE"),
    "<python bin>": ("python_bin_dir", "USERPROFILE"),
    "<scoop>": ("USERPROFILE",),
    "<PIPX_HOME>": ("USERPROFILE",),
    "%CARGO_HOME%": ("USERPROFILE",),
    "%USERPROFILE%": ("USERPROFILE",),
    "%LOCALAPPDATA%": ("LOCALAPPDATA", "USERPROFILE"),
    "%APPDATA%": ("APPDATA", "USERPROFILE"),
    "%TEMP%": ("TEMP", "LOCALAPPDATA", "USERPROFILE"),
}
"""What of a workstation's places moves a template's root."""

_ANSWER_OF_VARIABLE = {
    "UV_CACHE_DIR": "cache_dir",
    "UV_PYTHON_INSTALL_DIR": "python_dir",
    "UV_PYTHON_BIN_DIR": "python_bin_dir",
    "UV_TOOL_DIR": "tool_dir",
    "UV_TOOL_BIN_DIR": "tool_bin_dir",
}


@dataclass(frozen=True, slots=True)
class Specimen:
    """A file at a pattern. `rule`: the place of the draft's rule that names its identity, None for any file there.

    `moved`: the same where the draft's settings move it; None if it stays.
    """

    pattern: int
    collection: str
    file: File
    rule: int | None = None
    moved: File | None = None

    @property
    def file_after(self) -> File:
        return self.moved or self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Where settings move things: uv's answers about its directories, and per pattern of uv itself its folder."""

    answers: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


NOTHING_MOVED = Moves()


def specimens_of(
    catalogue: Catalogue,
    places: Places,
    project_roots: Sequence[str],
    rules: Sequence[PlannedRule],
    covered: Mapping[str, Pattern],
    known: dict[tuple[str, Places], list[tuple[str, str]]],
    moves: Moves = NOTHING_MOVED,
) -> list[Specimen]:
    """Per pattern: any file where probes try, and the files that hash and publisher rules of the draft name there.

    `known` remembers the paths of a pattern for those places that move it; `moves`: where the draft's settings do.
    """
    named: dict[str, list[tuple[int, PlannedRule]]] = {}
    for place, rule in enumerate(rules):
        if not isinstance(rule.rule.condition, PathCondition):
            for name in (*rule.patterns, *sorted(also_stands_at(rule, catalogue))):
                named.setdefault(name, []).append((place, rule))
    later = tuple(sorted({**dict(places), **moves.answers}.items()))

    def paths_at(pattern: Pattern, source: Pattern, where: Places) -> dict[str, str]:
        key = (pattern.id, tuple(one for one in where if one[0] in _moved_by(source)))
        if key not in known:
            known[key] = paths_of(source, pattern.collections, machine_at(where, project_roots))
        return dict(known[key])

    found = []
    for number, pattern in enumerate(catalogue.patterns):
        if not pattern.is_executed or not pattern.collections:
            continue
        source = covered.get(pattern.id, pattern)
        before = paths_at(pattern, source, places)
        after = paths_at(pattern, source, later) if moves.answers else before
        folder = moves.folders.get(pattern.id)
        for collection, path in before.items():
            new = after.get(collection, path) if folder is None else folder + path[path.rindex("\\") :]
            found.append(Specimen(number, collection, file_at(path), None, None if new == path else file_at(new)))
            for place, rule in named.get(pattern.id, ()):
                if rule.collection == collection:
                    moved = None if new == path else with_identity(rule, new)
                    found.append(Specimen(number, collection, with_identity(rule, path), place, moved))
    return found


def moves_of(settings: Iterable[Setting]) -> Moves:
    """Where a draft's variables move uv's directories to, and uv itself."""
    answers: dict[str, str] = {}
    folders: dict[str, str] = {}
    for one in settings:
        folder = shown(one.value).replace("\\Users\\*", "\\Users\\anyone")
        if one.name in _ANSWER_OF_VARIABLE:
            answers[_ANSWER_OF_VARIABLE[one.name]] = folder
        elif one.name == "UV_INSTALL_DIR":
            folders |= dict.fromkeys(one.patterns, folder)
    return Moves(answers=answers, folders=folders)


def paths_of(pattern: Pattern, collections: Sequence[str], machine: Machine) -> list[tuple[str, str]]:
    """Where a probe tries a pattern, once per collection: (collection, path)."""
    tried = canary_paths(pattern, machine, _CANARY_TOKEN)
    forms = tuple(example_of(form) for form in expand(pattern, machine))
    found: dict[str, str] = {}
    for path in (*tried, *forms):
        collection = collection_of(path)
        if collection is not None and collection in collections and collection not in found:
            found[collection] = path
    if not found and forms and collections:
        found[collections[0]] = forms[0]
    return list(found.items())


@lru_cache(maxsize=512)
def _moved_by(pattern: Pattern) -> frozenset[str]:
    """Which of a workstation's places move a pattern."""
    roots = (_ROOT.match(template) for template in (*pattern.templates, *pattern.probe.canary))
    return frozenset(name for root in roots if root is not None for name in _MOVED_BY.get(root[1], ()))


def with_identity(rule: PlannedRule, path: str) -> File:
    """A file at a path with the identity that a rule names."""
    match rule.rule.condition:
        case HashCondition(hashes=hashes):
            return file_at(path, authenticode_sha256=hashes[0].data, flat_sha256=hashes[0].data)
        case PublisherCondition() as condition:
            return file_at(
                path,
                publisher=condition.publisher,
                product=None if condition.product == "*" else condition.product,
                binary=None if condition.binary == "*" else condition.binary,
                version=condition.low,
            )
    return file_at(path)


def covered_patterns(catalogue: Catalogue) -> dict[str, Pattern]:
    """Patterns that are junctions: AppLocker judges the pattern that they lead to."""
    return {one.id: catalogue.pattern(one.covered_by) for one in catalogue.patterns if one.covered_by}


def with_folders(path: str, places: Places = (), project_roots: Sequence[str] = ()) -> str:
    """A told path with its variables as folders of a workstation, that of a project in the first of the roots."""
    if path.startswith("<project>"):
        path = machine_at(places, project_roots).project_roots[0] + path.removeprefix("<project>")
    environment = {**_ENVIRONMENT, **machine_at(places).env} if places else _ENVIRONMENT
    return _VARIABLE.sub(lambda found: environment.get(found[1].upper(), found[0]), path)


def file_of_sighting(
    path: str, sha256: str | None, fqbn: str | None, places: Places = (), project_roots: Sequence[str] = ()
) -> File:
    """A file as a host says that it tried it: a claim, fit for judging and for nothing else."""
    concrete = with_folders(path, places, project_roots)
    found = _FQBN.fullmatch(fqbn) if fqbn else None
    version = None
    if found and found["version"]:
        try:
            version = parse_version(found["version"])
        except ValueError:
            version = None
    return file_at(
        example_of(concrete),
        authenticode_sha256=sha256,
        flat_sha256=sha256,
        publisher=found["publisher"] if found and found["publisher"] != "-" else None,
        product=found["product"] or None if found else None,
        binary=found["binary"] or None if found else None,
        version=version,
    )


_ENVIRONMENT = {**TYPICAL_ENVIRONMENT, "OSDRIVE": "C:", "WINDIR": r"C:\Windows", "SYSTEM32": r"C:\Windows\System32"}
