"""`wayleave fleet`: a made fleet to try Wayleave with."""

from __future__ import annotations

import time

import click

from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.fleet.make import PROFILES, make_fleet
from app.fleet.queries import count_hosts


@click.group()
def command() -> None:
    """A made fleet to try Wayleave with."""


@command.command()
@click.option("--hosts", required=True, type=click.IntRange(1, 5_000_000), help="How many workstations.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same fleet.")
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="uniform",
    show_default=True,
    help="How alike they are: in diverse and hostile fleets few facts are shared.",
)
@click.option("--force", is_flag=True, help="Also into a database that has hosts already.")
def make(hosts: int, seed: int, profile: str, force: bool) -> None:
    """Make workstations of three departments with two weeks of history. Every page will say that they are made."""
    with opened_database(read_settings()) as engine:
        with session_scope(engine, writes=False) as session:
            counts = count_hosts(session)
        known = counts.active + counts.quarantined + counts.revoked
        if known and not force:
            raise click.ClickException(
                f"There are {known} hosts already. Made ones would mark them all as made: --force does it all the same."
            )
        began = time.monotonic()
        made = make_fleet(engine, hosts, seed=seed, profile=profile)
    click.echo(f"Made {made.hosts} workstations with {made.reports} reports in {time.monotonic() - began:.1f} s.")
