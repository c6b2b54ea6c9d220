"""One condition against one file: how it is read, and which other readings the documentation leaves open.

A `Reading` is a function over a file's facts. Every condition has a first reading, the best supported one, and as many
others as there are doubts about it. Facts are a file's values made comparable once.

source: Microsoft, Understanding the path/publisher/file hash rule condition in AppLocker
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.applocker import doubts
from app.applocker.model import (
    MAX_VERSION_PART,
    Condition,
    Doubt,
    HashCondition,
    Machine,
    PathCondition,
    PublisherCondition,
    Version,
)
from app.applocker.paths import (
    UNKNOWN_VOLUME,
    has_short_name,
    literal_matcher,
    loose_matcher,
    matcher,
    native_forms,
    needs_all_forms,
    upcase,
    variable_forms,
    written_out,
)

LOWEST: Version = (0, 0, 0, 0)
HIGHEST: Version = (MAX_VERSION_PART,) * 4

_PROGRAM = re.compile(r"\.(?:EXE|COM|DLL|OCX|PYD|SCR|CPL|DRV|PS1|PSM1|BAT|CMD|VBS|JS|MSI|MSP|MST|APPX|MSIX)$")
_WILDCARD = re.compile(r'[*?<>"]')
_MANY_WILDCARDS = 24
"""With more, a second reading could cost more than it tells: no real rule has them."""
_VOLUME = re.compile(r"\\DEVICE\\[^\\*?]+")


@dataclass(slots=True)
class Facts:
    """A file's values as conditions compare them: upper case, hashes without `0x`, None for what can't match."""

    path: str
    drive_path: str | None
    publisher: str | None
    product: str | None
    binary: str | None
    version: Version
    sha256: str | None
    flat_sha256: str | None
    sha1: str | None
    machine: Machine
    is_odd: bool = False
    """True if an open question about the file itself may bear on the decision."""

    def other_forms(self) -> tuple[str, ...]:
        """The path's further forms, for rules that begin with a wildcard."""
        drive = (self.drive_path,) if self.drive_path else ()
        return (*variable_forms(self.path, self.machine), *native_forms(self.path, self.machine), *drive)


Reading = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition ready to be compared: its first reading, the others, and the patterns under which to look it up."""

    match: Reading
    others: tuple[tuple[Doubt, Reading], ...] = ()
    patterns: tuple[str, ...] = ()
    needs_all_forms: bool = False


def compile_condition(condition: Condition, machine: Machine) -> Compiled:
    """The condition's readings on that machine."""
    match condition:
        case PathCondition():
            return _path(condition.path, machine)
        case PublisherCondition():
            return _publisher(condition)
        case HashCondition():
            return _hash(condition)


# Paths


def _path(path: str, machine: Machine) -> Compiled:
    pattern = upcase(path)
    patterns = written_out(pattern, machine)
    all_forms = any(needs_all_forms(written, machine) for written in patterns)
    if has_short_name(pattern):
        return Compiled(
            match=_never,
            others=((doubts.SHORT_NAME_RULE, _any_path(patterns, machine)),),
            patterns=patterns,
            needs_all_forms=all_forms,
        )
    others: list[tuple[Doubt, Reading]] = []
    more: list[str] = []
    for doubt, other in _other_texts(pattern, machine):
        written = written_out(other, machine)
        more += written
        others.append((doubt, _any_path(written, machine)))
    if "?" in pattern:
        others.append((doubts.QUESTION_MARK, _any_path(patterns, machine, literal_matcher)))
        if len(_WILDCARD.findall(pattern)) <= _MANY_WILDCARDS:
            others.append((doubts.QUESTION_MARK, _any_path(patterns, machine, loose_matcher)))
    if re.search(r'[<>"]', pattern):
        others.append((doubts.DOS_WILDCARD, _never))
    if all_forms:
        others.append((doubts.VARIABLE_FORM, _any_path(patterns, machine, forms=False)))
        others.append((doubts.NATIVE_PATH, _any_path(patterns, machine, unknown_volume=True)))
    return Compiled(
        match=_any_path(patterns, machine),
        others=tuple(others),
        patterns=(*patterns, *more, *([] if "?" not in pattern else _without_question_marks(patterns))),
        needs_all_forms=all_forms,
    )


