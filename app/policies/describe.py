"""An export in words: as JSON for programs and as a page to print for those who have to agree to it."""

from __future__ import annotations

from html import escape

from app.policies.export import Export
from app.policies.plan import PlannedRule

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #1a1a1a }
h2 { margin-top: 2rem; font-size: 1.1rem; page-break-after: avoid }
table { border-collapse: collapse; width: 100% }
td, th { border: 1px solid #bbb; padding: .3rem .5rem; text-align: left }
th { width: 9rem; vertical-align: top; background: #f4f4f4 } code { overflow-wrap: anywhere }
section { page-break-inside: avoid }
.warning { border: 2px solid #b00020; padding: .6rem .8rem }
""".strip()


def describe_export(export: Export) -> dict[str, object]:
    """Everything about an export but its XML, as JSON values."""
    return {
        "sid": export.sid,
        "sha256": export.sha256,
        "base_sha256": export.base_sha256,
        "rules": [_described_rule(rule) for rule in export.rules],
        "left_out": [
            {"pattern": left.pattern, "collection": left.collection, "reason": left.reason} for left in export.left_out
        ],
        "stays_closed": [
            {
                "pattern": one.pattern,
                "collection": one.collection,
                "path": one.path,
                "deny_rules": list(one.deny_rules),
            }
            for one in export.stays_closed
        ],
        "also_opens": [{"pattern": one.pattern, "path": one.path} for one in export.also_opens],
        "notes": list(export.notes),
        "effect_on_empty_machine": export.effect_on_empty_machine,
    }


def render_review(export: Export, *, warning: str | None = None) -> str:
    """A page of HTML that stands alone and prints well: every rule with its reach, and what was left out."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Rules for uv: review</title>\n',
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>Rules for uv: review</h1>\n",
        f'<p class="warning"><strong>{escape(warning)}</strong></p>\n' if warning else "",
        f"<p>{len(export.added)} rules for <code>{escape(export.sid)}</code>. ",
        f"SHA-256 of the policy file: <code>{export.sha256}</code>.</p>\n",
        f"<p>{escape(export.effect_on_empty_machine)}</p>\n",
        _list([escape(note) for note in export.notes]),
    ]
    parts += [_rule(rule) for rule in export.rules]
    if export.left_out:
        parts.append("<h2>What got no rule</h2>\n")
        parts.append(
            _list(
                [
                    f"<code>{escape(left.pattern)}</code> {escape(left.collection or '')}: {escape(left.reason)}"
                    for left in export.left_out
                ]
            )
        )
    if export.stays_closed:
        parts.append("<h2>What stays closed</h2>\n")
        parts.append(
            _list(
                [
                    f"<code>{escape(one.path)}</code> ({escape(one.pattern)})"
                    + (f", by the Deny rule {escape(', '.join(one.deny_rules))}" if one.deny_rules else "")
                    for one in export.stays_closed
                ]
            )
        )
    if export.also_opens:
        parts.append("<h2>What the rules open besides</h2>\n")
        parts.append(_list([f"<code>{escape(one.path)}</code> ({escape(one.pattern)})" for one in export.also_opens]))
    return "".join([*parts, "</body>\n</html>\n"])


def _described_rule(rule: PlannedRule) -> dict[str, object]:
    return {
        "id": rule.id,
        "name": rule.name,
        "collection": rule.collection,
        "kind": rule.kind,
        "patterns": list(rule.patterns),
        "in_base": rule.in_base,
        "admits": rule.reach.admits,
        "examples": list(rule.reach.examples),
        "users_can_write": rule.reach.users_can_write,
        "lasts": rule.reach.lasts,
        "risk": rule.reach.risk,
        "narrower": rule.reach.narrower,
    }


def _rule(rule: PlannedRule) -> str:
    rows = [
        ("Opens", escape(", ".join(rule.patterns))),
        ("Kind", f"{rule.collection}, {rule.kind}{', in the base already' if rule.in_base else ''}"),
        ("Id", f"<code>{rule.id}</code>"),
        ("Admits", escape(rule.reach.admits)),
        ("For example", "<br>".join(f"<code>{escape(example)}</code>" for example in rule.reach.examples)),
        ("Users can write", escape(rule.reach.writable)),
        ("Lasts", escape(rule.reach.lasts)),
        ("Risk", escape(rule.reach.risk)),
        ("Narrower", escape(rule.reach.narrower or "")),
    ]
    table = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>\n" for name, text in rows if text)
    return f"<section>\n<h2>{escape(rule.name)}</h2>\n<table>\n{table}</table>\n</section>\n"


def _list(items: list[str]) -> str:
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n" if items else ""
