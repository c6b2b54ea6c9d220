"""What an AppLocker policy is: collections of rules, each rule one condition, exceptions, a SID and an action.

Every value is frozen. `in_order` gives the one order in which equal policies are equal tuples: the order of rules means
nothing to AppLocker, so the reader sorts and the writer sorts.

source: Microsoft's AppLocker policy schema (AppIdPolicy.xsd) and "Understanding AppLocker rules"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, TypeVar

COLLECTION_TYPES = ("Appx", "Dll", "Exe", "ManagedInstaller", "Msi", "Script")
"""Every collection type there is, in the order in which they are written. Case matters to Windows."""

EVERYONE = "S-1-1-0"
ADMINISTRATORS = "S-1-5-32-544"

MAX_NAME = 1024
MAX_PATH = 32767
MAX_VERSION_PART = 65535

Version = tuple[int, int, int, int]

HASH_DIGITS = {"SHA256": 64, "SHA256Flat": 64, "SHA1": 40}
"""Hash types of the schema, and how many hexadecimal digits each has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a policy: where (1-based line, rule id or name, None if unknown) and what."""

    line: int | None
    rule: str | None
    message: str

    def __str__(self) -> str:
        place = [] if self.line is None else [f"line {self.line}"]
        if self.rule:
            place.append(f"rule {self.rule}")
        return f"{', '.join(place)}: {self.message}" if place else self.message


class AppLockerError(ValueError):
    """A policy that can't be read or written. `problems` holds all that was found, not only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(str(problem) for problem in problems[:3]) + (" …" if len(problems) > 3 else ""))


class Mode(StrEnum):
    """A collection's EnforcementMode. NotConfigured does not mean off: a collection with rules is enforced."""

    NOT_CONFIGURED = "NotConfigured"
    AUDIT_ONLY = "AuditOnly"
    ENABLED = "Enabled"


class Action(StrEnum):
    """What a rule does with the files it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCondition:
    """A path with AppLocker's variables and wildcards: `%OSDRIVE%\\Tools\\*`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherCondition:
    """Signer, product name, original file name and an inclusive range of file versions; `*` is any, None is open."""

    publisher: str
    product: str = "*"
    binary: str = "*"
    low: Version | None = None
    high: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHash:
    """One file's hash: `data` is upper-case hexadecimal without `0x`; name and length are for the reader's eye."""

    data: str
    type: str = "SHA256"
    source_name: str | None = None
    source_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HashCondition:
    """The hashes of one or more files; any of them matches."""

    hashes: tuple[FileHash, ...]


Condition = PathCondition | PublisherCondition | HashCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What all rules have. `place` (line, column) tells where the rule was read and is no part of its value."""

    id: str
    name: str
    description: str = ""
    sid: str = EVERYONE
    action: Action = Action.ALLOW
    place: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    @property
    def line(self) -> int | None:
        return self.place[0] if self.place else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule(_Rule):
    """A rule about where a file lies."""

    element: ClassVar[str] = "FilePathRule"
    kind: ClassVar[str] = "path"
    condition: PathCondition
    exceptions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherRule(_Rule):
    """A rule about who signed a file, and what it says it is."""

    element: ClassVar[str] = "FilePublisherRule"
    kind: ClassVar[str] = "publisher"
    condition: PublisherCondition
    exceptions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HashRule(_Rule):
    """A rule about a file's content. AppLocker allows it no exceptions."""

    element: ClassVar[str] = "FileHashRule"
    kind: ClassVar[str] = "hash"
    condition: HashCondition
    exceptions: ClassVar[tuple[Condition, ...]] = ()


