"""Which of uv's patterns a file in an event belongs to, and its template, where nothing is known of the workstation.

The name of the profile's owner goes first: after that, all workstations look alike and one set of expressions serves.
Most files of a log are nobody's and seen often: they are remembered, and those that have no word of uv's are not asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from agent.catalogue import Machine, classify, normalise, templated
from agent.catalogue.classify import expressions
from agent.catalogue.expand import CANARY_FOLDER, CANARY_ID, CANARY_STEM, CANARY_TEMP
from app.imports.model import Reasons

MAX_PATH_CHARACTERS = 1_000
_REMEMBERED = 20_000
_PROFILE = re.compile(r"^([A-Za-z]:\\(?:users|documents and settings)\\)([^\\]+)(?=\\)", re.IGNORECASE)
_OWNERLESS = frozenset({"public", "default", "all users", "default user"})
_POWERSHELL_TEST = "__psscriptpolicytest_"
_MARKS = (CANARY_TEMP.lower(), CANARY_STEM, CANARY_STEM.replace("-", ""), CANARY_FOLDER, "tmpwlv")
_ID_MARK = re.compile(rf"\\{CANARY_ID.lower()}[a-z0-9]{{13}}(?=\\)")
_OWNER = "user"
_COMMONNESS = {
    **dict.fromkeys((".exe", ".dll"), 1000),
    **dict.fromkeys(("\\windows\\", "appdata", "\\appdata\\local\\temp", "scripts", "bin", "localcache"), 200),
    **dict.fromkeys(("\\roaming", "\\application data", "\\local settings\\application data"), 50),
}
"""How common a word is in paths of nobody's, where that is not rare; no answer depends on it, only the time to it."""

_RANDOM = re.compile(r"(?<=\\\.tmp)[A-Za-z0-9]{6}(?=\\)|(?<=\\archive-v0\\)[A-Za-z0-9_-]{16,30}(?=\\)", re.IGNORECASE)
_ANY_RANDOM = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


class File(NamedTuple):
    """A file of uv's. `path`: as a template; `noise`: why its events are nobody's tries all the same, if so."""

    pattern: str
    path: str
    noise: str | None


class UvFiles:
    """Answers for one import. `env`: variables that moved uv's directories on the workstations, if any did."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = dict(env or {})
        self._machine = Machine(env={"USERPROFILE": rf"C:\Users\{_OWNER}", **self._env})
        self.known: dict[str, File | None] = {}
        """The answers to paths that were asked for lately."""
        self._alike: dict[str, tuple[str, str] | None] = {}
        self._words = () if self._env else _necessary_words()

    def find(self, path: str) -> File | None:
        """The pattern and the template of a file in any written form; None for a file of nobody's."""
        known = self.known
        try:
            return known[path]
        except KeyError:
            pass
        found = self._ask(path) if self._may_be_uvs(path) else None
        if len(known) >= _REMEMBERED:
            known.clear()
        known[path] = found
        return found

    def _may_be_uvs(self, path: str) -> bool:
        """Whether a path must be asked: it has a word of uv's, or is not plain enough to tell by words."""
        if not self._words or path[1:3] != ":\\" or "/" in path or ".." in path:
            return True
        lowered = path.lower()
        for word in self._words:  # noqa: SIM110 - any() of a generator takes twice as long, and this is asked most
            if word in lowered:
                return True
        return False

    def _ask(self, path: str) -> File | None:
        if len(path) > MAX_PATH_CHARACTERS or not path.isprintable():
            return None
        plain = normalise(path, self._env)
        if plain is None:
            return None
        if is_own_probe(plain):
            noise: str | None = Reasons.OWN_PROBE
        else:
            noise = Reasons.POWERSHELL_TEST if is_powershell_test(plain) else None
        # What uv draws by lot is a wildcard in the template: one answer serves for all draws.
        alike = _RANDOM.sub(lambda drawn: _ANY_RANDOM[: len(drawn[0])], without_owner(plain))
        if alike not in self._alike:
            if len(self._alike) >= _REMEMBERED:
                self._alike.clear()
            pattern = classify(alike, {"env": self._env} if self._env else None)
            self._alike[alike] = None if pattern is None else (pattern, templated(alike, self._machine))
        found = self._alike[alike]
        return None if found is None else File(*found, noise)


def without_owner(plain: str) -> str:
    """A path with `user` for the name of a profile's owner.

    >>> without_owner(r"C:\\USERS\\JANE\\APPDATA\\LOCAL\\UV\\X.EXE")
    'C:\\\\Users\\\\user\\\\APPDATA\\\\LOCAL\\\\UV\\\\X.EXE'
    """
    found = _PROFILE.match(plain)
    if found is None or found[2].lower() in _OWNERLESS:
        return plain
    return rf"C:\Users\{_OWNER}" + plain[found.end() :]


def is_own_probe(path: str) -> bool:
    """Whether a path carries one of the markers of the agent's canaries (docs/catalogue.md), in any case.

    >>> is_own_probe(r"C:\\Users\\a\\AppData\\Local\\uv\\cache\\builds-v0\\.tmpWLVx1y\\Scripts\\python.exe")
    True
    """
    lowered = path.lower()
    return any(mark in lowered for mark in _MARKS) or _ID_MARK.search(lowered) is not None


def is_powershell_test(path: str) -> bool:
    """Whether PowerShell made this file itself, to learn whether scripts are restricted."""
    return _POWERSHELL_TEST in path.lower()


@cache
def _necessary_words() -> tuple[str, ...]:
    """A few words of which every path of uv's has one, read off the expressions; empty if some expression needs none.

    Of each expression's sets the one is taken whose words are the rarest in an ordinary log.
    """
    chosen: set[str] = set()
    for expression in expressions():
        needs = expression.needs
        sets = [*needs.words, *([frozenset(needs.endings)] if needs.endings else [])]
        if not sets:
            return ()
        chosen |= min(sets, key=lambda words: sum(_COMMONNESS.get(word, 1) for word in words))
    # A word inside another is found wherever the other is.
    return tuple(sorted(word for word in chosen if not any(other != word and other in word for other in chosen)))
