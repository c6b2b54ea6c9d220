"""`wayleave token`: API tokens for programs."""

from __future__ import annotations

import click

from app.accounts.errors import AccountError
from app.accounts.roles import Role
from app.accounts.tokens import create_token
from app.cli.database import opened_database, read_settings
from app.cli.enrol_secret import read_expiry
from app.db.session import session_scope


@click.group()
def command() -> None:
    """API tokens for programs."""


@command.command()
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]), help="What it may do.")
@click.option("--label", default="command line", help="What it is for.")
@click.option("--expires", help="When it ends: 30m, 12h, 7d, or a date. For ever if not given.")
def create(role: str, label: str, expires: str | None) -> None:
    """Print a new token. It is shown only here."""
    expires_at = read_expiry(expires) if expires else None
    with opened_database(read_settings()) as engine:
        try:
            with session_scope(engine) as session:
                token = create_token(session, role, label, expires_at)
        except AccountError as error:
            raise click.ClickException(str(error)) from error
    click.echo(token)
