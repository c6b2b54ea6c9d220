"""AppLocker XML into a policy, or into all that is wrong with it, each with line, rule and a plain sentence.

Reads a whole `AppLockerPolicy` or a bare `RuleCollection` (the value of an OMA-URI). Stricter than Microsoft's schema
where that is weak: names of collections, parts of versions, a hash's length by its type, ids over all collections.
Extensions are kept as they are, known or not. What was read is in order (`model.in_order`), so that reading, writing
and reading again gives the same value.

source: Microsoft's AppLocker policy schema (AppIdPolicy.xsd); AppLocker CSP
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.applocker.model import (
    COLLECTION_TYPES,
    AppLockerError,
    Collection,
    Element,
    Mode,
    Policy,
    Rule,
    in_order,
)
from app.applocker.read_rules import CONDITION_OF, Problems, quoted, read_rule
from app.applocker.xmltree import Node, walk

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", re.ASCII)
_PREFIX = re.compile(r"([^:]+):")
_CSP_NAMES = {"EXE": "Exe", "DLL": "Dll", "SCRIPT": "Script", "MSI": "Msi", "STOREAPPS": "Appx"}
_SERVICES = ("NotConfigured", "Enabled", "ServicesOnly")
_SYSTEM_APPS = ("Enabled", "NotEnabled")


def parse_policy(data: bytes | str) -> Policy:
    """The policy of an XML text, UTF-8 or UTF-16 with or without byte order mark.

    raises: AppLockerError with every problem found (the first 200), and no other exception.

    >>> parse_policy('<RuleCollection Type="Exe" />').collections[0].type
    'Exe'
    >>> parse_policy('<RuleCollection Type="EXE" />')
    Traceback (most recent call last):
    app.applocker.model.AppLockerError: line 1: the collection type "EXE" must be written "Exe"
    """
    reader = _Reader()
    root, comments = walk(data, "RuleCollection", reader.take_rule)
    policy = reader.policy(root, tuple(text.strip() for text in comments if text.strip()))
    if reader.problems.found:
        raise AppLockerError(tuple(sorted(reader.problems.found, key=lambda problem: problem.line or 0)))
    return policy


@dataclass(slots=True)
class _Reader:
    """What has been read so far. Rules are kept by the identity of their collection's node."""

    problems: Problems = field(default_factory=Problems)
    rules: dict[int, list[Rule]] = field(default_factory=dict)
    lines_of_ids: dict[str, int] = field(default_factory=dict)

    def take_rule(self, ancestors: list[Node], node: Node) -> bool:
        """Turns a finished rule into a value, so that its nodes can be forgotten."""
        if node.name not in CONDITION_OF or len(ancestors) > 2:
            return False
        collection = ancestors[-1]
        self.problems.rule = node.attributes.get("Id") or quoted(node.attributes.get("Name", "without a name"))
        if any(child.name == "RuleCollectionExtensions" for child in collection.elements()):
            self.problems.add(node, "the rule stands after RuleCollectionExtensions, which must come last")
        rule = read_rule(node, self.problems, self.lines_of_ids)
        self.problems.rule = None
        if rule:
            self.rules.setdefault(id(collection), []).append(rule)
        return True

    def policy(self, root: Node, comments: tuple[str, ...]) -> Policy:
        """The policy of what is left in the tree once the rules were taken."""
        if root.name == "RuleCollection" and "xmlns" not in root.attributes:
            collection = self.collection(root, {})
            return in_order(Policy(collections=(collection,) if collection else (), comments=comments))
        if root.name != "AppLockerPolicy" or "xmlns" in root.attributes:
            self.problems.add(root, _not_a_policy(root))
            return Policy()
        version = self.problems.attributes(root, ("Version",)).get("Version", "1").strip()
        if not _DECIMAL.fullmatch(version):
            self.problems.add(root, f'the policy\'s Version must be a number such as "1", not {quoted(version)}')
        self.problems.no_text(root)
        collections: dict[str, Collection] = {}
        extensions: Element | None = None
        for child in root.elements():
            if extensions is not None:
                self.problems.add(
                    child, f"<{child.name}> stands after PolicyExtensions, which must come last, and once"
                )
            elif child.name == "RuleCollection":
                collection = self.collection(child, root.attributes)
                if collection and collection.type in collections:
                    self.problems.add(child, f"there are two collections of the type {collection.type}")
                elif collection:
                    collections[collection.type] = collection
            elif child.name == "PolicyExtensions":
                extensions = self.extensions(child, ("ThresholdExtensions",), root.attributes)
            else:
                self.problems.add(child, f"<{child.name}> doesn't belong in an AppLockerPolicy")
        return in_order(
            Policy(
                collections=tuple(collections.values()),
                version=version,
                extensions=extensions,
                comments=comments,
            )
        )

    def collection(self, node: Node, scope: Mapping[str, str]) -> Collection | None:
        """A collection, its rules already read; None if nobody can say which it is."""
        attributes = self.problems.attributes(node, ("Type",), ("EnforcementMode",))
        self.problems.no_text(node)
        type = attributes.get("Type")
        if type is not None and type not in COLLECTION_TYPES:
            self.problems.add(node, _wrong_type(type))
            type = None
        mode = self.mode(node, attributes.get("EnforcementMode"))
        extensions: Element | None = None
        for child in node.elements():
            if child.name != "RuleCollectionExtensions":
                self.problems.add(child, f"<{child.name}> doesn't belong in a RuleCollection")
            elif extensions is not None:
                self.problems.add(child, "there are two RuleCollectionExtensions in one collection")
            else:
                required = ("ThresholdExtensions", "RedstoneExtensions")
                extensions = self.extensions(child, required, {**scope, **node.attributes})
                self.check_value(child, ("ThresholdExtensions", "Services"), "EnforcementMode", _SERVICES)
                self.check_value(child, ("RedstoneExtensions", "SystemApps"), "Allow", _SYSTEM_APPS)
        if type is None:
            return None
        return Collection(type=type, mode=mode, rules=tuple(self.rules.get(id(node), ())), extensions=extensions)

    def mode(self, node: Node, text: str | None) -> Mode | None:
        """EnforcementMode; None if it is absent or wrong."""
        if text is None:
            return None
        try:
            return Mode(text)
        except ValueError:
            hint = ' ("Audit" is written "AuditOnly")' if text.lower() == "audit" else ""
            message = f"EnforcementMode must be NotConfigured, AuditOnly or Enabled, not {quoted(text)}{hint}"
            self.problems.add(node, message)
            return None

    def extensions(self, node: Node, required: tuple[str, ...], scope: Mapping[str, str]) -> Element:
        """An extension as it is. Only its first children are prescribed."""
        names = tuple(child.name for child in node.elements())
        if names[: len(required)] != required:
            self.problems.add(node, f"<{node.name}> must begin with {' and '.join(f'<{name}>' for name in required)}")
        return _as_element(node, scope)

    def check_value(self, node: Node, path: tuple[str, ...], name: str, allowed: tuple[str, ...]) -> None:
        """Says so if the element at that path of child names has another value."""
        found = [node]
        for step in path:
            found = [child for parent in found for child in parent.elements() if child.name == step]
        for child in found:
            if child.attributes.get(name) not in allowed:
                self.problems.add(child, f"<{child.name}> needs the attribute {name}, one of: {', '.join(allowed)}")


