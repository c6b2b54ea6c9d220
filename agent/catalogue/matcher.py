"""Finds the expressions that can match a text at all, so that few are tried: by its ending and by the words in it.

An expression of the catalogue is made of plain text, groups of alternatives and character classes. What every match of
it must contain, and how every match must end, is read off the expression itself (`read_needs`). A text is asked for
the words once, and only expressions whose words are all there are tried. An ending behind `.+` is checked before, so
that no expression runs over a long text more than once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.catalogue.model import Pattern

_CLASSES = "dDwWsSbBAZ"
_SHORTEST_WORD = 3
_MOST_SELECTIONS = 4096
_MOST_ENDINGS = 64
_MOST_WORDS = 8
_MOST_SETS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a text must have to match: a word of each set, and one of the endings (any ending if there is none)."""

    words: tuple[frozenset[str], ...] = ()
    endings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A pattern with its expression for one machine, and what a text needs to match it."""

    pattern: Pattern
    regex: re.Pattern[str]
    needs: Needs


@dataclass(slots=True)
class _Suffix:
    """The expressions for texts of one suffix, and which of them were chosen for each set of words."""

    expressions: tuple[Expression, ...]
    words: tuple[tuple[int, str], ...]
    chosen: dict[int, tuple[Expression, ...]] = field(default_factory=dict)


class Matcher:
    """Answers which of many expressions match a lower-case text, in their order."""

    def __init__(self, expressions: Iterable[Expression]) -> None:
        self.expressions = tuple(expressions)
        self._suffixes: dict[str, _Suffix] = {}
        known = {_suffix(ending) for found in self.expressions for ending in found.needs.endings}
        for suffix in known:
            self._suffixes[suffix] = self._expressions_for(suffix)
        self._others = self._expressions_for("")

    def matching(self, text: str) -> Iterator[Pattern]:
        """The patterns whose expression matches the text."""
        suffix = self._suffixes.get(_suffix(text), self._others)
        present = 0
        for bit, word in suffix.words:
            if word in text:
                present |= bit
        chosen = suffix.chosen.get(present)
        if chosen is None:
            chosen = _choose(suffix, present)
        for expression in chosen:
            endings = expression.needs.endings
            if (not endings or text.endswith(endings)) and expression.regex.search(text):
                yield expression.pattern

    def _expressions_for(self, suffix: str) -> _Suffix:
        fitting = tuple(
            found
            for found in self.expressions
            if not found.needs.endings or suffix in {_suffix(ending) for ending in found.needs.endings}
        )
        words = sorted({word for found in fitting for words in found.needs.words for word in words})
        return _Suffix(expressions=fitting, words=tuple((1 << number, word) for number, word in enumerate(words)))


def _suffix(text: str) -> str:
    """The last `.` and what follows it; an ending without one can't be told by it, and is of no suffix."""
    return text[text.rfind(".") :] if "." in text else ""


def _choose(suffix: _Suffix, present: int) -> tuple[Expression, ...]:
    there = {word for bit, word in suffix.words if present & bit}
    chosen = tuple(
        found for found in suffix.expressions if all(not words.isdisjoint(there) for words in found.needs.words)
    )
    if len(suffix.chosen) >= _MOST_SELECTIONS:
        suffix.chosen.clear()
    suffix.chosen[present] = chosen
    return chosen


# What an expression is read into: plain text, alternatives (each a list of such), or None for anything else.
_Item = str | list["list[_Item]"] | None


def read_needs(source: str) -> Needs | None:
    """What every match of an expression contains and ends with; None if nothing can match it. raises: ValueError

    >>> read_needs(r"\\\\tools\\\\[^\\\\]+\\.(?:exe|dll)$")
    Needs(words=(frozenset({'\\\\tools\\\\'}),), endings=('.exe', '.dll'))
    """
    alternatives, end = _read_alternatives(source, 0)
    if end != len(source):
        raise ValueError(f"unbalanced at {end}: {source}")
    if not alternatives:
        return None
    if len(alternatives) > 1:
        return Needs()
    items = alternatives[0]
    endings = _endings(items) if source.endswith("$") else ()
    words = dict.fromkeys(found for item in _joined(items) if (found := _words(item)))
    telling = sorted((found for found in words if _tells_more(found, endings)), key=_shortest, reverse=True)
    return Needs(words=tuple(telling[:_MOST_SETS]), endings=endings)


