"""`wayleave host`: approve, move, revoke or erase a workstation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Engine, select

from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.errors import AppError
from app.fleet.forget import find_hosts, forget_host
from app.fleet.hosts import approve_host, mark_shared, move_host, revoke_host
from app.fleet.tables import HostGroup


@click.group()
def command() -> None:
    """Approve, move, revoke or erase a workstation.

    HOST is its name, or its number as in the address of its page.
    """


@command.command()
@click.argument("host")
def approve(host: str) -> None:
    """Let HOST out of quarantine; its users count from their next report on."""
    with _found(host) as (engine, host_id), session_scope(engine) as session:
        approve_host(session, host_id, actor=COMMAND_LINE)
    click.echo(f"Approved: {host}.")


@command.command()
@click.argument("host")
@click.option("--group", required=True, help="Name of the group.")
def move(host: str, group: str) -> None:
    """Put HOST, with its users' counts, into another group."""
    with _found(host) as (engine, host_id), session_scope(engine) as session:
        group_id = session.scalar(select(HostGroup.id).where(HostGroup.name == group))
        if group_id is None:
            raise click.ClickException(f"There is no group called {group!r}.")
        move_host(session, host_id, group_id, actor=COMMAND_LINE)
    click.echo(f"Moved: {host} is in {group}.")


@command.command()
@click.argument("host")
@click.option("--no", "undo", is_flag=True, help="It is not, or no longer.")
def shared(host: str, undo: bool) -> None:
    """Mark HOST as one that many users share (remote desktops): it may bring more users and facts in a day."""
    with _found(host) as (engine, host_id):
        try:
            with session_scope(engine) as session:
                mark_shared(session, host_id, shared=not undo, actor=COMMAND_LINE)
        except AppError as error:
            raise click.ClickException(error.message) from error
    click.echo(f"{'Not shared' if undo else 'Shared'}: {host}.")


@command.command()
@click.argument("host")
@click.option("--yes", is_flag=True, help="Don't ask.")
def revoke(host: str, yes: bool) -> None:
    """Make HOST's token worthless and take its users out of the counts; what is kept of it stays."""
    with _found(host) as (engine, host_id):
        if not yes:
            click.confirm(f"Revoke host {host_id}? Its agent stops until it is enrolled again.", abort=True)
        with session_scope(engine) as session:
            revoke_host(session, host_id, actor=COMMAND_LINE)
    click.echo(f"Revoked: {host}.")


@command.command()
@click.argument("host")
@click.option("--yes", is_flag=True, help="Don't ask.")
def forget(host: str, yes: bool) -> None:
    """Erase HOST, its users, sightings and changes.

    Uninstall the agent there too, or it enrols again while its secret is valid.
    """
    with _found(host) as (engine, host_id):
        if not yes:
            click.confirm(f"Erase host {host_id} and all that is kept of its users?", abort=True)
        with session_scope(engine) as session:
            gone = forget_host(session, host_id, actor=COMMAND_LINE)
    click.echo(f"Erased: {gone.subjects} users, {gone.sightings} sightings, {gone.transitions} changes.")


@contextmanager
def _found(host: str) -> Iterator[tuple[Engine, int]]:
    """The database and the host's id. raises: ClickException for a name of none or of several."""
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
        yield engine, found[0]