def _not_a_policy(root: Node) -> str:
    namespace = next((value for name, value in root.attributes.items() if name == "xmlns"), "")
    if "GroupPolicy/Settings" in namespace or root.name == "GPO":
        return "this is a report of the Group Policy console, not a policy; export the policy, or give the GPO's backup"
    if root.name == "SiPolicy":
        return "this is an App Control (WDAC) policy, not an AppLocker policy"
    found = f"<{root.name}>" + (f" of the namespace {quoted(namespace)}" if namespace else "")
    return f"an AppLocker policy begins with <AppLockerPolicy> or <RuleCollection>, not with {found}"


def _wrong_type(type: str) -> str:
    right = _CSP_NAMES.get(type.upper()) or next(
        (name for name in COLLECTION_TYPES if name.upper() == type.upper()), None
    )
    if right:
        return f'the collection type {quoted(type)} must be written "{right}"'
    return f"there is no collection type {quoted(type)}; there are {', '.join(COLLECTION_TYPES)}"


def _as_element(node: Node, scope: Mapping[str, str]) -> Element:
    """The node as a value, with the declarations of those prefixes that it takes from further up."""
    names = {name for part in _descendants(node) for name in (part.name, *part.attributes)}
    used = {f"xmlns:{found[1]}" for name in names if (found := _PREFIX.match(name))}
    missing = [(name, scope[name]) for name in sorted(used) if name in scope and name not in node.attributes]
    element = _plain_element(node)
    return Element(name=element.name, attributes=(*element.attributes, *missing), children=element.children)


def _plain_element(node: Node) -> Element:
    # White space between elements is layout; in an element without children it is content.
    layout = bool(node.elements()) and not node.has_text()
    children = [
        child if isinstance(child, str) else _plain_element(child)
        for child in node.children
        if not (layout and isinstance(child, str))
    ]
    return Element(name=node.name, attributes=tuple(node.attributes.items()), children=tuple(children))


def _descendants(node: Node) -> list[Node]:
    found = [node]
    for child in node.elements():
        found += _descendants(child)
    return found