def _read_alternatives(source: str, at: int) -> tuple[list[list[_Item]], int]:
    """(alternatives, position behind them): up to the end or the group's `)`. One that can't match is left out."""
    alternatives: list[list[_Item]] = []
    items: list[_Item] = []
    possible = True
    while at < len(source) and source[at] != ")":
        if source[at] == "|":
            if possible:
                alternatives.append(items)
            items, possible, at = [], True, at + 1
            continue
        item, at = _read_item(source, at)
        if item == []:
            possible = False
        items.append(item)
    if possible:
        alternatives.append(items)
    return alternatives, at


def _read_item(source: str, at: int) -> tuple[_Item, int]:
    character = source[at]
    item: _Item = character
    if character == "\\":
        item, at = (None if source[at + 1] in _CLASSES else source[at + 1]), at + 2
    elif character == "[":
        item, at = None, _end_of_class(source, at)
    elif character == "(":
        item, at = _read_group(source, at)
    elif character in "^$":
        item, at = "", at + 1
    else:
        item, at = (None if character == "." else character), at + 1
    if at < len(source) and source[at] in "?*+{":
        return None, source.index("}", at) + 1 if source[at] == "{" else at + 1
    return item, at


def _read_group(source: str, at: int) -> tuple[_Item, int]:
    if source.startswith("(?!)", at):
        return [], at + 4
    if not source.startswith("(?:", at):
        raise ValueError(f"not understood at {at}: {source}")
    alternatives, end = _read_alternatives(source, at + 3)
    if not source.startswith(")", end):
        raise ValueError(f"unbalanced at {end}: {source}")
    return alternatives, end + 1


def _end_of_class(source: str, at: int) -> int:
    at += 1
    while source[at] != "]":
        at += 2 if source[at] == "\\" else 1
    return at + 1


def _joined(items: list[_Item]) -> list[_Item]:
    """Neighbouring plain texts as one."""
    joined: list[_Item] = []
    for item in items:
        if isinstance(item, str) and joined and isinstance(joined[-1], str):
            joined[-1] += item
        else:
            joined.append(item)
    return joined


def _words(item: _Item) -> frozenset[str]:
    """Words of which a text must contain one to match an item; empty if there is nothing to ask for."""
    if isinstance(item, str):
        return frozenset({item}) if len(item) >= _SHORTEST_WORD else frozenset()
    if item is None:
        return frozenset()
    words: set[str] = set()
    for alternative in item:
        found: list[frozenset[str]] = [needed for inner in _joined(alternative) if (needed := _words(inner))]
        if not found:
            return frozenset()
        best: frozenset[str] = max(found, key=_shortest)
        words |= best
    return frozenset(words)


def _tells_more(words: frozenset[str], endings: tuple[str, ...]) -> bool:
    """Whether to ask for words: many cost more than they save, and those of the endings are known to be there."""
    told = endings and all(any(word in ending for word in words) for ending in endings)
    return len(words) <= _MOST_WORDS and not told


def _shortest(words: frozenset[str]) -> int:
    """The longer the shortest of some words, the fewer texts have one of them."""
    return min(map(len, words))


def _endings(items: list[_Item]) -> tuple[str, ...]:
    endings = [""]
    for item in reversed(items):
        choices = [item] if isinstance(item, str) else _plain_alternatives(item)
        if not choices or len(endings) * len(choices) > _MOST_ENDINGS:
            break
        endings = [choice + ending for choice, ending in itertools.product(choices, endings)]
    # Without a dot an ending could not be found by a text's suffix.
    return tuple(endings) if all("." in ending for ending in endings) else ()


def _plain_alternatives(item: list[list[_Item]] | None) -> list[str]:
    if item is None:
        return []
    plain = []
    for alternative in item:
        joined = _joined(alternative)
        if any(not isinstance(inner, str) for inner in joined):
            return []
        plain.append("".join(inner for inner in joined if isinstance(inner, str)))
    return plain
