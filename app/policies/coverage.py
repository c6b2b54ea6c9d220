"""Does an export open what it was asked to open? Each form of a chosen pattern is judged under the planned policy.

Rules are written narrow, so rare forms of a pattern (PyPy's names, scripts nobody runs) may stay closed, and a Deny
rule of the base wins over everything. Both are said, not discovered later by a user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from agent.catalogue import Machine, Pattern, expand
from app.applocker.evaluate import collection_of, compile_policy
from app.applocker.model import STANDARD_USER, File, Policy, Token, Verdict
from app.policies.reach import shown

_HOME = r"C:\Users\anyone"
TYPICAL_ENVIRONMENT = {
    "SYSTEMDRIVE": "C:",
    "SYSTEMROOT": r"C:\Windows",
    "PROGRAMFILES": r"C:\Program Files",
    "PROGRAMDATA": r"C:\ProgramData",
    "CHOCOLATEYINSTALL": r"C:\ProgramData\chocolatey",
    "USERPROFILE": _HOME,
    "LOCALAPPDATA": rf"{_HOME}\AppData\Local",
    "APPDATA": rf"{_HOME}\AppData\Roaming",
    "TEMP": rf"{_HOME}\AppData\Local\Temp",
    "TMP": rf"{_HOME}\AppData\Local\Temp",
}
_ANSWERS = {
    "cache": ("cache_dir",),
    "python": ("python_dir",),
    "tools": ("tool_dir",),
    "bin": ("tool_bin_dir", "python_bin_dir"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A form of a pattern that stays closed: as a path on a typical machine, and the Deny rules that close it."""

    pattern: str
    collection: str
    path: str
    deny_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A pattern that rules open, with one path of it on a typical machine."""

    pattern: str
    path: str


def find_closed(
    policy: Policy,
    patterns: Iterable[Pattern],
    collections: frozenset[str],
    sid: str,
    *,
    project_roots: Iterable[str] = (),
    roots: Mapping[str, str] | None = None,
) -> tuple[Closed, ...]:
    """The forms of patterns that a member of the group could not start under a policy, in these collections."""
    machine = typical_machine(project_roots, roots or {})
    compiled = compile_policy(policy)
    token = Token(sids=STANDARD_USER.sids | {sid})
    closed = []
    for pattern in patterns:
        for path, collection in _examples(pattern, machine):
            if collection not in collections:
                continue
            decision = compiled.decide(File(path=path), token, collection)
            if decision.verdict in (Verdict.DENIED, Verdict.DENIED_BY_DEFAULT):
                denied = decision.rules if decision.verdict is Verdict.DENIED else ()
                closed.append(
                    Closed(
                        pattern=pattern.id,
                        collection=collection,
                        path=path,
                        deny_rules=tuple(rule.name for rule in denied),
                    )
                )
    return tuple(closed)


def find_opened(
    policy: Policy,
    patterns: Iterable[Pattern],
    sid: str,
    *,
    project_roots: Iterable[str] = (),
    roots: Mapping[str, str] | None = None,
) -> tuple[Opened, ...]:
    """The patterns of which a member of the group could start at least one form, by these rules alone."""
    machine = typical_machine(project_roots, roots or {})
    compiled = compile_policy(policy)
    token = Token(sids=STANDARD_USER.sids | {sid})
    started = {collection.type for collection in policy.collections if collection.rules}
    opened = []
    for pattern in patterns:
        for path, collection in _examples(pattern, machine):
            if collection not in started:
                continue
            if compiled.decide(File(path=path), token, collection).verdict is Verdict.ALLOWED:
                opened.append(Opened(pattern=pattern.id, path=path))
                break
    return tuple(opened)


def typical_machine(project_roots: Iterable[str], roots: Mapping[str, str]) -> Machine:
    """A workstation as most are, with an administrator's folders (in AppLocker's words) on it."""
    return _machine(tuple(project_roots), tuple(sorted(roots.items())))


@lru_cache(maxsize=64)
def _machine(project_roots: tuple[str, ...], roots: tuple[tuple[str, str], ...]) -> Machine:
    # The same one again for the same folders, since it knows where uv's roots are.
    answers = {answer: _on_disk(folder) for name, folder in roots for answer in _ANSWERS[name]}
    folders = tuple(_on_disk(root) for root in project_roots) or (r"C:\projects",)
    return Machine(env=TYPICAL_ENVIRONMENT, project_roots=folders, answers=answers)


def _examples(pattern: Pattern, machine: Machine) -> Iterable[tuple[str, str]]:
    """An example of each form of a pattern that AppLocker controls, with the collection that judges it."""
    for form in expand(pattern, machine):
        path, collection = _example_and_collection(form)
        if collection is not None and collection in pattern.collections:
            yield path, collection


@lru_cache(maxsize=8192)
def _example_and_collection(form: str) -> tuple[str, str | None]:
    path = example_of(form)
    return path, collection_of(path)


def example_of(form: str) -> str:
    r"""A path of a glob's form.

    >>> example_of(r"C:\cache\builds-v0\.tmp??????\Scripts\python3.*.exe")
    'C:\\cache\\builds-v0\\.tmpabcdef\\Scripts\\python3.x.exe'
    """
    letters = iter("abcdefghijklmnopqrstuvwxyz" * 10)
    text = form.replace("**", "folder\\below").replace("*", "x")
    return re.sub(r"\?", lambda _: next(letters), text)


def _on_disk(folder: str) -> str:
    return shown(folder).replace("\\Users\\*", "\\Users\\anyone")
