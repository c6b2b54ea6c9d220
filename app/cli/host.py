"""`wayleave host`: erase what is kept of a workstation."""

from __future__ import annotations

import click

from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.errors import NotFoundError
from app.fleet.forget import find_hosts, forget_host


@click.group()
def command() -> None:
    """Erase what is kept of a workstation."""


@command.command()
@click.argument("host")
@click.option("--yes", is_flag=True, help="Don't ask.")
def forget(host: str, yes: bool) -> None:
    """Erase HOST (its name, or its number as in the address of its page), its users, sightings and changes.

    Uninstall the agent there too, or it enrols again while its secret is valid.
    """
    with opened_database(read_settings()) as engine:
        with session_scope(engine, writes=False) as session:
            found = find_hosts(session, host)
        if not found and host.isascii() and host.isdigit():
            found = (int(host),)
        if not found:
            raise click.ClickException(f"There is no host called {host!r}.")
        if len(found) > 1:
            numbers = ", ".join(map(str, found))
            raise click.ClickException(f"There are several hosts called {host!r}: say which by its number ({numbers}).")
        if not yes:
            click.confirm(f"Erase host {found[0]} and all that is kept of its users?", abort=True)
        try:
            with session_scope(engine) as session:
                gone = forget_host(session, found[0], actor=COMMAND_LINE)
        except NotFoundError as error:
            raise click.ClickException(f"There is no host {host}.") from error
    click.echo(f"Erased: {gone.subjects} users, {gone.sightings} sightings, {gone.transitions} changes.")
