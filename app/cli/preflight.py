"""`wayleave preflight`: what an upgrade of uv would break, on the hosts and among the rules that are known."""

from __future__ import annotations

import json
import sys

import click
from sqlalchemy.exc import DatabaseError

from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import InvalidError
from app.preflight.fleet import Preflight, as_values, check_upgrade
from app.settings import Settings


@click.command()
@click.argument("before", metavar="FROM")
@click.argument("after", metavar="TO")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(before: str, after: str, as_json: bool) -> None:
    """Say which users, exports, rule sets and baseline files an upgrade from uv FROM to TO would break.

    The exit code is 0 if it breaks nothing and 1 if it does.

    \b
    Example:
      wayleave preflight 0.9.13 0.13.8
    """
    engine = open_engine(Settings())
    try:
        with session_scope(engine, writes=False) as session:
            found = check_upgrade(session, before, after)
    except InvalidError as error:
        raise click.UsageError(error.message) from error
    except DatabaseError as error:
        raise click.ClickException(f"{error.orig}. Is the database there? See `wayleave db upgrade`.") from error
    finally:
        engine.dispose()
    if found.changes.beyond:
        click.echo("The catalogue does not know one of these versions yet: what it changes is not in this.", err=True)
    if as_json:
        click.echo(json.dumps(as_values(found), indent=1))
    else:
        _print(found)
    sys.exit(1 if found.broken or found.rules else 0)


def _print(found: Preflight) -> None:
    click.secho(f"uv {found.before} to {found.after}: breaks {found.broken} of {found.users} users", bold=True)
    click.echo(f"  {found.policies} policies, {found.judgements} judgements; {found.unreadable} users not judged")
    for one in found.patterns:
        click.echo(f"  {one.users} users: {one.pattern} ({one.kind}): {one.path}")
    for group in found.groups:
        if group.broken:
            click.echo(f"  {group.name}: {group.broken} of {group.users}")
    click.echo(f"Rules: {found.exports_checked} exports and {found.rule_sets_checked} rule sets checked")
    for rules in found.rules:
        for broken in rules.breaks:
            click.echo(f"  {rules.kind} {rules.id} ({rules.name}): {broken.pattern} ({broken.kind}): {broken.path}")
    if found.baseline:
        click.echo(
            f"Baseline: hashes of {', '.join(found.baseline)} are of recorded builds; record those of {found.after}."
        )