Rule = PathRule | PublisherRule | HashRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """A piece of XML that is carried through unchanged. Children are elements and text; prefixes stay as written."""

    name: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[Element | str, ...] = ()

    def find(self, *names: str) -> Element | None:
        """The first descendant along a path of child names."""
        found: Element | None = self
        for name in names:
            if found is None:
                return None
            found = next((child for child in found.children if isinstance(child, Element) and child.name == name), None)
        return found

    def get(self, name: str) -> str | None:
        """An attribute's value."""
        return next((value for key, value in self.attributes if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The rules for one kind of file. `mode` None: the attribute is absent, which means NotConfigured."""

    type: str
    mode: Mode | None = None
    rules: tuple[Rule, ...] = ()
    extensions: Element | None = None

    @property
    def is_audited(self) -> bool:
        """True if denials are only logged. Everything else, NotConfigured too, is enforced once there are rules."""
        return self.mode is Mode.AUDIT_ONLY

    @property
    def services(self) -> str:
        """Whether services are in scope: `NotConfigured` (no), `Enabled` (too) or `ServicesOnly`."""
        found = self.extensions.find("ThresholdExtensions", "Services") if self.extensions else None
        return (found.get("EnforcementMode") if found else None) or "NotConfigured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy. `comments` are those of the XML, kept for people."""

    collections: tuple[Collection, ...] = ()
    version: str = "1"
    extensions: Element | None = None
    comments: tuple[str, ...] = ()

    def collection(self, type: str) -> Collection | None:
        """The collection of that type, or None."""
        return next((collection for collection in self.collections if collection.type == type), None)

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Every rule with its collection's type."""
        for collection in self.collections:
            for rule in collection.rules:
                yield collection.type, rule

    def rule(self, rule_id: str) -> tuple[str, Rule] | None:
        """The rule of that id with its collection's type, or None."""
        return next(((type, rule) for type, rule in self.rules() if rule.id == rule_id.lower()), None)


_VERSION = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){3}", re.ASCII)


def parse_version(text: str) -> Version:
    """Four numbers of 16 bits.

    raises: ValueError with a sentence for people.

    >>> parse_version("3.12.0.0")
    (3, 12, 0, 0)
    """
    if not _VERSION.fullmatch(text):
        raise ValueError(f"a version is four numbers with dots between, such as 1.2.3.4, not {text!r}")
    first, second, third, fourth = (int(part) for part in text.split("."))
    version = (first, second, third, fourth)
    if max(version) > MAX_VERSION_PART:
        raise ValueError(f"no part of a version is above {MAX_VERSION_PART}: {text}")
    return version


def format_version(version: Version | None) -> str:
    """`1.2.3.4`, or `*` for None."""
    return "*" if version is None else ".".join(str(part) for part in version)


def condition_order(condition: Condition) -> tuple[str, ...]:
    """The key by which conditions are sorted; equal only for equal conditions."""
    match condition:
        case PathCondition():
            return "path", condition.path.upper(), condition.path
        case PublisherCondition():
            names = (condition.publisher, condition.product, condition.binary)
            return "publisher", *names, format_version(condition.low), format_version(condition.high)
        case HashCondition():
            return "hash", *(part for file in condition.hashes for part in _hash_order(file))


def rule_order(rule: Rule) -> tuple[str, str, str]:
    """The key by which rules are sorted: kind, name, id."""
    return rule.kind, rule.name, rule.id


def rule_in_order(rule: Rule) -> Rule:
    """The same rule with exceptions and hashes sorted: their order means nothing."""
    if isinstance(rule, HashRule):
        return replace(rule, condition=_condition_in_order(rule.condition))
    exceptions = (_condition_in_order(condition) for condition in rule.exceptions)
    return replace(rule, exceptions=tuple(sorted(exceptions, key=condition_order)))


def collection_in_order(collection: Collection) -> Collection:
    """The same collection with rules by kind, name and id."""
    return replace(collection, rules=tuple(sorted(map(rule_in_order, collection.rules), key=rule_order)))


def in_order(policy: Policy) -> Policy:
    """The same policy in the one order that equal policies share."""
    collections = sorted(policy.collections, key=lambda collection: collection.type)
    return replace(policy, collections=tuple(map(collection_in_order, collections)))


def _hash_order(file: FileHash) -> tuple[str, str, str, str]:
    return file.type, file.data, file.source_name or "", "" if file.source_length is None else str(file.source_length)


C = TypeVar("C", bound=Condition)


def _condition_in_order(condition: C) -> C:
    if isinstance(condition, HashCondition):
        return replace(condition, hashes=tuple(sorted(condition.hashes, key=_hash_order)))
    return condition


# What is judged, and what comes of it


class Drive(StrEnum):
    """What a file's drive is to AppLocker: %REMOVABLE% are discs, %HOT% are USB sticks and the like."""

    FIXED = "fixed"
    HOT = "hot"
    REMOVABLE = "removable"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to judge, as far as it is known.

    `path` is as it was opened; `resolves_to` the real path behind a short name, mapped drive, junction or link.
    `publisher` None: unsigned, or not trusted. Hashes are hexadecimal, with or without `0x`, in any case; a hash that
    nobody computed is None and matches no rule. `size_bytes` 0: an empty file, which has no hash.
    """

    path: str
    resolves_to: str | None = None
    drive: Drive = Drive.FIXED
    publisher: str | None = None
    product: str | None = None
    binary: str | None = None
    version: Version | None = None
    authenticode_sha256: str | None = None
    flat_sha256: str | None = None
    sha1: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Who runs it: the SIDs enabled in the token, those that count for Deny only, and the linked full token's (UAC)."""

    sids: frozenset[str]
    deny_only: frozenset[str] = frozenset()
    linked: frozenset[str] = frozenset()

    @property
    def is_service(self) -> bool:
        """True for SYSTEM, the two service accounts, and whatever was logged on as a service."""
        return not self.sids.isdisjoint(SERVICE_SIDS)


SERVICE_SIDS = frozenset({"S-1-5-18", "S-1-5-19", "S-1-5-20", "S-1-5-6"})

STANDARD_USER = Token(sids=frozenset({"S-1-1-0", "S-1-5-11", "S-1-5-32-545"}))
"""Everyone, Authenticated Users, Users: what every interactive user's token has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where AppLocker's variables point. `devices` maps native volume paths to drives, where known."""

    os_drive: str = "C:"
    windows: str = "C:\\Windows"
    system32: tuple[str, ...] = ("C:\\Windows\\System32", "C:\\Windows\\SysWOW64")
    program_files: tuple[str, ...] = ("C:\\Program Files", "C:\\Program Files (x86)")
    devices: tuple[tuple[str, str], ...] = ()


class Verdict(StrEnum):
    """What the rules say, in the words of Test-AppLockerPolicy."""

    ALLOWED = "Allowed"
    DENIED = "Denied"
    ALLOWED_BY_DEFAULT = "AllowedByDefault"
    DENIED_BY_DEFAULT = "DeniedByDefault"


class Effect(StrEnum):
    """What happens to the file under the collection's mode."""

    RUNS = "runs"
    WOULD_BE_BLOCKED = "would be blocked"
    BLOCKED = "blocked"


class Confidence(StrEnum):
    """How sure the judgement is: documented, inferred from several sources, or not settled by any."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A question that the documentation leaves open and on which this decision hangs; `origin` says who says what."""

    code: str
    confidence: Confidence
    question: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What comes of one file for one token. `rules` are all that decided it, in the order of the document.

    `event_id` is what Windows logs, or None. `doubts` are the open questions whose other answer would change the
    verdict or the effect.
    """

    verdict: Verdict
    rules: tuple[Rule, ...]
    collection: str | None
    mode: Mode | None
    effect: Effect
    event_id: int | None
    reason: str
    doubts: tuple[Doubt, ...] = ()

    @property
    def confidence(self) -> Confidence:
        """The lowest of the doubts'; high without any."""
        found = {doubt.confidence for doubt in self.doubts}
        return next((level for level in (Confidence.LOW, Confidence.MEDIUM) if level in found), Confidence.HIGH)

    @property
    def rule_id(self) -> str | None:
        """The id of the (first) rule that decided; None when the default did."""
        return self.rules[0].id if self.rules else None
