"""The ways to open one pattern, least privilege first: move it out of users' reach, name files, signers, or paths.

Each way says what it admits, whether users can write there, how long it lasts, what it needs first, and what it will
need later. A way that cannot be taken yet is listed all the same, with what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from app.applocker.model import PublisherCondition
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import PatternChoice
from app.policies.export import plan_export
from app.policies.libraries import count_by_origin, libraries_for
from app.policies.moving import (
    SYSTEM_PYTHON_SETTINGS,
    UV_FOLDER,
    VARIABLES_OF_ROOT,
    folder_for,
    movable_root,
    refuse_too_many,
)
from app.policies.plan import LAUNCHER_PATTERNS, PlannedRule, rule_giver
from app.policies.upkeep import NOTHING_TO_ADD, Upkeep, upkeep_of_hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to open a pattern. `rank` 1 admits least. `rules` is empty while something is `missing`.

    `kind`: what a rule set's item is set to; `settings`: variables to set (name, value); `files`: baseline ids to
    choose with it; `notes`: what whoever takes this way must know.
    """

    rank: int
    kind: str
    title: str
    users_can_write: bool
    admits: tuple[str, ...]
    lasts: str
    risk: str
    upkeep: Upkeep
    rules: tuple[PlannedRule, ...]
    examples: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    files: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def is_ready(self) -> bool:
        return self.missing is None


_TITLES = {
    "hash": "Name the trusted files by hash",
    "resign": "Sign it yourselves, and name your own publisher",
    "publisher": "Name the publisher",
    "path": "Name the narrow path",
    "broad": "Name the whole folder",
}
_UPKEEP = {
    "relocate": "Administrators install and update there; nothing to add to the policy.",
    "system": "Administrators roll out new Pythons; nothing to add to the policy while the publisher keeps its name.",
    "resign": "Whoever packages it signs each release; nothing to add to the policy.",
    "publisher": "None, while the publisher keeps its name.",
    "path": "None, while uv keeps its folders.",
    "broad": "None.",
}
_BASE_TOO = (
    "Every such python.exe starts the Python it was made from, so that one must be allowed as well: managed-python-exe "
    "for Pythons that uv downloads; one under Program Files mostly is."
)
_ALL_LAUNCHERS = (
    "The launcher's hash and that of the base python.exe together open build, uvx, tool and script environments "
    "everywhere, with no path rule."
)
_TRAMPOLINE = (
    "In a project made with a managed Python that was asked for without a patch version, .venv\\Scripts\\python.exe is "
    "a trampoline of its user, with a hash of its own: pin the patch version (uv python pin 3.13.2)."
)
_ENTRY_POINTS = (
    "Each environment's entry points are trampolines with their own hash (they hold the path of its Python)."
)


def rank_candidates(
    pattern_id: str,
    sid: str,
    *,
    baseline: Sequence[TrustedFile] = (),
    project_roots: Sequence[str] = (),
    roots: Mapping[str, str] | None = None,
    in_force: Sequence[str] | None = None,
    catalogue: Catalogue | None = None,
) -> tuple[Candidate, ...]:
    """The ways to open a pattern for a SID, that which admits least first. `in_force`: the base's collections.

    raises: InvalidError about `patterns` (no such pattern, or no rule opens it), `sid` or `project_roots`.
    """
    catalogue = catalogue or load_catalogue()
    pattern = next((pattern for pattern in catalogue.patterns if pattern.id == pattern_id), None)
    if pattern is None:
        raise InvalidError(f"There is no pattern {pattern_id[:80]!a}.", field="patterns")
    source = rule_giver(catalogue, pattern)
    collections = [name for name in pattern.collections if in_force is None or name in in_force]
    if not collections:
        where = ", ".join(pattern.collections)
        raise InvalidError(
            f"The base policy has no {where} rules, so all of that runs already: {pattern_id} needs nothing, and a "
            "first rule would block all the rest.",
            field="collections",
        )
    root = movable_root(catalogue, pattern)
    found = []
    for kind in _thinkable(source, root):
        if kind == "leave":
            found.append(_run_as_module())
        elif kind == "relocate" and pattern.group == "uv-binary":
            found.append(_deployed_by_administrators())
        elif kind == "system" and source.id not in LAUNCHER_PATTERNS:
            found.append(_no_managed_python())
        else:
            moved = {root: folder_for(root, roots or {})} if kind == "relocate" and root else {}
            choice = _choice(kind, pattern_id, source, baseline)
            try:
                refuse_too_many(choice, source, baseline)
                if choice is None:
                    raise InvalidError(_how_to_sign(source), field="files")
                export = plan_export(
                    [choice],
                    sid,
                    baseline=baseline,
                    project_roots=project_roots,
                    roots={**(roots or {}), **moved},
                    collections=collections,
                    catalogue=catalogue,
                )
            except InvalidError as error:
                if error.field not in ("kind", "files"):
                    raise
                found.append(_missing(kind, source, error.message))
            else:
                found.append(_ready(kind, source, export.rules, moved, choice, baseline))
    return tuple(replace(one, rank=rank) for rank, one in enumerate(sorted(_without_twins(found), key=_width), start=1))


