"""One rule's XML into a value: attributes, condition, exceptions, with everything that is wrong about them.

source: Microsoft's AppLocker policy schema (AppIdPolicy.xsd), and stricter: version parts, a hash's length by its type
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from app.applocker.model import (
    HASH_DIGITS,
    MAX_NAME,
    MAX_PATH,
    Action,
    AppLockerError,
    Condition,
    FileHash,
    HashCondition,
    HashRule,
    PathCondition,
    PathRule,
    Problem,
    PublisherCondition,
    PublisherRule,
    Rule,
    Version,
    format_version,
    parse_version,
)
from app.applocker.write import clipped
from app.applocker.xmltree import Node

MAX_PROBLEMS = 200
"""After so many the reader stops: a file with more is no policy."""

CONDITION_OF = {
    "FilePathRule": "FilePathCondition",
    "FilePublisherRule": "FilePublisherCondition",
    "FileHashRule": "FileHashCondition",
}
RULE_ATTRIBUTES = ("Id", "Name", "Description", "UserOrGroupSid", "Action")

_GUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_SID = re.compile(r"S-1(?:-[0-9A-Fa-f]+)+")
_HASH = re.compile(r"0x([0-9A-Fa-f]+)")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_FOREIGN = ("xmlns:", "xml:", "xsi:")


@dataclass(slots=True)
class Problems:
    """Collects what is wrong. `rule` names the rule being read."""

    found: list[Problem] = field(default_factory=list)
    rule: str | None = None

    def add(self, node: Node, message: str) -> None:
        """One more. raises: AppLockerError at MAX_PROBLEMS."""
        self.found.append(Problem(line=node.line, rule=self.rule, message=message))
        if len(self.found) >= MAX_PROBLEMS:
            message = f"{MAX_PROBLEMS} problems so far; reading stopped here"
            self.found.append(Problem(line=node.line, rule=None, message=message))
            raise AppLockerError(tuple(self.found))

    def attributes(self, node: Node, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, str]:
        """The element's attributes, after saying which are missing and which don't belong."""
        for name in required:
            if name not in node.attributes:
                self.add(node, f"<{node.name}> has no attribute {name}")
        for name in node.attributes:
            if name not in required and name not in optional and not name.startswith(_FOREIGN):
                self.add(node, f"<{node.name}> has an attribute {quoted(name)}, which doesn't belong there")
        return node.attributes

    def no_text(self, node: Node) -> None:
        """Says so if there is text between the element's tags."""
        if node.has_text():
            text = next(child for child in node.children if isinstance(child, str) and not child.isspace())
            self.add(node, f"<{node.name}> holds text ({quoted(text.strip())}), but everything belongs in attributes")

    def no_children(self, node: Node) -> None:
        """Says so for each element inside."""
        for child in node.elements():
            self.add(child, f"<{child.name}> doesn't belong in <{node.name}>")


def quoted(text: str) -> str:
    """A text for a sentence: in quotation marks, cut when long."""
    return f'"{text[:60]}…"' if len(text) > 61 else f'"{text}"'


def read_rule(node: Node, problems: Problems, lines_of_ids: dict[str, int]) -> Rule | None:
    """The rule, or None if anything was wrong with it. `lines_of_ids` remembers every id of the policy."""
    before = len(problems.found)
    attributes = problems.attributes(node, RULE_ATTRIBUTES)
    problems.no_text(node)
    _check_id(node, attributes.get("Id"), problems, lines_of_ids)
    _check_texts(node, attributes, problems)
    conditions: list[Condition] = []
    exceptions: list[Condition] = []
    seen: set[str] = set()
    for child in node.elements():
        if child.name in seen:
            problems.add(child, f"<{child.name}> stands twice in one {node.name}")
        elif child.name == "Conditions":
            conditions = _conditions(child, (CONDITION_OF[node.name],), problems)
            if len(child.elements()) != 1:
                problems.add(child, f"a {node.name} has exactly one condition, not {len(child.elements())}")
        elif child.name == "Exceptions" and node.name == "FileHashRule":
            problems.add(child, "a FileHashRule can't have exceptions")
        elif child.name == "Exceptions":
            exceptions = _conditions(child, tuple(CONDITION_OF.values()), problems)
        else:
            problems.add(child, f"<{child.name}> doesn't belong in a {node.name}")
        seen.add(child.name)
    if "Conditions" not in seen:
        problems.add(node, f"the {node.name} has no <Conditions>")
    if len(problems.found) > before:
        return None
    return _rule(node, conditions[0], tuple(exceptions))


