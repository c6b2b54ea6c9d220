"""The ways to open one pattern, least privilege first: move it out of users' reach, name files, signers, or paths.

Each way says what it admits, whether users can write there, how long it lasts, what it needs first, and what it will
need later. A way that cannot be taken yet is listed all the same, with what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.catalogue import Catalogue, Pattern
from agent.catalogue import load as load_catalogue
from app.applocker.model import PublisherCondition
from app.errors import InvalidError
from app.policies.baselines import TrustedFile
from app.policies.choices import DEFAULT_ROOTS, ROOT_VARIABLES, PatternChoice
from app.policies.export import plan_export
from app.policies.plan import PlannedRule, rule_giver

PROTECTED_FOLDERS = {
    "python": r"%PROGRAMFILES%\uv\python",
    "tools": r"%PROGRAMFILES%\uv\tools",
    "bin": r"%PROGRAMFILES%\uv\bin",
}
"""Where administrators may move what uv need not write at run time. The cache and environments are not among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to open a pattern. `rank` 1 admits least. `rules` is empty while something is `missing`.

    `kind`: relocate, hash, publisher or path; `settings`: variables to set (name, folder), for relocate alone.
    """

    rank: int
    kind: str
    title: str
    users_can_write: bool
    admits: tuple[str, ...]
    lasts: str
    risk: str
    upkeep: str
    rules: tuple[PlannedRule, ...]
    settings: tuple[tuple[str, str], ...] = ()
    missing: str | None = None

    @property
    def is_ready(self) -> bool:
        return self.missing is None


_UPKEEP = {
    "relocate": "Administrators install and update there; nothing to add to the policy.",
    "hash": "A new hash for every new build of the file.",
    "publisher": "None, while the publisher keeps its name.",
    "path": "None, while uv keeps its folders.",
}
_TITLES = {
    "relocate": "Move it to a folder that only administrators can write",
    "hash": "Name the trusted files by hash",
    "publisher": "Name the publisher",
    "path": "Name the path",
}


def rank_candidates(
    pattern_id: str,
    sid: str,
    *,
    baseline: Sequence[TrustedFile] = (),
    project_roots: Sequence[str] = (),
    catalogue: Catalogue | None = None,
) -> tuple[Candidate, ...]:
    """The ways to open a pattern for a SID, that which admits least first.

    raises: InvalidError about `patterns` (no such pattern, or no rule opens it), `sid` or `project_roots`.
    """
    catalogue = catalogue or load_catalogue()
    pattern = next((pattern for pattern in catalogue.patterns if pattern.id == pattern_id), None)
    if pattern is None:
        raise InvalidError(f"There is no pattern {pattern_id[:80]!a}.", field="patterns")
    source = rule_giver(catalogue, pattern)
    root = _movable_root(source)
    found = [_deployed_by_administrators()] if pattern.group == "uv-binary" else []
    for kind in ("relocate", "hash", "publisher", "path"):
        if not _is_thinkable(kind, source, root):
            continue
        moved = {root: PROTECTED_FOLDERS[root]} if kind == "relocate" and root else {}
        choice = PatternChoice(pattern=pattern_id, kind="path" if kind == "relocate" else kind)
        try:
            export = plan_export(
                [choice],
                sid,
                baseline=baseline,
                project_roots=project_roots,
                roots=moved,
                collections=pattern.collections or None,
                catalogue=catalogue,
            )
        except InvalidError as error:
            if error.field not in ("kind", "files"):
                raise
            found.append(_missing(kind, error.message))
        else:
            found.append(_ready(kind, export.rules, moved))
    return tuple(replace(one, rank=rank) for rank, one in enumerate(sorted(found, key=_width), start=1))


def _is_thinkable(kind: str, source: Pattern, root: str | None) -> bool:
    if kind == "relocate":
        return root is not None
    return kind in source.rule_kinds or (kind == "path" and bool(source.applocker_paths))


def _movable_root(pattern: Pattern) -> str | None:
    """The root, if all of a pattern's paths lie under one that uv need not write at run time."""
    if pattern.group == "uv-binary":
        return None  # uv itself is moved by whoever deploys it, not by a variable of uv
    for name in PROTECTED_FOLDERS:
        prefix = DEFAULT_ROOTS[name].lower() + "\\"
        if pattern.applocker_paths and all(path.lower().startswith(prefix) for path in pattern.applocker_paths):
            return name
    return None


def _deployed_by_administrators() -> Candidate:
    return Candidate(
        rank=0,
        kind="relocate",
        title="Deploy uv under Program Files",
        users_can_write=False,
        admits=("Only what administrators put there; AppLocker's default rules allow it already.",),
        lasts="Until somebody installs uv elsewhere.",
        risk="None known beyond that: only administrators can change the files.",
        upkeep="Administrators roll out each release; `uv self update` does nothing there.",
        rules=(),
        settings=(("UV_INSTALL_DIR", r"%PROGRAMFILES%\uv"),),
    )


def _ready(kind: str, rules: tuple[PlannedRule, ...], moved: dict[str, str]) -> Candidate:
    return Candidate(
        rank=0,
        kind=kind,
        title=_TITLES[kind],
        users_can_write=any(rule.reach.users_can_write for rule in rules),
        admits=tuple(dict.fromkeys(rule.reach.admits for rule in rules)),
        lasts=" ".join(dict.fromkeys(rule.reach.lasts for rule in rules)),
        risk=" ".join(dict.fromkeys(rule.reach.risk for rule in rules)),
        upkeep=_UPKEEP[kind],
        rules=rules,
        settings=tuple((ROOT_VARIABLES[name], folder) for name, folder in moved.items()),
    )


def _missing(kind: str, message: str) -> Candidate:
    return Candidate(
        rank=0,
        kind=kind,
        title=_TITLES[kind],
        users_can_write=kind == "path",
        admits=(),
        lasts="",
        risk="",
        upkeep=_UPKEEP[kind],
        rules=(),
        missing=message,
    )


def _width(candidate: Candidate) -> tuple[int, int]:
    """How much a way admits: what users cannot write first, then files, products, publishers, paths."""
    if candidate.kind == "relocate":
        return (0, 0)
    if candidate.kind == "hash":
        return (1, 0)
    if candidate.kind == "publisher":
        conditions = [rule.rule.condition for rule in candidate.rules]
        names_file = bool(conditions) and all(
            isinstance(condition, PublisherCondition) and condition.binary != "*" for condition in conditions
        )
        return (2, 0 if names_file else 1)
    return (3, 0)