def _other_texts(pattern: str, machine: Machine) -> list[tuple[Doubt, str]]:
    """What the author may have meant, where the text as it stands is thought to match nothing."""
    found: list[tuple[Doubt, str]] = []
    meant = pattern
    for prefix, replacement in (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", ""), ("\\??\\", "")):
        if meant.startswith(prefix):
            meant = replacement + meant[len(prefix) :]
            found.append((doubts.LONG_PREFIX, ""))
            break
    if "/" in meant:
        meant = meant.replace("/", "\\")
        found.append((doubts.FORWARD_SLASH, ""))
    if re.search(r"\\\.\.?(?:\\|$)", meant):
        meant = _without_dots(meant, machine)
        found.append((doubts.DOT_DOT, ""))
    if meant.endswith("\\"):
        meant += "*"
        found.append((doubts.TRAILING_BACKSLASH, ""))
    found = [(doubt, meant) for doubt, _ in found]
    if not found and not meant.endswith("*") and not _PROGRAM.search(meant):
        found.append((doubts.FOLDER_WITHOUT_STAR, meant + "\\*"))
    if (volume := _VOLUME.match(pattern)) and written_out(pattern, machine) == (pattern,):
        found.append((doubts.NATIVE_PATH, "?:" + pattern[volume.end() :]))
    return found


def _without_dots(pattern: str, machine: Machine) -> str:
    parts: list[str] = []
    for part in written_out(pattern, machine)[0].split("\\"):
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part not in (".", ".."):
            parts.append(part)
    return "\\".join(parts)


def _without_question_marks(patterns: tuple[str, ...]) -> list[str]:
    """Patterns under which a path is looked up when ? may also stand for nothing."""
    return [pattern.replace("?", "*") for pattern in patterns]


def _any_path(
    patterns: tuple[str, ...],
    machine: Machine,
    make: Callable[[str], Callable[[str], bool]] = matcher,
    *,
    forms: bool = True,
    unknown_volume: bool = False,
) -> Reading:
    """A reading that is true if any pattern matches any form of the path."""
    of_drives = tuple(make(pattern) for pattern in patterns if pattern.startswith(("%HOT%", "%REMOVABLE%")))
    of_paths = tuple(make(pattern) for pattern in patterns)
    of_forms = tuple(make(pattern) for pattern in patterns if needs_all_forms(pattern, machine)) if forms else ()
    if not of_forms and not of_drives and len(of_paths) == 1:
        single = of_paths[0]
        return lambda facts: single(facts.path)

    def match(facts: Facts) -> bool:
        path = facts.path
        if any(matches(path) for matches in of_paths):
            return True
        drive_path = facts.drive_path
        if drive_path is not None and any(matches(drive_path) for matches in of_drives):
            return True
        if not of_forms:
            return False
        other_forms = facts.other_forms()
        if unknown_volume and path[1:2] == ":" and not native_forms(path, facts.machine):
            other_forms = (*other_forms, UNKNOWN_VOLUME + path[2:])
        return any(matches(form) for form in other_forms for matches in of_forms)

    return match


def _never(_: Facts) -> bool:
    return False


# Publishers


def _publisher(condition: PublisherCondition) -> Compiled:
    publisher, product, binary = upcase(condition.publisher), upcase(condition.product), upcase(condition.binary)
    low, high = condition.low or LOWEST, condition.high or HIGHEST
    others: list[tuple[Doubt, Reading]] = []
    contains = _core(binary) if _is_partial(binary) else None

    def match(facts: Facts) -> bool:
        found = facts.binary
        return (
            facts.publisher is not None
            and (publisher == "*" or publisher == facts.publisher)
            and (product == facts.product if product != "*" else facts.product is not None)
            and (
                (found is not None and contains in found)
                if contains is not None
                else (binary == found if binary not in ("*", "?") else found is not None)
            )
            and low <= facts.version <= high
        )

    def wild(*, fields: bool, name: bool, core: bool = True) -> Reading:
        """The reading in which wildcards are wildcards, in publisher and product, or in the file name."""
        of_publisher = matcher(publisher) if fields else None
        of_product = matcher(product) if fields else None
        of_binary = matcher(binary) if name else None

        def match(facts: Facts) -> bool:
            found = facts.binary
            if facts.publisher is None or facts.product is None or found is None:
                return False
            if of_publisher is None or of_product is None:
                names = publisher in ("*", facts.publisher) and product in ("*", facts.product)
            else:
                names = of_publisher(facts.publisher) and of_product(facts.product)
            if of_binary is not None:
                names = names and of_binary(found)
            elif contains is not None and core:
                names = names and contains in found
            else:
                names = names and binary in ("*", "?", found)
            return names and low <= facts.version <= high

        return match

    if _is_partial(publisher) or _is_partial(product) or "?" in (publisher, product):
        others.append((doubts.PUBLISHER_WILDCARD, wild(fields=True, name=False)))
    if contains is not None:
        others.append((doubts.FILE_NAME_WILDCARD, wild(fields=False, name=True)))
        others.append((doubts.FILE_NAME_WILDCARD, wild(fields=False, name=False, core=False)))
    if binary == "?":
        others.append((doubts.FILE_NAME_QUESTION_MARK, wild(fields=False, name=True)))
    return Compiled(match=match, others=tuple(others))


def _is_partial(text: str) -> bool:
    """True if a wildcard stands together with other text."""
    return len(text) > 1 and ("*" in text or "?" in text)


def _core(text: str) -> str:
    return text.replace("*", "").replace("?", "")


# Hashes


def _hash(condition: HashCondition) -> Compiled:
    by_type: dict[str, frozenset[str]] = {
        type: frozenset(file.data.upper() for file in condition.hashes if file.type == type)
        for type in {file.type for file in condition.hashes}
    }
    sha256 = by_type.get("SHA256", frozenset())
    flat = by_type.get("SHA256Flat", frozenset())
    sha1 = by_type.get("SHA1", frozenset())
    if not flat and not sha1:
        return Compiled(match=lambda facts: facts.sha256 in sha256)

    def match(facts: Facts) -> bool:
        return facts.sha256 in sha256 or facts.flat_sha256 in flat or facts.sha1 in sha1

    others: list[tuple[Doubt, Reading]] = []
    if flat:
        others.append((doubts.FLAT_HASH, lambda facts: facts.sha256 in sha256 or facts.sha1 in sha1))
    if sha1:
        others.append((doubts.SHA1_HASH, lambda facts: facts.sha256 in sha256 or facts.flat_sha256 in flat))
    return Compiled(match=match, others=tuple(others))
