"""The id of a rule, derived from what the rule does: the same content has the same id, changed content another.

`Set-AppLockerPolicy -Merge` finds duplicates by id alone, so derived ids make a second merge change nothing, and a rule
that changed never hides behind its old id. Name, description and date are no content.

source: Microsoft's Set-AppLockerPolicy (-Merge "removes rules with a duplicate rule ID"); RFC 9562, version 5
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import replace

from app.applocker.model import Action, Condition, HashCondition, PathCondition, PublisherCondition, Rule
from app.applocker.model import format_version as _version

NAMESPACE = uuid.UUID("6f0ac7f2-6f6d-5d0a-9a55-5a5b0c1d7c11")
"""The namespace of all derived rule ids. Never change it: every exported rule would get another id."""


def rule_id(
    collection: str, action: str, sid: str, conditions: Sequence[Condition], exceptions: Sequence[Condition] = ()
) -> str:
    """The id that belongs to this content, whatever the case of paths and names and the order of exceptions.

    >>> rule_id("Exe", "Allow", "S-1-1-0", [PathCondition(path=r"%OSDRIVE%\\Tools\\*")])
    'f1be40e3-4fd9-581f-8245-3bdce9593031'
    >>> rule_id("Exe", "Allow", "s-1-1-0", [PathCondition(path=r"%osdrive%\\tools\\*")])
    'f1be40e3-4fd9-581f-8245-3bdce9593031'
    """
    content = [collection, Action(action).value, sid.upper(), _contents(conditions), _contents(exceptions)]
    return str(uuid.uuid5(NAMESPACE, json.dumps(content, ensure_ascii=True, separators=(",", ":"))))


def identified(collection: str, rule: Rule) -> Rule:
    """The rule with the id of its content."""
    return replace(rule, id=rule_id(collection, rule.action, rule.sid, [rule.condition], rule.exceptions))


def _contents(conditions: Sequence[Condition]) -> list[list[str]]:
    return sorted(_content(condition) for condition in conditions)


def _content(condition: Condition) -> list[str]:
    match condition:
        case PathCondition():
            return ["path", condition.path.upper()]
        case PublisherCondition():
            names = [condition.publisher.upper(), condition.product.upper(), condition.binary.upper()]
            return ["publisher", *names, _version(condition.low), _version(condition.high)]
        case HashCondition():
            return ["hash", *sorted({f"{file.type}:{file.data.upper()}" for file in condition.hashes})]
