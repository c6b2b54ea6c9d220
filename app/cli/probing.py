"""`wayleave probing`: the kill switch, for all hosts or a group."""

from __future__ import annotations

from collections.abc import Callable

import click
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.errors import AppError
from app.fleet.probing import list_stops, resume_probing, stop_probing
from app.fleet.tables import HostGroup


@click.group()
def command() -> None:
    """Stop agents from placing and starting anything, and let them go on."""


@command.command()
@click.option("--group", help="Only the hosts of this group. All hosts if not given.")
@click.option("--reason", default="", help="Why; it is shown to other administrators.")
def stop(group: str | None, reason: str) -> None:
    """Stop probing. Agents obey with their next report, and remember it."""
    _change(group, lambda session, group_id: stop_probing(session, group_id, reason=reason, actor=COMMAND_LINE))
    click.echo(f"Stopped: {group or 'all hosts'}. Agents obey with their next report.")


@command.command()
@click.option("--group", help="Only the hosts of this group. The stop of all hosts if not given.")
def resume(group: str | None) -> None:
    """Let probing go on."""
    _change(group, lambda session, group_id: resume_probing(session, group_id, actor=COMMAND_LINE))
    click.echo(f"Resumed: {group or 'all hosts'}.")


@command.command()
def status() -> None:
    """Where probing is stopped. Exit code 1 if it is anywhere."""
    with opened_database(read_settings()) as engine, session_scope(engine, writes=False) as session:
        stops = list_stops(session)
    if not stops:
        click.echo("Probing is stopped nowhere.")
        return
    for one in stops:
        reason = f": {one.reason}" if one.reason else ""
        click.echo(f"{one.group or 'all hosts'}, by {one.stopped_by} at {one.stopped_at:%Y-%m-%d %H:%M} UTC{reason}")
    raise SystemExit(1)


def _change(group: str | None, change: Callable[[Session, int | None], None]) -> None:
    with opened_database(read_settings()) as engine, session_scope(engine) as session:
        group_id = None
        if group is not None:
            group_id = session.scalar(select(HostGroup.id).where(HostGroup.name == group))
            if group_id is None:
                raise click.ClickException(f"There is no group called {group!r}.")
        try:
            change(session, group_id)
        except AppError as error:
            raise click.ClickException(error.message) from error
