"""A policy as XML text: the same policy always gives the same bytes, sorted, and accepted wherever AppLocker XML is.

All five attributes of a rule are always written, names are clipped to what Windows takes, control characters are
dropped from names, and a value that XML can't hold is an error, never a silent change.

source: Microsoft's AppLocker policy schema (AppIdPolicy.xsd); AppLocker CSP for the form of an OMA-URI value
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.applocker.model import (
    MAX_NAME,
    AppLockerError,
    Collection,
    Condition,
    Element,
    HashCondition,
    PathCondition,
    Policy,
    Problem,
    PublisherCondition,
    Rule,
    collection_in_order,
    format_version,
    in_order,
    rule_in_order,
)

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'

# Characters that XML 1.0 has no way to write, not even escaped.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_ESCAPED = re.compile('[&<>"\t\n\r]')


def render_policy(policy: Policy) -> str:
    """The whole policy with an XML declaration, for a UTF-8 file without byte order mark.

    raises: AppLockerError for values that XML can't hold.

    >>> print(render_policy(Policy()), end="")
    <?xml version="1.0" encoding="utf-8"?>
    <AppLockerPolicy Version="1" />
    """
    policy = in_order(policy)
    parts = [DECLARATION]
    parts += [f"<!-- {_comment(comment)} -->\n" for comment in policy.comments]
    children = [line for collection in policy.collections for line in _collection(collection, "  ")]
    if policy.extensions:
        children += _element(policy.extensions, "  ")
    parts += _tag("AppLockerPolicy", [("Version", policy.version)], children, "")
    return "".join(parts)


def render_collection(collection: Collection) -> str:
    """One `RuleCollection` without XML declaration: the value of an OMA-URI (Intune, AppLocker CSP).

    raises: AppLockerError for values that XML can't hold.
    """
    return "".join(_collection(collection_in_order(collection), ""))


def render_rule(rule: Rule) -> str:
    """One rule on one line, as the registry holds it.

    raises: AppLockerError for values that XML can't hold.
    """
    return "".join(line.strip() for line in _rule(rule_in_order(rule), ""))


def clipped(text: str) -> str:
    """A name or description as it may be written: at most 1024 characters, a space for each control character.

    >>> clipped("two\\nlines")
    'two lines'
    """
    return _CONTROL.sub(" ", text)[:MAX_NAME]


def _collection(collection: Collection, indent: str) -> Iterator[str]:
    attributes = [("Type", collection.type)]
    if collection.mode is not None:
        attributes.append(("EnforcementMode", collection.mode.value))
    children = [line for rule in collection.rules for line in _rule(rule, indent + "  ")]
    if collection.extensions:
        children += _element(collection.extensions, indent + "  ")
    return _tag("RuleCollection", attributes, children, indent)


def _rule(rule: Rule, indent: str) -> Iterator[str]:
    attributes = [
        ("Id", rule.id.lower()),
        ("Name", clipped(rule.name)),
        ("Description", clipped(rule.description)),
        ("UserOrGroupSid", rule.sid),
        ("Action", rule.action.value),
    ]
    inner = indent + "  "
    children = list(_tag("Conditions", [], list(_condition(rule.condition, inner + "  ")), inner))
    if rule.exceptions:
        exceptions = [line for condition in rule.exceptions for line in _condition(condition, inner + "  ")]
        children += _tag("Exceptions", [], exceptions, inner)
    return _tag(rule.element, attributes, children, indent)


def _condition(condition: Condition, indent: str) -> Iterator[str]:
    match condition:
        case PathCondition():
            return _tag("FilePathCondition", [("Path", condition.path)], [], indent)
        case PublisherCondition():
            sections = [("LowSection", format_version(condition.low)), ("HighSection", format_version(condition.high))]
            names = [
                ("PublisherName", condition.publisher),
                ("ProductName", condition.product),
                ("BinaryName", condition.binary),
            ]
            children = list(_tag("BinaryVersionRange", sections, [], indent + "  "))
            return _tag("FilePublisherCondition", names, children, indent)
        case HashCondition():
            files: list[str] = []
            for file in condition.hashes:
                attributes = [("Type", file.type), ("Data", f"0x{file.data.upper()}")]
                if file.source_name is not None:
                    attributes.append(("SourceFileName", file.source_name))
                if file.source_length is not None:
                    attributes.append(("SourceFileLength", str(file.source_length)))
                files += _tag("FileHash", attributes, [], indent + "  ")
            return _tag("FileHashCondition", [], files, indent)


def _element(element: Element, indent: str) -> list[str]:
    """An extension. Text keeps its exact place, so nothing is indented around it."""
    if any(isinstance(child, str) for child in element.children):
        return [f"{indent}{_inline(element)}\n"]
    children = [
        line for child in element.children if isinstance(child, Element) for line in _element(child, indent + "  ")
    ]
    return list(_tag(element.name, list(element.attributes), children, indent))


def _inline(element: Element) -> str:
    opened = f"<{element.name}{_attributes(element.attributes)}"
    if not element.children:
        return f"{opened} />"
    inner = "".join(escape(child) if isinstance(child, str) else _inline(child) for child in element.children)
    return f"{opened}>{inner}</{element.name}>"


def _tag(name: str, attributes: list[tuple[str, str]], children: list[str], indent: str) -> Iterator[str]:
    if not children:
        yield f"{indent}<{name}{_attributes(attributes)} />\n"
        return
    yield f"{indent}<{name}{_attributes(attributes)}>\n"
    yield from children
    yield f"{indent}</{name}>\n"


def _attributes(attributes: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes)


def escape(text: str) -> str:
    """A text for an attribute in double quotes. raises: AppLockerError for what XML can't hold."""
    if _UNWRITABLE.search(text):
        raise AppLockerError((Problem(line=None, rule=None, message=f"XML can't hold this text: {text[:80]!r}"),))
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def _comment(text: str) -> str:
    """A comment may hold no two hyphens in a row and not end with one."""
    text = _UNWRITABLE.sub("", text)
    while "--" in text:
        text = text.replace("--", "- -")
    return (text + " " if text.endswith("-") else text).strip() or "(empty)"
