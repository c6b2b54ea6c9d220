"""What a uv release changes for a policy: files of each release are judged, and what was open and no longer is, breaks.

Pure. The files come from the catalogue's since and until: places that appear and go, cache folders with another number,
a signature that begins. A hash rule for uv.exe holds for the recorded build alone, so every release ends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from agent.catalogue import Catalogue, Machine, Pattern, Workflow, expand
from agent.catalogue.changes import read_version
from app.applocker.evaluate import CompiledPolicy, collection_of
from app.applocker.model import File, HashCondition, Policy, Token, Verdict, parse_version
from app.policies.coverage import example_of, typical_machine
from app.policies.roots import Places, file_at, machine_at

_ALLOWED = (Verdict.ALLOWED, Verdict.ALLOWED_BY_DEFAULT)
_NUMBERED = re.compile(r"\\([a-z]+(?:-[a-z]+)*)-v[*?]\\")
_UV_FILE = re.compile(r"(?i)uv[xw]?\.exe")
_FORMS_JUDGED = 12
"""Of a pattern's forms (python.exe, pythonw.exe, python3.exe ...) at most so many are judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFile:
    """A file as one release of uv has it. `form`: by which the same file of another release is told."""

    pattern: str
    form: str
    collection: str
    file: File


_Files = Mapping[tuple[str, str], "ReleaseFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A pattern that an upgrade closes. `path`: a file that is refused. `kind` says why:

    `moved`: its folder has another number; `hash`: the rule names the old build; `new`: a command that worked needs a
    new place, which is closed; `closed`: any other cause. `later` breaks nothing: a new place, closed as others are.
    """

    pattern: str
    kind: str
    path: str


def files_of_release(
    catalogue: Catalogue, version: str, *, project_roots: Iterable[str] = (), where: Places = ()
) -> Mapping[tuple[str, str], ReleaseFile]:
    """The files that a release runs, on a typical machine, by pattern and form. `where`: folders that lie elsewhere.

    raises: ValueError for no version
    """
    return _files_of_release(_Kept(catalogue), version, tuple(project_roots), where)


class _Kept:
    """A catalogue as itself: by it is known again what follows from it, and it does not change."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __hash__(self) -> int:
        return id(self.catalogue)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self.catalogue is other.catalogue


@lru_cache(maxsize=128)
def _files_of_release(kept: _Kept, version: str, project_roots: tuple[str, ...], where: Places) -> _Files:
    catalogue, at = kept.catalogue, read_version(version)
    machine = machine_at(where) if where else typical_machine(project_roots, {})
    found: dict[tuple[str, str], ReleaseFile] = {}
    for pattern in catalogue.patterns:
        if not pattern.is_executed or not _is_at(pattern.since, pattern.until, at):
            continue
        for form in _forms(pattern, machine):
            path = example_of(_numbered(catalogue, form, at))
            if form.endswith("**") and "Exe" in pattern.collections:
                path += ".exe"
            collection = collection_of(path)
            if collection is None or collection not in pattern.collections:
                continue
            file = file_at(path)
            if pattern.signer and _is_at(catalogue.signer(pattern.signer).since, None, at):
                signer = catalogue.signer(pattern.signer)
                file = replace(file, publisher=signer.publisher, version=parse_version("1.0.0.0"))
            found[pattern.id, form] = ReleaseFile(pattern=pattern.id, form=form, collection=collection, file=file)
    return MappingProxyType(found)


def find_breaks(
    before: _Files, after: _Files, compiled: CompiledPolicy, token: Token, workflows: Iterable[Workflow]
) -> tuple[Break, ...]:
    """What an upgrade closes under a policy, each pattern once. `workflows`: the commands that may need new places."""
    known_hashes = _hashes_of_uv(compiled.policy)
    broken: dict[str, Break] = {}
    known_patterns = {pattern for pattern, _form in before}
    needing: dict[str, list[Workflow]] = {}
    for workflow in workflows:
        for name in workflow.needs:
            needing.setdefault(name, []).append(workflow)
    for key, one in after.items():
        if one.pattern in broken or _opens(compiled, one, token):
            continue
        earlier = before.get(key)
        if earlier is None:
            if one.pattern not in known_patterns and one.pattern in needing:
                worked = any(_worked(workflow, before, compiled, token) for workflow in needing[one.pattern])
                broken[one.pattern] = Break(pattern=one.pattern, kind="new" if worked else "later", path=one.file.path)
            continue
        if _opens(compiled, earlier, token):
            kind = "moved" if earlier.file.path != one.file.path else "closed"
            broken[one.pattern] = Break(pattern=one.pattern, kind=kind, path=one.file.path)
        elif _UV_FILE.fullmatch(one.file.path.rpartition("\\")[2]) and any(
            _opens(compiled, _with_hash(earlier, data), token) for data in known_hashes
        ):
            broken[one.pattern] = Break(pattern=one.pattern, kind="hash", path=one.file.path)
    return tuple(broken.values())


def _worked(workflow: Workflow, before: _Files, compiled: CompiledPolicy, token: Token) -> bool:
    """Whether a command worked with the old release: it needed places, and one form at least of each was open."""
    needed = {name: [one for (pattern, _), one in before.items() if pattern == name] for name in workflow.needs}
    there = [forms for forms in needed.values() if forms]
    return bool(there) and all(any(_opens(compiled, one, token) for one in forms) for forms in there)


def _opens(compiled: CompiledPolicy, one: ReleaseFile, token: Token) -> bool:
    return compiled.decide(one.file, token, one.collection).verdict in _ALLOWED


def _with_hash(one: ReleaseFile, data: str) -> ReleaseFile:
    return replace(one, file=replace(one.file, authenticode_sha256=data))


def _hashes_of_uv(policy: Policy) -> frozenset[str]:
    """The hashes of a policy's rules that say they are of uv's programs."""
    return frozenset(
        one.data
        for _collection, rule in policy.rules()
        if isinstance(rule.condition, HashCondition)
        for one in rule.condition.hashes
        if one.source_name and _UV_FILE.fullmatch(one.source_name.rpartition("\\")[2])
    )


def _forms(pattern: Pattern, machine: Machine) -> tuple[str, ...]:
    return tuple(dict.fromkeys(expand(pattern, machine)))[:_FORMS_JUDGED]


def _numbered(catalogue: Catalogue, form: str, at: tuple[int, int, int]) -> str:
    """A form with the number that a release gives to the cache's folder in it, where the pattern leaves it open."""

    def number(found: re.Match[str]) -> str:
        for bucket in catalogue.buckets:
            name, _, _number = bucket.folder.rpartition("-v")
            if name == found[1] and _is_at(bucket.since, bucket.until, at):
                return f"\\{bucket.folder}\\"
        return found[0]

    return _NUMBERED.sub(number, form)


def _is_at(since: str | None, until: str | None, at: tuple[int, int, int]) -> bool:
    return (not since or read_version(since) <= at) and (not until or at <= read_version(until))