def _without_twins(found: Sequence[Candidate]) -> list[Candidate]:
    """Each way once: where a narrow path is as broad as can be, it stands alone."""
    kept: list[Candidate] = []
    for one in found:
        ids = {rule.id for rule in one.rules}
        if one.kind != "broad" or not ids or all(ids != {rule.id for rule in other.rules} for other in kept):
            kept.append(one)
    return kept


def _thinkable(source: Pattern, root: str | None) -> list[str]:
    """The kinds that can be thought of for a pattern, whatever they need."""
    kinds = []
    if is_entry_point(source):
        kinds.append("leave")
    if root is not None or source.group == "uv-binary":
        kinds.append("relocate")
    if source.id in LAUNCHER_PATTERNS or source.id in ("managed-python-exe", "managed-python-minor-link"):
        kinds.append("system")
    if source.group == "uv-binary" or is_entry_point(source):
        kinds.append("resign")
    kinds += [kind for kind in ("hash", "publisher") if kind in source.rule_kinds]
    if "path" in source.rule_kinds or source.applocker_paths:
        kinds += ["path", "broad"]
    return kinds


def is_entry_point(pattern: Pattern) -> bool:
    """Whether a pattern's programs are trampolines of packages' entry points."""
    return "entrypoint-exe" in pattern.id or pattern.id == "tool-bin-exe"


def _choice(kind: str, pattern_id: str, source: Pattern, baseline: Sequence[TrustedFile]) -> PatternChoice | None:
    if kind == "resign":
        own = _own_signed(source, baseline)
        return PatternChoice(pattern=pattern_id, kind="publisher", files=own) if own else None
    if kind == "hash" and "Dll" in source.collections and "Exe" not in source.collections:
        libraries = tuple(file.id for files in libraries_for(source, baseline).values() for file in files)
        return PatternChoice(pattern=pattern_id, kind="hash", files=libraries or None)
    return PatternChoice(pattern=pattern_id, kind="path" if kind == "relocate" else kind)


def _own_signed(source: Pattern, baseline: Sequence[TrustedFile]) -> tuple[int, ...]:
    """Baseline files of the pattern's names that a publisher signed whom the catalogue does not know."""
    known = {signer.publisher.upper() for signer in load_catalogue().signers}
    names = {template.rpartition("\\")[2].lower() for template in source.templates}
    return tuple(
        file.id
        for file in baseline
        if file.publisher and file.publisher.upper() not in known and file.name.lower() in names
    )[:1]


def _how_to_sign(source: Pattern) -> str:
    what = "uv.exe" if source.group == "uv-binary" else "the trampolines (possible since uv 0.9.9)"
    return (
        f"Sign {what} with a certificate of your own when you package it, and record the signed file with "
        "`wayleave baseline add`: the rule then names your own publisher."
    )


def _run_as_module() -> Candidate:
    return Candidate(
        rank=0,
        kind="leave",
        title="Leave it closed, and run `python -m TOOL`",
        users_can_write=False,
        admits=("Nothing: the environment's Python, if it is open, runs the tool as a module.",),
        lasts="For ever.",
        risk="None.",
        upkeep=NOTHING_TO_ADD,
        rules=(),
        notes=("Works for tools that have a __main__ module: `uv run python -m pytest`, `python -m ruff`.",),
    )


def _deployed_by_administrators() -> Candidate:
    return Candidate(
        rank=0,
        kind="relocate",
        title="Deploy uv under Program Files",
        users_can_write=False,
        admits=("Only what administrators put there; AppLocker's default rules allow it already.",),
        lasts="Until somebody installs uv elsewhere.",
        risk="None known beyond that: only administrators can change the files.",
        upkeep=Upkeep(
            hashes_a_year=0,
            sentence="Administrators roll out each release; `uv self update` does nothing there.",
        ),
        rules=(),
        settings=(("UV_INSTALL_DIR", UV_FOLDER),),
    )


def _no_managed_python() -> Candidate:
    return Candidate(
        rank=0,
        kind="system",
        title="Deploy a signed Python under Program Files",
        users_can_write=False,
        admits=("Only Pythons that administrators installed; AppLocker's default rules allow them already.",),
        lasts="As long as the two settings stand.",
        risk="A Python that may start runs any Python code the user has: AppLocker does not look into .py files.",
        upkeep=Upkeep(hashes_a_year=0, sentence=_UPKEEP["system"]),
        rules=(),
        settings=SYSTEM_PYTHON_SETTINGS,
        notes=(
            "uv then takes no Python of its own, so nothing under the managed Pythons' folder is started. The launcher "
            "that environments get is a copy from the signed Python, so it is signed too.",
        ),
    )


