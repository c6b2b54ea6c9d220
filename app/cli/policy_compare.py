"""`wayleave policy diff` and `merge`: how policies differ in what they do, and what comes of several."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from app.applocker.compare import Change, Conflict, compare, compare_three
from app.applocker.merge import Merge, merge_gpos, merge_groupings, merge_into
from app.applocker.model import AppLockerError, Policy
from app.applocker.write import render_policy
from app.cli.policy_files import (
    files_argument,
    json_option,
    out_option,
    print_json,
    read_policy_file,
    refuse,
    write_out,
)


@click.command("diff")
@files_argument
@json_option
def diff(files: tuple[str, ...], *, as_json: bool) -> None:
    """Compare what policies do: OLD NEW, or three-way BASE MINE THEIRS.

    Exit codes: 0 the same files run for the same users, 1 they differ, 2 invalid input.
    """
    if len(files) not in (2, 3):
        raise click.UsageError("Give two policies (OLD NEW), or three (BASE MINE THEIRS).")
    policies = [read_policy_file(name, as_json=as_json) for name in files]
    if len(policies) == 2:
        _print_two(compare(*policies), as_json=as_json)
    else:
        _print_three(*policies, as_json=as_json)


@click.command("merge")
@files_argument
@click.option(
    "--how",
    type=click.Choice(["merge", "gpo", "intune"]),
    default="merge",
    show_default=True,
    help="merge: as Set-AppLockerPolicy -Merge, each file into the one before. gpo: GPOs from the farthest to the "
    "closest. intune: groupings, each of which must allow a file.",
)
@click.option("--local", metavar="FILE", type=click.Path(allow_dash=True), help="With gpo: the machine's local policy.")
@out_option
@json_option
def merge(files: tuple[str, ...], how: str, local: str | None, out: Path | None, *, as_json: bool) -> None:
    """Merge policies as Windows would, and say what changed and what is not documented.

    Exit codes: 0 merged, 2 invalid input.
    """
    if local is not None and how != "gpo":
        raise click.UsageError("--local goes with --how gpo.")
    policies = [read_policy_file(name, as_json=as_json) for name in files]
    if how == "gpo":
        merged = merge_gpos(policies, read_policy_file(local, as_json=as_json) if local else None)
    elif how == "intune":
        merged = merge_groupings(policies)
    else:
        merged = _merge_all(policies)
    try:
        xml = render_policy(merged.policy)
    except AppLockerError as error:
        refuse(", ".join(files), error, as_json=as_json)
    if as_json:
        changes = [change_as_json(change) for change in merged.changes]
        print_json({"policy_xml": xml, "changes": changes, "notes": list(merged.notes)})
        return
    write_out(xml, out)
    for change in merged.changes:
        click.echo(f"changed: {change.message}", err=True)
    for note in merged.notes:
        click.echo(f"note: {note}", err=True)


def change_as_json(change: Change) -> dict[str, object]:
    """One change for JSON."""
    rule = change.after or change.before
    return {
        "kind": change.kind.value,
        "collection": change.collection,
        "rule_id": rule.id if rule else None,
        "semantic": change.is_semantic,
        "message": change.message,
    }


def _merge_all(policies: list[Policy]) -> Merge:
    merged = Merge(policy=policies[0], changes=(), notes=())
    for policy in policies[1:]:
        step = merge_into(merged.policy, policy)
        changes = compare(policies[0], step.policy)
        merged = Merge(policy=step.policy, changes=changes, notes=(*merged.notes, *step.notes))
    return merged


def _print_two(changes: tuple[Change, ...], *, as_json: bool) -> None:
    differs = any(change.is_semantic for change in changes)
    if as_json:
        print_json({"same": not differs, "changes": [change_as_json(change) for change in changes]})
    else:
        _print_changes(changes, "")
        if not differs:
            click.echo("The same files run for the same users.")
    raise SystemExit(1 if differs else 0)


def _print_three(base: Policy, mine: Policy, theirs: Policy, *, as_json: bool) -> None:
    found = compare_three(base, mine, theirs)
    conflicts: tuple[Conflict, ...] = found.conflicts
    differs = any(change.is_semantic for change in (*found.mine, *found.theirs, *found.both)) or bool(conflicts)
    if as_json:
        print_json(
            {
                "same": not differs,
                "mine": [change_as_json(change) for change in found.mine],
                "theirs": [change_as_json(change) for change in found.theirs],
                "both": [change_as_json(change) for change in found.both],
                "conflicts": [
                    {"mine": change_as_json(each.mine), "theirs": change_as_json(each.theirs)} for each in conflicts
                ],
            }
        )
    else:
        _print_changes(found.mine, "mine: ")
        _print_changes(found.theirs, "theirs: ")
        _print_changes(found.both, "both: ")
        for each in conflicts:
            click.echo(f"conflict: {_where(each.mine)}mine: {each.mine.message}; theirs: {each.theirs.message}")
        if not differs:
            click.echo("The same files run for the same users.")
    raise SystemExit(1 if differs else 0)


def _print_changes(changes: Iterable[Change], prefix: str) -> None:
    for change in changes:
        note = "" if change.is_semantic else " (no effect)"
        click.echo(f"{prefix}{change.kind}: {_where(change)}{change.message}{note}")


def _where(change: Change) -> str:
    return f"{change.collection}: " if change.collection else ""