def _rule(node: Node, condition: Condition, exceptions: tuple[Condition, ...]) -> Rule:
    texts = node.attributes
    rule_id, name, description = texts["Id"].lower(), clipped(texts["Name"]), clipped(texts["Description"])
    sid, action, place = texts["UserOrGroupSid"].upper(), Action(texts["Action"]), (node.line, node.column)
    match condition:
        case PathCondition():
            return PathRule(
                id=rule_id,
                name=name,
                description=description,
                sid=sid,
                action=action,
                place=place,
                condition=condition,
                exceptions=exceptions,
            )
        case PublisherCondition():
            return PublisherRule(
                id=rule_id,
                name=name,
                description=description,
                sid=sid,
                action=action,
                place=place,
                condition=condition,
                exceptions=exceptions,
            )
        case HashCondition():
            return HashRule(
                id=rule_id,
                name=name,
                description=description,
                sid=sid,
                action=action,
                place=place,
                condition=condition,
            )


def _check_id(node: Node, rule_id: str | None, problems: Problems, lines_of_ids: dict[str, int]) -> None:
    if rule_id is None:
        return
    if not _GUID.fullmatch(rule_id):
        problems.add(node, f"Id must be a GUID without braces, not {quoted(rule_id)}")
    elif (key := rule_id.lower()) in lines_of_ids:
        problems.add(node, f"the Id is used twice in this policy, first in line {lines_of_ids[key]}")
    else:
        lines_of_ids[key] = node.line


def _check_texts(node: Node, attributes: dict[str, str], problems: Problems) -> None:
    if "Name" in attributes and not 1 <= len(attributes["Name"]) <= MAX_NAME:
        problems.add(node, f"Name must have 1 to {MAX_NAME} characters, it has {len(attributes['Name'])}")
    if len(attributes.get("Description", "")) > MAX_NAME:
        problems.add(node, f"Description may have {MAX_NAME} characters, it has {len(attributes['Description'])}")
    sid = attributes.get("UserOrGroupSid")
    if sid is not None and (len(sid) < 7 or not _SID.fullmatch(sid)):
        hint = "" if sid.startswith("S-1-") else "; account names and SDDL abbreviations can't stand here"
        problems.add(node, f"UserOrGroupSid must be a SID such as S-1-1-0, not {quoted(sid)}{hint}")
    action = attributes.get("Action")
    if action is not None and action not in ("Allow", "Deny"):
        problems.add(node, f"Action must be Allow or Deny, not {quoted(action)}")


def _conditions(node: Node, allowed: tuple[str, ...], problems: Problems) -> list[Condition]:
    problems.attributes(node, ())
    problems.no_text(node)
    found: list[Condition] = []
    for child in node.elements():
        if child.name not in allowed:
            problems.add(child, f"<{child.name}> can't stand here; expected: {' or '.join(allowed)}")
            continue
        problems.no_text(child)
        if child.name == "FilePathCondition":
            condition: Condition | None = _path(child, problems)
        elif child.name == "FilePublisherCondition":
            condition = _publisher(child, problems)
        else:
            condition = _hashes(child, problems)
        if condition is not None:
            found.append(condition)
    return found


