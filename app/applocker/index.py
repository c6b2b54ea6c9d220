"""Finds the few rules that can match a file, without looking at the others.

Hashes and publishers are looked up in dictionaries. A path rule is filed under one piece of its literal text, the one
that fewest other rules share: the whole path, a whole folder or file name, the path's end, a name's beginning, or four
letters in a row. What is found is compared in full afterwards, so the index may say too much, never too little.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from app.applocker.model import Machine
from app.applocker.paths import needs_all_forms

T = TypeVar("T")

_GRAM = 4
_LENGTHS = (24, 16, 12, 8, 6, 4, 3)
"""Lengths to which beginnings and ends are cut, so that few have to be tried."""

# Names that nearly every path has are poor keys even if only one rule has them.
_COMMON = frozenset({"C:", "USERS", "WINDOWS", "PROGRAM FILES", "PROGRAM FILES (X86)", "APPDATA", "LOCAL", "SYSTEM32"})
_EVERYWHERE = 1_000_000
_WILDCARDS = re.compile(r"[*?<>\"]")

Key = tuple[str, str]


class PathIndex(Generic[T]):
    """Entries by the pieces of their patterns."""

    def __init__(self, entries: Sequence[tuple[T, Sequence[str]]], machine: Machine) -> None:
        offers = [(entry, _keys(pattern, machine)) for entry, patterns in entries for pattern in patterns]
        shared = Counter(key for _, keys in offers for key in keys)
        self.always: list[T] = []
        self.exact: dict[str, list[T]] = {}
        self.names: dict[str, list[T]] = {}
        ends: dict[int, dict[str, list[T]]] = {}
        beginnings: dict[int, dict[str, list[T]]] = {}
        self.grams: dict[str, list[T]] = {}
        for entry, keys in offers:
            if not keys:
                _file(self.always, entry)
                continue
            kind, text = _best(keys, shared)
            if kind == "exact":
                _file(self.exact.setdefault(text, []), entry)
            elif kind == "name":
                _file(self.names.setdefault(text, []), entry)
            elif kind == "end":
                _file(ends.setdefault(len(text), {}).setdefault(text, []), entry)
            elif kind == "beginning":
                _file(beginnings.setdefault(len(text), {}).setdefault(text, []), entry)
            else:
                _file(self.grams.setdefault(text, []), entry)
        self.ends = tuple(ends.items())
        self.beginnings = tuple(beginnings.items())
        self.gram_keys = frozenset(self.grams)

    def find(self, path: str) -> list[T]:
        """Every entry that may match the path; an entry with several patterns may come twice."""
        found = list(self.always)
        if (exact := self.exact.get(path)) is not None:
            found += exact
        get = self.names.get
        names = path.split("\\")
        for name in names:
            if (entries := get(name)) is not None:
                found += entries
        for length, ends in self.ends:
            if (entries := ends.get(path[-length:])) is not None:
                found += entries
        for length, beginnings in self.beginnings:
            for name in names:
                if (entries := beginnings.get(name[:length])) is not None:
                    found += entries
        if self.gram_keys:
            grams = {path[start : start + _GRAM] for start in range(len(path) - _GRAM + 1)}
            for gram in self.gram_keys.intersection(grams):
                found += self.grams[gram]
        return found


def _file(entries: list[T], entry: T) -> None:
    if not entries or entries[-1] is not entry:
        entries.append(entry)


def _keys(pattern: str, machine: Machine) -> list[Key]:
    """Everything under which a pattern could be filed; nothing if it has to be compared with every path.

    Each key is certain to be found in every path that the pattern matches.
    """
    if needs_all_forms(pattern, machine):
        return []
    if not _WILDCARDS.search(pattern):
        return [("exact", pattern)]
    keys: list[Key] = []
    parts = pattern.split("\\")
    for place, part in enumerate(parts):
        pieces = _WILDCARDS.split(part)
        if len(pieces) == 1:
            if part:
                keys.append(("name", part))
        else:
            first, last = pieces[0], pieces[-1]
            # A first piece begins a name only behind a backslash or at the path's beginning.
            if cut := _cut(first):
                keys.append(("beginning", first[:cut]))
            # The last piece of all is how the path ends; DOS wildcards may take nothing at the end.
            if place == len(parts) - 1 and (cut := _cut(last)):
                keys.append(("end", last[-cut:]))
        keys += [("gram", piece[at : at + _GRAM]) for piece in pieces for at in range(len(piece) - _GRAM + 1)]
    return keys


def _cut(text: str) -> int:
    return next((length for length in _LENGTHS if length <= len(text)), 0)


_RANKS = {"exact": 0, "name": 1, "end": 2, "beginning": 3, "gram": 4}


def _best(keys: Iterable[Key], shared: Counter[Key]) -> Key:
    """The key that fewest patterns share; the cheaper kind unless a dearer one is rarer by far."""

    def cost(key: Key) -> tuple[float, int]:
        kind, text = key
        count: float = shared[key] + (_EVERYWHERE if text in _COMMON else 0)
        # Grams cost a pass over the whole path, for every file, once a single rule needs them.
        return (count * 8 + 64 if kind == "gram" else count), _RANKS[kind]

    return min(keys, key=cost)


class PublisherIndex(Generic[T]):
    """Entries by publisher, product and file name, each a text or `*`."""

    def __init__(self, entries: Iterable[tuple[T, tuple[str, str, str]]]) -> None:
        self.entries: dict[tuple[str, str, str], list[T]] = {}
        for entry, key in entries:
            self.entries.setdefault(key, []).append(entry)
        self.masks = tuple({(key[0] == "*", key[1] == "*", key[2] == "*") for key in self.entries})

    def find(self, publisher: str, product: str | None, binary: str | None) -> list[T]:
        """Every entry whose texts are the file's or `*`."""
        found: list[T] = []
        get = self.entries.get
        for any_publisher, any_product, any_binary in self.masks:
            key = (
                "*" if any_publisher else publisher,
                "*" if any_product else product or "",
                "*" if any_binary else binary or "",
            )
            if (entries := get(key)) is not None:
                found += entries
        return found
