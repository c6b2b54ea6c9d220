"""`wayleave export applocker|bundle`: write the rules that open patterns, and say what each admits."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy.exc import DatabaseError

from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import AppError
from app.policies.baselines import TrustedFile, list_baseline_files
from app.policies.bundle import NOT_APPROVED, Delivery, build_bundle
from app.policies.choices import COLLECTIONS, DEFAULT_ROOTS
from app.policies.describe import describe_export
from app.policies.export import Export, plan_export
from app.policies.whatif import simulate_export
from app.settings import Settings

_PLAN_OPTIONS = (
    click.option(
        "--pattern",
        "patterns",
        metavar="ID[=KIND]",
        multiple=True,
        required=True,
        help="A pattern to open; KIND is publisher, hash or path. [default kind: what works best] Repeatable.",
    ),
    click.option("--sid", required=True, help="The SID of the group that the rules are for."),
    click.option(
        "--base",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The policy that the rules are added to; the output is then the whole policy.",
    ),
    click.option(
        "--project-root", "project_roots", multiple=True, help=r"A folder with projects, such as C:\src. Repeatable."
    ),
    click.option(
        "--root",
        "roots",
        metavar="NAME=FOLDER",
        multiple=True,
        help=f"Where uv's {', '.join(DEFAULT_ROOTS)} folder was moved to. Repeatable.",
    ),
    click.option(
        "--collection",
        "collections",
        type=click.Choice(COLLECTIONS),
        multiple=True,
        help="Without --base: a collection that has rules already where these are merged. Repeatable.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Describe rules as JSON on standard error, not as text."),
)


_WHAT_IF = click.option(
    "--what-if", "what_if", is_flag=True, help="Judge the rules against the policies that the fleet reported."
)


def _with_plan_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_PLAN_OPTIONS):
        function = option(function)
    return function


@click.group("export")
def command() -> None:
    """Write AppLocker rules for patterns."""


@command.command("applocker")
@_with_plan_options
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="The file; - for standard output.",
)
@_WHAT_IF
def applocker(out: Path, as_json: bool, what_if: bool, **choices: Any) -> None:
    """Write the rules that open patterns, to be added to a policy, or the whole policy with them.

    Hash rules come from the files of `wayleave baseline add`.
    """
    _refuse_without_approval()
    export = _plan(**choices)
    _write(out, export.xml.encode())
    click.echo(json.dumps(describe_export(export), indent=2) if as_json else _text(export), err=True)
    if not as_json:
        click.echo(f"{out}: {len(export.added)} rules, sha256 {export.sha256}", err=True)
        click.echo(NOT_APPROVED, err=True)
    if what_if:
        click.echo(_what_if(export, as_json=as_json), err=True)


@command.command("bundle")
@_with_plan_options
@click.option(
    "--delivery",
    type=click.Choice([delivery.value for delivery in Delivery]),
    default=Delivery.SAME_GPO.value,
    show_default=True,
    help="How the rules reach machines; it decides what is in the zip.",
)
@click.option(
    "--sign-with",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An Ed25519 private key (PEM, without password) that signs the manifest.",
)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The zip.")
def bundle(delivery: str, sign_with: Path | None, out: Path, as_json: bool, **choices: Any) -> None:
    """Write a zip to hand over: rules, scripts that apply and take back, a review to print, checksums."""
    _refuse_without_approval()
    export = _plan(**choices)
    try:
        made = build_bundle(export, delivery, key=_signing_key(sign_with) if sign_with else None)
    except AppError as error:
        raise click.UsageError(f"{error.field}: {error.message}") from error
    _write(out, made.content)
    click.echo(json.dumps(describe_export(export), indent=2) if as_json else _text(export), err=True)
    if not as_json:
        click.echo(f"{out}: {len(made.files)} files for {delivery}, sha256 {made.sha256}", err=True)
        click.echo(NOT_APPROVED, err=True)


def _refuse_without_approval() -> None:
    if Settings().rules_approved_only:
        raise click.UsageError(
            "WAYLEAVE_RULES_APPROVED_ONLY is set: rules leave from approved rule sets only, on the page or by the API."
        )


def _what_if(export: Export, *, as_json: bool) -> str:
    engine = open_engine(Settings())
    try:
        with session_scope(engine, writes=False) as session:
            found = simulate_export(session, export)
    except DatabaseError as error:
        raise click.ClickException(f"{error.orig}. Is the database there? See `wayleave db upgrade`.") from error
    finally:
        engine.dispose()
    if as_json:
        return json.dumps(dataclasses.asdict(found), indent=2)
    lines = [
        f"what if: {found.base} users on {found.policies} different policies ({found.unreadable} users' policy "
        f"could not be judged); {found.judgements} judgements"
    ]
    lines += [
        f"what if: {one.pattern}: opens for {one.newly_open}, open already for {one.open_already}, "
        f"stays closed for {one.still_closed}"
        + "".join(f", by the Deny rule {name!a} for {users}" for name, users in one.deny_rules)
        for one in found.patterns
    ]
    lines += [
        f"what if: DANGER: for {users} users these would be the first {name} rules: everything else would be blocked"
        for name, users in found.starts_default_deny
    ]
    lines += [f"what if: {name} is only audited for {users} users" for name, users in found.only_audited]
    return "\n".join(lines)


def _plan(
    *,
    patterns: tuple[str, ...],
    sid: str,
    base: Path | None,
    project_roots: tuple[str, ...],
    roots: tuple[str, ...],
    collections: tuple[str, ...],
) -> Export:
    try:
        return plan_export(
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


def _write(out: Path, content: bytes) -> None:
    if str(out) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"{out}: {error.strerror}") from error


def _signing_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise click.UsageError(f"{path}: not a private key in PEM without password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise click.UsageError(f"{path}: not an Ed25519 key")
    return key


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


def _text(export: Export) -> str:
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
    lines += [f"also opens: {one.pattern}: {one.path}" for one in export.also_opens]
    lines += [f"stays closed: {one.pattern} {one.collection}: {one.path}" for one in export.stays_closed]
    lines += [f"note: {note}" for note in export.notes]
    lines += [f"on a machine with nothing else: {export.effect_on_empty_machine}"]
    return "\n".join(lines)