def _path(node: Node, problems: Problems) -> PathCondition | None:
    path = problems.attributes(node, ("Path",)).get("Path")
    problems.no_children(node)
    if path is None:
        return None
    if not 1 <= len(path) <= MAX_PATH:
        problems.add(node, f"Path must have 1 to {MAX_PATH} characters, it has {len(path)}")
    return PathCondition(path=path)


def _publisher(node: Node, problems: Problems) -> PublisherCondition | None:
    names = problems.attributes(node, ("PublisherName", "ProductName", "BinaryName"))
    if names.get("PublisherName") == "":
        problems.add(node, "PublisherName must not be empty; any signer is *")
    ranges = [child for child in node.elements() if child.name == "BinaryVersionRange"]
    for child in node.elements():
        if child.name != "BinaryVersionRange":
            problems.add(child, f"<{child.name}> doesn't belong in <{node.name}>")
    if len(ranges) != 1:
        problems.add(node, f"a FilePublisherCondition has exactly one BinaryVersionRange, not {len(ranges)}")
        return None
    sections = problems.attributes(ranges[0], ("LowSection", "HighSection"))
    problems.no_text(ranges[0])
    problems.no_children(ranges[0])
    low = _version(ranges[0], "LowSection", sections.get("LowSection"), problems)
    high = _version(ranges[0], "HighSection", sections.get("HighSection"), problems)
    if low and high and low > high:
        message = f"LowSection {format_version(low)} is above HighSection {format_version(high)}: nothing can match"
        problems.add(ranges[0], message)
    if not names.keys() >= {"PublisherName", "ProductName", "BinaryName"}:
        return None
    return PublisherCondition(
        publisher=names["PublisherName"],
        product=names["ProductName"],
        binary=names["BinaryName"],
        low=low,
        high=high,
    )


def _version(node: Node, name: str, text: str | None, problems: Problems) -> Version | None:
    if text is None or text == "*":
        return None
    try:
        return parse_version(text)
    except ValueError as error:
        problems.add(node, f"{name}: {error}, or * for any")
        return None


def _hashes(node: Node, problems: Problems) -> HashCondition | None:
    problems.attributes(node, ())
    files = [_hash(child, problems) for child in node.elements()]
    if not files:
        problems.add(node, "a FileHashCondition needs at least one FileHash")
    whole = tuple(file for file in files if file is not None)
    return HashCondition(hashes=whole) if whole else None


def _hash(node: Node, problems: Problems) -> FileHash | None:
    if node.name != "FileHash":
        problems.add(node, f"<{node.name}> doesn't belong in a FileHashCondition")
        return None
    texts = problems.attributes(node, ("Type", "Data"), ("SourceFileName", "SourceFileLength"))
    problems.no_text(node)
    problems.no_children(node)
    type, data, length = texts.get("Type"), texts.get("Data"), texts.get("SourceFileLength")
    if type is not None and type not in HASH_DIGITS:
        problems.add(node, f"a hash's Type must be {', '.join(HASH_DIGITS)}, not {quoted(type)}")
    digits = _HASH.fullmatch(data) if data is not None else None
    if data is not None and digits is None:
        problems.add(node, f"a hash's Data must be 0x and hexadecimal digits, not {quoted(data)}")
    elif digits and type in HASH_DIGITS and len(digits[1]) != HASH_DIGITS[type]:
        problems.add(node, f"a {type} hash has {HASH_DIGITS[type]} hexadecimal digits, this one has {len(digits[1])}")
    if length is not None and not _LENGTH.fullmatch(length):
        problems.add(node, f"SourceFileLength must be a number of bytes, not {quoted(length)}")
    if type not in HASH_DIGITS or not digits or (length is not None and not _LENGTH.fullmatch(length)):
        return None
    return FileHash(
        type=type,
        data=digits[1].upper(),
        source_name=texts.get("SourceFileName"),
        source_length=None if length is None else int(length),
    )
