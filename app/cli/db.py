"""`wayleave db`: create, migrate and check the database."""

from __future__ import annotations

import click

from app.cli.database import opened_database, read_settings
from app.db.migrate import upgrade
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold

SHOWN = 20


@click.group()
def command() -> None:
    """Create, migrate and check the database."""


@command.command("upgrade")
def upgrade_command() -> None:
    """Bring the database up to date."""
    settings = read_settings()
    with opened_database(settings, migrate=False) as engine:
        upgrade(engine)
    click.echo("The database is up to date.")


@command.command()
@click.option("--repair", is_flag=True, help="Put right what is wrong.")
def check(repair: bool) -> None:
    """Recount every tally from the subjects. Exit code 1: something was wrong (and not repaired)."""
    with opened_database(read_settings()) as engine, engine.connect() as connection:
        drifts = check_tallies(connection, repair=repair)
        if repair:
            connection.execution_options(
                isolation_level="READ COMMITTED" if engine.name == "postgresql" else "SERIALIZABLE"
            )
            fold(connection, ContributionCache())
    if not drifts:
        click.echo("All counts are right.")
        return
    for drift in drifts[:SHOWN]:
        click.echo(f"{drift.what}: {drift.counted} counted, {drift.actual} is right")
    if len(drifts) > SHOWN:
        click.echo(f"... and {len(drifts) - SHOWN} more")
    click.echo(f"{len(drifts)} counts were wrong; {'repaired.' if repair else 'run with --repair to put them right.'}")
    if not repair:
        raise SystemExit(1)