def _ready(
    kind: str,
    source: Pattern,
    rules: tuple[PlannedRule, ...],
    moved: dict[str, str],
    choice: PatternChoice | None,
    baseline: Sequence[TrustedFile],
) -> Candidate:
    builds = {rule.build for rule in rules if rule.build}
    files = [file for file in baseline if builds & {file.name, f"{file.name} {file.version}"}]
    settings = [(variable, folder) for root, folder in moved.items() for variable in VARIABLES_OF_ROOT[root]]
    users_can_write = any(rule.reach.users_can_write for rule in rules)
    is_open_folder = kind == "relocate" and users_can_write
    notes = _notes(kind, source)
    if kind == "hash" and choice is not None and choice.files:
        libraries = [file for file in baseline if file.id in frozenset(choice.files) and file.kind == "dll"]
        if libraries:
            notes = (*notes, f"Libraries counted by where they are from: {count_by_origin(libraries)}.")
    return Candidate(
        rank=0,
        kind="publisher" if kind == "resign" else kind,
        title=f"Move it to {', '.join(moved.values())}, where users can write"
        if is_open_folder
        else _title(kind, source),
        users_can_write=users_can_write,
        admits=tuple(dict.fromkeys(rule.reach.admits for rule in rules)),
        examples=tuple(dict.fromkeys(example for rule in rules for example in rule.reach.examples)),
        lasts=" ".join(dict.fromkeys(rule.reach.lasts for rule in rules)),
        risk=" ".join(dict.fromkeys(rule.reach.risk for rule in rules)),
        upkeep=(upkeep_of_hashes(source, files) if kind == "hash" else _no_hashes("path" if is_open_folder else kind)),
        rules=rules,
        settings=tuple(settings) or (SYSTEM_PYTHON_SETTINGS if kind == "system" else ()),
        files=choice.files if choice else None,
        notes=notes,
    )


def _missing(kind: str, source: Pattern, message: str) -> Candidate:
    return Candidate(
        rank=0,
        kind=kind,
        title=_title(kind, source),
        users_can_write=kind in ("path", "broad"),
        admits=(),
        lasts="",
        risk="",
        upkeep=upkeep_of_hashes(source, ()) if kind == "hash" else _no_hashes(kind),
        rules=(),
        notes=_notes(kind, source),
        missing=message,
    )


def _title(kind: str, source: Pattern) -> str:
    if kind == "relocate":
        return "Move it to a folder that only administrators can write"
    if kind == "system":
        return "Deploy a signed Python; its launcher is signed, too"
    if kind == "path" and not source.applocker_paths:
        return "Name the path"
    return _TITLES[kind]


def _no_hashes(kind: str) -> Upkeep:
    return Upkeep(hashes_a_year=0, sentence=_UPKEEP[kind])


def _notes(kind: str, source: Pattern) -> tuple[str, ...]:
    """What is known of uv that decides whether this way works."""
    notes = []
    if source.id in LAUNCHER_PATTERNS:
        if kind == "system":
            notes.append(
                "Needs UV_PYTHON_PREFERENCE=only-system and UV_PYTHON_DOWNLOADS=never, so that uv makes environments "
                "of the deployed Python alone: an environment's python.exe is then a copy of its signed launcher."
            )
        else:
            notes.append(_BASE_TOO)
        if kind == "hash":
            notes.append(_ALL_LAUNCHERS)
            if source.group == "venv":
                notes.append(_TRAMPOLINE)
    if source.id == "managed-python-exe" and kind == "hash":
        notes.append("Managed Pythons are not signed, but the file of one build is the same on every machine.")
    if is_entry_point(source) and kind in ("hash", "path", "resign"):
        if source.id == "cache-archive-env-entrypoint-exe":
            notes.append("uvx's own trampolines hold no path: those of one tool's version are the same everywhere.")
        else:
            notes.append(f"{_ENTRY_POINTS} Re-sign them, run `python -m`, or accept a path.")
    if source.signer == "openai" and kind == "publisher":
        notes.append(
            "uv.exe names no product, so this rule also admits that publisher's other programs in user profiles, now "
            "and later; releases before 0.12.12 are not signed and stay blocked."
        )
    if source.covered_by or "junction" in source.id or "link" in source.id:
        notes.append("A junction is judged by its target: the rule is for where it leads.")
    return tuple(notes)


def _width(candidate: Candidate) -> int:
    """How much a way admits: nothing, what users cannot write, deployed Pythons, files, products, publishers, paths."""
    widths = {"leave": 0, "relocate": 1, "system": 2, "resign": 3, "hash": 4, "path": 7, "broad": 8}
    if candidate.kind == "relocate" and candidate.users_can_write:
        return widths["path"]  # it is a path rule like any other
    if candidate.kind != "publisher":
        return widths[candidate.kind]
    if candidate.files:
        return widths["resign"]
    conditions = [rule.rule.condition for rule in candidate.rules]
    names_file = bool(conditions) and all(
        isinstance(condition, PublisherCondition) and condition.binary != "*" for condition in conditions
    )
    return 5 if names_file else 6
