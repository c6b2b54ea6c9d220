"""A collection's rules made ready: each rule one function over a file's facts, found through an index.

A rule with many exceptions finds these through an index of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from app.applocker.conditions import Compiled, Facts, Reading, compile_condition
from app.applocker.index import PathIndex, PublisherIndex
from app.applocker.model import Action, Condition, Decision, HashCondition, Machine, PathCondition, Rule
from app.applocker.paths import DRIVE_VARIABLES, upcase

T = TypeVar("T")

_FEW = 6
"""Up to so many exceptions are compared one after the other."""


class CompiledRule:
    """A rule ready to be compared. `others` are its readings under the other answers to open questions.

    `decision` is the decision that this rule makes when it decides alone, `order` its place in the document.
    """

    __slots__ = ("condition", "decision", "deny", "match", "order", "others", "rule", "sid")

    def __init__(self, rule: Rule, machine: Machine) -> None:
        self.rule = rule
        self.deny = rule.action is Action.DENY
        self.sid = rule.sid.upper()
        self.condition = compile_condition(rule.condition, machine)
        self.decision: Decision | None = None
        self.order = 0
        exceptions = [compile_condition(exception, machine) for exception in rule.exceptions]
        excepted = _any_of(rule.exceptions, exceptions, machine)
        self.match = _unless(self.condition.match, excepted)
        others = [(doubt, _unless(reading, excepted)) for doubt, reading in self.condition.others]
        for exception in exceptions:
            for doubt, reading in exception.others:
                others.append((doubt, _unless(self.condition.match, _replaced(exceptions, exception, reading))))
        self.others = tuple(others)


class ConditionIndex(Generic[T]):
    """Conditions, each with what it belongs to, found by what a file is."""

    def __init__(self, entries: Sequence[tuple[T, Condition, Compiled]], machine: Machine) -> None:
        paths: list[tuple[T, Sequence[str]]] = []
        publishers: list[tuple[T, tuple[str, str, str]]] = []
        self.odd_publishers: list[T] = []
        self.drives: list[T] = []
        self.hashes: dict[str, list[T]] = {}
        self.other_hashes: dict[str, list[T]] = {}
        for entry, condition, compiled in entries:
            match condition:
                case PathCondition():
                    of_drives = tuple(text for text in compiled.patterns if text.startswith(_DRIVES))
                    if of_drives:
                        self.drives.append(entry)
                    paths.append((entry, [text for text in compiled.patterns if text not in of_drives]))
                case _ if compiled.others and not isinstance(condition, HashCondition):
                    self.odd_publishers.append(entry)
                case HashCondition():
                    for file in condition.hashes:
                        table = self.hashes if file.type == "SHA256" else self.other_hashes
                        table.setdefault(file.data.upper(), []).append(entry)
                case _:
                    texts = (upcase(condition.publisher), upcase(condition.product), upcase(condition.binary))
                    publishers.append((entry, texts))
        self.paths = PathIndex(paths, machine)
        self.publishers = PublisherIndex(publishers)

    def candidates(self, facts: Facts) -> list[T]:
        """Everything whose condition may match under any reading; some of it twice."""
        found = self.paths.find(facts.path)
        if facts.drive_path is not None:
            found += self.drives
        if facts.publisher is not None:
            found += self.publishers.find(facts.publisher, facts.product, facts.binary)
            found += self.odd_publishers
        if facts.sha256 is not None and (entries := self.hashes.get(facts.sha256)) is not None:
            found += entries
        if self.other_hashes:
            for data in (facts.flat_sha256, facts.sha1):
                found += self.other_hashes.get(data, ()) if data else ()
        return found


_DRIVES = tuple(DRIVE_VARIABLES.values())


def compile_index(rules: Sequence[CompiledRule], machine: Machine) -> ConditionIndex[CompiledRule]:
    """The rules by their conditions."""
    return ConditionIndex([(rule, rule.rule.condition, rule.condition) for rule in rules], machine)


def _any_of(conditions: Sequence[Condition], compiled: Sequence[Compiled], machine: Machine) -> Reading | None:
    """Whether any of the exceptions matches; None without any."""
    if not compiled:
        return None
    if len(compiled) <= _FEW:
        return _one_of([exception.match for exception in compiled])
    index = ConditionIndex(list(zip(compiled, conditions, compiled, strict=True)), machine)
    return lambda facts: any(exception.match(facts) for exception in index.candidates(facts))


def _replaced(exceptions: Sequence[Compiled], replaced: Compiled, reading: Reading) -> Reading:
    return _one_of([reading if exception is replaced else exception.match for exception in exceptions])


def _one_of(readings: Sequence[Reading]) -> Reading:
    if len(readings) == 1:
        return readings[0]

    def match(facts: Facts) -> bool:
        for reading in readings:  # noqa: SIM110 - a generator would cost more than the comparisons
            if reading(facts):
                return True
        return False

    return match


def _unless(condition: Reading, excepted: Callable[[Facts], bool] | None) -> Reading:
    if excepted is None:
        return condition
    return lambda facts: condition(facts) and not excepted(facts)
