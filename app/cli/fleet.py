"""`wayleave fleet`: a made fleet to try Wayleave with, in the database or as senders of reports."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import click

from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.fleet.make import PROFILES, make_fleet
from app.fleet.make_bulk import make_fleet_in_bulk
from app.fleet.queries import count_hosts
from app.ingest.generator import Fleet, change_some
from app.ingest.ledger import compare, read_lines, write_lines
from app.ingest.line import spared_collections
from app.notices.made import watch_days

BULK_FROM = 20_000
"""From so many hosts on, PostgreSQL gets the rows copied in."""
SHOWN = 20


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
    """Make workstations of three departments with a month of history behind them (two weeks where copied in bulk).

    Every page will say that they are made.
    """
    settings = read_settings()
    with opened_database(settings) as engine:
        with session_scope(engine, writes=False) as session:
            counts = count_hosts(session)
        known = counts.active + counts.quarantined + counts.revoked
        if known and not force:
            raise click.ClickException(
                f"There are {known} hosts already. Made ones would mark them all as made: --force does it all the same."
            )
        began = time.monotonic()
        in_bulk = hosts >= BULK_FROM and not settings.is_sqlite
        if in_bulk:
            made = make_fleet_in_bulk(engine, hosts, seed=seed, profile=profile)
        else:
            made = make_fleet(engine, hosts, seed=seed, profile=profile, story=True, each_day=watch_days())
    click.echo(f"Made {made.hosts} workstations with {made.reports} reports in {time.monotonic() - began:.1f} s.")


@command.command()
@click.option("--hosts", required=True, type=click.IntRange(1, 1_000_000), help="How many workstations.")
@click.option(
    "--rate", type=click.FloatRange(min=0.1), help="Reports a second; as fast as they are taken if not given."
)
@click.option("--for", "duration_s", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds.")
@click.option("--url", required=True, help="The server, http://127.0.0.1:8000.")
@click.option("--secret", required=True, help="An enrolment secret good for as many hosts.")
@click.option("--connections", type=click.IntRange(1, 5000), default=64, show_default=True)
@click.option("--new-connection", is_flag=True, help="A new connection for each report.")
@click.option(
    "--changed",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="The share of reports that say that something changed.",
)
@click.option("--ledger", type=click.Path(dir_okay=False, writable=True), help="Where to write what was acknowledged.")
def send(
    hosts: int,
    rate: float | None,
    duration_s: float,
    url: str,
    secret: str,
    connections: int,
    new_connection: bool,
    changed: float,
    ledger: str | None,
) -> None:
    """Enrol made workstations at a running server and let them report, as agents do.

    Each line of the ledger has a host, how many of its reports were acknowledged, and what the last one said. It is
    written also when the command is interrupted or ended; `wayleave fleet compare` holds it against the database.
    """
    try:
        sent = Fleet(url, new_connection=new_connection)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    try:
        asyncio.run(_send(sent, hosts, rate, duration_s, secret, connections, changed))
    except asyncio.CancelledError:
        raise click.Abort from None
    except (OSError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        if ledger:
            with Path(ledger).open("w") as file:
                file.writelines(write_lines(sent.stations))
    tally = sent.tally
    latencies_ms = [one * 1000 for one in sorted(tally.latencies_s)] or [0.0]
    half, most = latencies_ms[len(latencies_ms) // 2], latencies_ms[len(latencies_ms) * 99 // 100]
    click.echo(f"{tally.acknowledged} reports acknowledged; half within {half:.1f} ms, 99 % within {most:.1f} ms.")
    click.echo(f"{tally.missing} times bodies were asked for, {tally.turned_away} times told to come back.")
    click.echo(f"{tally.refused} reports refused, {tally.lost} connections lost, {tally.anew} times begun anew.")


async def _send(
    sent: Fleet,
    hosts: int,
    rate: float | None,
    duration_s: float,
    secret: str,
    connections: int,
    changed: float,
) -> None:
    own = asyncio.current_task()
    if own is not None:
        with suppress(NotImplementedError):  # on Windows: there it ends at once, without a ledger
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    await sent.enrol(secret, hosts, connections=min(connections, 64))
    click.echo(f"{hosts} workstations enrolled.")
    change = change_some(changed, random.Random()) if changed else None  # noqa: S311 - not a secret
    with spared_collections():
        if rate is not None:
            await sent.pace(rate, duration_s, change=change)
        else:
            until_s = time.monotonic() + duration_s
            while time.monotonic() < until_s:
                await sent.saturate(max(hosts, connections), connections=connections, change=change)
    sent.close()


@command.command("compare")
@click.argument("ledger", type=click.File())
def compare_command(ledger: TextIO) -> None:
    """Hold a LEDGER of `fleet send` against the database.

    Exit code 1: a report was lost or counted twice, or a host's state is not the one it was last acknowledged.
    """
    with opened_database(read_settings()) as engine, session_scope(engine, writes=False) as session:
        lines = list(read_lines(ledger))
        wrong = list(compare(session, lines))
    for one in wrong[:SHOWN]:
        if one.kinds:
            click.echo(f"host {one.host_id}, {one.what}: not as last acknowledged: {', '.join(one.kinds)}")
            continue
        became = "lost" if one.is_loss else "counted twice"
        click.echo(
            f"host {one.host_id}, {one.what}: {one.acknowledged} acknowledged, {one.received} in the database: {became}"
        )
    acknowledged = sum(line.acknowledged for line in lines)
    sightings, differ = sum(line.sightings for line in lines), len({one.host_id for one in wrong})
    click.echo(
        f"{len(lines)} workstations, {acknowledged} acknowledged reports with {sightings} sightings,"
        f" {differ} workstations differ."
    )
    if wrong:
        raise SystemExit(1)
