"""`wayleave export applocker`: write the rules that open patterns as AppLocker XML, and say what each admits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from sqlalchemy.exc import DatabaseError

from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import AppError
from app.policies.baselines import TrustedFile, list_baseline_files
from app.policies.choices import COLLECTIONS, DEFAULT_ROOTS
from app.policies.export import Export, plan_export
from app.settings import Settings


@click.group("export")
def command() -> None:
    """Write AppLocker rules for patterns."""


@command.command("applocker")
@click.option(
    "--pattern",
    "patterns",
    metavar="ID[=KIND]",
    multiple=True,
    required=True,
    help="A pattern to open; KIND is publisher, hash or path. [default kind: what works best] Repeatable.",
)
@click.option("--sid", required=True, help="The SID of the group that the rules are for.")
@click.option(
    "--base",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The policy that the rules are added to; the output is then the whole policy.",
)
@click.option(
    "--project-root", "project_roots", multiple=True, help=r"A folder with projects, such as C:\src. Repeatable."
)
@click.option(
    "--root",
    "roots",
    metavar="NAME=FOLDER",
    multiple=True,
    help=f"Where uv's {', '.join(DEFAULT_ROOTS)} folder was moved to. Repeatable.",
)
@click.option(
    "--collection",
    "collections",
    type=click.Choice(COLLECTIONS),
    multiple=True,
    help="Without --base: a collection that has rules already where these are merged. Repeatable.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="The file; - for standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Describe rules as JSON on standard error, not as text.")
def applocker(
    patterns: tuple[str, ...],
    sid: str,
    base: Path | None,
    project_roots: tuple[str, ...],
    roots: tuple[str, ...],
    collections: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Write the rules that open patterns, to be added to a policy, or the whole policy with them.

    Hash rules come from the files of `wayleave baseline add`.
    """
    try:
        export = plan_export(
            patterns,
            sid,
            base=base.read_bytes() if base else None,
            baseline=_baseline(),
            project_roots=project_roots,
            roots=_named(roots),
            collections=collections or None,
        )
    except AppError as error:
        raise click.UsageError(f"{error.field}: {error.message}" if error.field else error.message) from error
    if str(out) == "-":
        sys.stdout.buffer.write(export.xml.encode())
        sys.stdout.buffer.flush()
    else:
        out.write_bytes(export.xml.encode())
    click.echo(json.dumps(_described(export), indent=2) if as_json else _text(export, out), err=True)


def _baseline() -> tuple[TrustedFile, ...]:
    """The trusted files; none where there is no database yet: every rule but a hash can do without."""
    settings = Settings()
    if settings.is_sqlite and not Path(settings.url.removeprefix("sqlite:///")).exists():
        return ()
    engine = open_engine(settings)
    try:
        with session_scope(engine, writes=False) as session:
            return list_baseline_files(session)
    except DatabaseError as error:
        click.echo(f"The baseline could not be read, so there are no hash rules: {error.orig}", err=True)
        return ()
    finally:
        engine.dispose()


def _named(roots: tuple[str, ...]) -> dict[str, str]:
    named = {}
    for text in roots:
        name, separator, folder = text.partition("=")
        if not separator:
            raise click.UsageError(f"--root takes NAME=FOLDER, such as python=C:\\Python, not {text!r}")
        named[name] = folder
    return named


def _text(export: Export, out: Path) -> str:
    lines = []
    for rule in export.rules:
        lines += [
            f"{rule.collection} {rule.kind} rule {rule.id}{' (in the base already)' if rule.in_base else ''}",
            f"  opens    {', '.join(rule.patterns)}",
            f"  admits   {rule.reach.admits}",
            *(f"           such as {example}" for example in rule.reach.examples),
            f"  writable {rule.reach.writable}",
            f"  lasts    {rule.reach.lasts}",
            f"  risk     {rule.reach.risk}",
        ]
        if rule.reach.narrower:
            lines.append(f"  narrower {rule.reach.narrower}")
    lines += [f"left out: {left.pattern} {left.collection or ''}: {left.reason}" for left in export.left_out]
    lines += [f"stays closed: {one.pattern} {one.collection}: {one.path}" for one in export.stays_closed]
    lines += [f"note: {note}" for note in export.notes]
    lines += [f"on a machine with nothing else: {export.effect_on_empty_machine}"]
    return "\n".join([*lines, f"{out}: {len(export.added)} rules, sha256 {export.sha256}"])


def _described(export: Export) -> dict[str, object]:
    return {
        "sha256": export.sha256,
        "base_sha256": export.base_sha256,
        "rules": [
            {
                "id": rule.id,
                "name": rule.name,
                "collection": rule.collection,
                "kind": rule.kind,
                "patterns": rule.patterns,
                "in_base": rule.in_base,
                "admits": rule.reach.admits,
                "examples": rule.reach.examples,
                "users_can_write": rule.reach.users_can_write,
                "lasts": rule.reach.lasts,
                "risk": rule.reach.risk,
                "narrower": rule.reach.narrower,
            }
            for rule in export.rules
        ],
        "left_out": [
            {"pattern": left.pattern, "collection": left.collection, "reason": left.reason} for left in export.left_out
        ],
        "stays_closed": [
            {
                "pattern": one.pattern,
                "collection": one.collection,
                "path": one.path,
                "deny_rules": one.deny_rules,
            }
            for one in export.stays_closed
        ],
        "notes": export.notes,
        "effect_on_empty_machine": export.effect_on_empty_machine,
    }
