"""An export as it was planned, kept beside its bytes and given back: so that months later its page, its bundle and its
simulation are those of the file that left, whatever the catalogue and the baseline say by then.
"""

from __future__ import annotations

from typing import Any

from app.applocker.read import parse_policy
from app.applocker.suggest import Suggestion
from app.applocker.write import render_rule
from app.policies.coverage import Closed, Opened
from app.policies.export import Export
from app.policies.plan import LeftOut, PlannedRule
from app.policies.reach import Reach

_REACH_FIELDS = ("admits", "users_can_write", "writable", "lasts", "risk", "narrower")


def to_kept(export: Export) -> dict[str, Any]:
    """What the file's text does not say of an export, as JSON values."""
    return {
        "rules": [kept_rule(rule) for rule in export.rules],
        "left_out": [[one.pattern, one.collection, one.reason] for one in export.left_out],
        "stays_closed": [[one.pattern, one.collection, one.path, list(one.deny_rules)] for one in export.stays_closed],
        "also_opens": [[one.pattern, one.path] for one in export.also_opens],
        "notes": list(export.notes),
        "effect_on_empty_machine": export.effect_on_empty_machine,
        "project_roots": list(export.project_roots),
        "roots": dict(export.roots),
        "sids": list(export.sids),
        "added_only": export.added_only,
    }


def from_kept(
    kept: dict[str, Any], *, xml: str, file_name: str, sha256: str, sid: str, base_sha256: str | None
) -> Export:
    """The export of which `to_kept` kept these values and whose file is `xml`."""
    policy = parse_policy(xml)
    return Export(
        rules=tuple(planned_rule(rule) for rule in kept["rules"]),
        left_out=tuple(
            LeftOut(pattern=pattern, collection=collection, reason=reason)
            for pattern, collection, reason in kept["left_out"]
        ),
        stays_closed=tuple(
            Closed(pattern=pattern, collection=collection, path=path, deny_rules=tuple(deny_rules))
            for pattern, collection, path, deny_rules in kept["stays_closed"]
        ),
        also_opens=tuple(Opened(pattern=pattern, path=path) for pattern, path in kept["also_opens"]),
        policy=policy,
        xml=xml,
        comment="\n".join(policy.comments),
        notes=tuple(kept["notes"]),
        effect_on_empty_machine=kept["effect_on_empty_machine"],
        file_name=file_name,
        sha256=sha256,
        sid=", ".join(kept.get("sids", [sid])),
        project_roots=tuple(kept["project_roots"]),
        roots=dict(kept["roots"]),
        base_sha256=base_sha256,
        added_only=kept.get("added_only", False),
    )


def kept_rule(rule: PlannedRule) -> dict[str, Any]:
    return {
        "collection": rule.collection,
        "kind": rule.kind,
        "patterns": list(rule.patterns),
        "build": rule.build,
        "in_base": rule.in_base,
        "xml": render_rule(rule.rule),
        "risk": rule.suggestion.risk,
        "reach": {name: getattr(rule.reach, name) for name in _REACH_FIELDS} | {"examples": list(rule.reach.examples)},
    }


def planned_rule(kept: dict[str, Any]) -> PlannedRule:
    # By itself, because a base may have the same rule under another id.
    collection = kept["collection"]
    (read,) = parse_policy(f'<RuleCollection Type="{collection}">{kept["xml"]}</RuleCollection>').collections
    return PlannedRule(
        collection=collection,
        kind=kept["kind"],
        patterns=tuple(kept["patterns"]),
        suggestion=Suggestion(collection=collection, rule=read.rules[0], risk=kept["risk"]),
        reach=Reach(**{**kept["reach"], "examples": tuple(kept["reach"]["examples"])}),
        build=kept["build"],
        in_base=kept["in_base"],
    )
