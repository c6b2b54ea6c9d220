"""`wayleave admin`: administrators, made without a browser."""

from __future__ import annotations

import sys

import click

from app.accounts.create import create_account
from app.accounts.errors import AccountError
from app.accounts.roles import Role
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope


@click.group()
def command() -> None:
    """Administrators, made without a browser."""


@command.command()
@click.option("--email", required=True, help="The administrator's address, with which they sign in.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input (its first line).")
def create(email: str, password_stdin: bool) -> None:
    """Create an administrator."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    with opened_database(read_settings()) as engine:
        try:
            with session_scope(engine) as session:
                create_account(session, email, password, Role.ADMINISTRATOR)
        except AccountError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"{email} can sign in as administrator.")
