"""`wayleave catalogue`: what the catalogue knows, and what changes between two uv versions."""

from __future__ import annotations

import json

import click

from agent.catalogue import Pattern, load
from agent.catalogue.changes import Changes, compare_versions


@click.group()
def command() -> None:
    """Look up uv's paths and what changes between versions of uv."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_patterns(as_json: bool) -> None:
    """List the patterns in the order in which they are tried."""
    patterns = load().patterns
    if as_json:
        click.echo(json.dumps([_summary(pattern) for pattern in patterns], indent=1))
        return
    width = max(len(pattern.id) for pattern in patterns)
    for pattern in patterns:
        click.echo(f"{pattern.id:<{width}}  {'runs' if pattern.is_executed else '-':<4}  {pattern.title}")


@command.command("diff")
@click.argument("before", metavar="UV1")
@click.argument("after", metavar="UV2")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(before: str, after: str, as_json: bool) -> None:
    """Say what an upgrade from uv UV1 to UV2 brings and takes: places, cache buckets, signers, workflows.

    \b
    Example:
      wayleave catalogue diff 0.7.12 0.13.8
    """
    try:
        changes = compare_versions(load(), before, after)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if changes.beyond:
        click.echo(
            f"The catalogue knows uv up to {load().newest_uv}; what newer versions change is not in it.", err=True
        )
    if as_json:
        click.echo(json.dumps(_as_json(changes), indent=1))
        return
    _print(changes, before, after)


def _summary(pattern: Pattern) -> dict[str, object]:
    return {
        "id": pattern.id,
        "title": pattern.title,
        "collections": list(pattern.collections),
        "executed": pattern.is_executed,
        "since": pattern.since,
        "until": pattern.until,
        "rule_kinds": list(pattern.rule_kinds),
    }


def _as_json(changes: Changes) -> dict[str, object]:
    return {
        "new_patterns": [_summary(pattern) for pattern in changes.new_patterns],
        "old_patterns": [_summary(pattern) for pattern in changes.old_patterns],
        "new_buckets": [bucket.folder for bucket in changes.new_buckets],
        "old_buckets": [bucket.folder for bucket in changes.old_buckets],
        "new_signers": [signer.publisher for signer in changes.new_signers],
        "old_signers": [signer.publisher for signer in changes.old_signers],
        "new_workflows": [workflow.id for workflow in changes.new_workflows],
        "old_workflows": [workflow.id for workflow in changes.old_workflows],
        "beyond_catalogue": changes.beyond,
    }


def _print(changes: Changes, before: str, after: str) -> None:
    lines = {
        "New places": [_line(pattern) for pattern in changes.new_patterns],
        "Places that go": [_line(pattern) for pattern in changes.old_patterns],
        "New folders in the cache": [f"{bucket.folder}: {bucket.holds}" for bucket in changes.new_buckets],
        "Folders of the cache that are no longer used": [bucket.folder for bucket in changes.old_buckets],
        "Signed from here on": [f"{signer.name}: publisher rules work" for signer in changes.new_signers],
        "No longer signed": [f"{signer.name}: publisher rules stop working" for signer in changes.old_signers],
        "New commands": [f"{workflow.command} ({workflow.title})" for workflow in changes.new_workflows],
        "Commands that go": [f"{workflow.command} ({workflow.title})" for workflow in changes.old_workflows],
    }
    if not any(lines.values()):
        click.echo(f"Nothing that the catalogue knows changes between uv {before} and {after}.")
    for title, entries in lines.items():
        if entries:
            click.secho(f"{title}:", bold=True)
            for entry in entries:
                click.echo(f"  {entry}")


def _line(pattern: Pattern) -> str:
    return f"{pattern.id}{' (runs)' if pattern.is_executed else ''}: {pattern.title}"
