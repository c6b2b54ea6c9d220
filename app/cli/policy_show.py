"""`wayleave policy show`: what is in a policy, for people or as JSON."""

from __future__ import annotations

import click

from app.applocker.model import (
    Collection,
    Condition,
    HashCondition,
    Mode,
    PathCondition,
    Policy,
    PublisherCondition,
    Rule,
    format_version,
)
from app.cli.policy_files import files_argument, json_option, print_json, read_policy_file

_MEANINGS = {
    Mode.ENABLED: "enforced",
    Mode.AUDIT_ONLY: "only audited",
    Mode.NOT_CONFIGURED: "not configured: enforced all the same",
    None: "no mode given: enforced all the same",
}


@click.command("show")
@files_argument
@json_option
def show(files: tuple[str, ...], *, as_json: bool) -> None:
    """Show what is in policies: XML, registry.pol, or the folder of a GPO backup.

    Exit codes: 0 shown, 2 invalid input.
    """
    policies = [(name, read_policy_file(name, as_json=as_json)) for name in files]
    if as_json:
        print_json([{"file": name, **policy_as_json(policy)} for name, policy in policies])
        return
    for name, policy in policies:
        click.echo(f"{name}: {len(policy.collections)} collections, {sum(1 for _ in policy.rules())} rules")
        for collection in policy.collections:
            _print(collection)


def policy_as_json(policy: Policy) -> dict[str, object]:
    """The policy's content with the names of the XML."""
    return {
        "version": policy.version,
        "collections": [
            {
                "type": collection.type,
                "mode": collection.mode.value if collection.mode else None,
                "services": collection.services,
                "rules": [rule_as_json(rule) for rule in collection.rules],
            }
            for collection in policy.collections
        ],
    }


def rule_as_json(rule: Rule) -> dict[str, object]:
    """One rule's content."""
    return {
        "id": rule.id,
        "kind": rule.kind,
        "name": rule.name,
        "description": rule.description,
        "sid": rule.sid,
        "action": rule.action.value,
        "condition": _condition_as_json(rule.condition),
        "exceptions": [_condition_as_json(condition) for condition in rule.exceptions],
        "line": rule.line,
    }


def condition_text(condition: Condition) -> str:
    """One condition on one line."""
    match condition:
        case PathCondition():
            return condition.path
        case PublisherCondition():
            versions = f"{format_version(condition.low)} to {format_version(condition.high)}"
            return f"{condition.publisher} \\ {condition.product} \\ {condition.binary}, {versions}"
        case HashCondition():
            names = [file.source_name or f"{file.type} {file.data[:16]}…" for file in condition.hashes]
            return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _condition_as_json(condition: Condition) -> dict[str, object]:
    match condition:
        case PathCondition():
            return {"path": condition.path}
        case PublisherCondition():
            return {
                "publisher": condition.publisher,
                "product": condition.product,
                "binary": condition.binary,
                "low": format_version(condition.low),
                "high": format_version(condition.high),
            }
        case HashCondition():
            return {
                "hashes": [
                    {
                        "type": file.type,
                        "data": file.data,
                        "source_name": file.source_name,
                        "source_length": file.source_length,
                    }
                    for file in condition.hashes
                ]
            }


def _print(collection: Collection) -> None:
    meaning = _MEANINGS[collection.mode] if collection.rules else "no rules: everything of its kind runs"
    click.echo(f"\n{collection.type} ({len(collection.rules)} rules, {meaning})")
    for rule in collection.rules:
        click.echo(f"  {rule.action:<5} {rule.sid}  {rule.kind:<9} {condition_text(rule.condition)}")
        click.echo(f"        {rule.name} [{rule.id}]")
        for exception in rule.exceptions:
            click.echo(f"        except {condition_text(exception)}")
