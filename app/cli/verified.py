"""`wayleave verified`: record what the conformance kit observed on real PCs, and list it."""

from __future__ import annotations

from pathlib import Path

import click

from app.applocker.model import AppLockerError
from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.errors import AppError
from app.policies.verified import MAX_BYTES, list_verified, read_observation, record_observation


@click.group()
def command() -> None:
    """What real PCs did with the cases of the conformance kit."""


@command.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(file: Path) -> None:
    """Record the answers in FILE, written by conformance/Test-WayleaveAssumptions.ps1.

    A file loaded twice counts once. Exit codes: 0 the engine agrees with all of them, 1 it does not, 2 invalid input.
    """
    with file.open("rb") as content:
        data = content.read(MAX_BYTES + 1)
    try:
        observation = read_observation(data)
    except AppLockerError as error:
        raise click.UsageError(f"{file}: " + "; ".join(problem.message for problem in error.problems[:5])) from error
    except AppError as error:
        raise click.UsageError(f"{file}: {error.field}: {error.message}") from error
    with opened_database(read_settings()) as engine, session_scope(engine) as session:
        added = record_observation(session, observation, actor=COMMAND_LINE)
    wrong = [case for case in observation.cases if case.differences]
    for case in wrong:
        click.echo(f"{case.case_id}: {'; '.join(case.differences)}")
    click.echo(
        f"{observation.windows} {observation.windows_build}: {len(observation.cases)} cases read, {added} recorded, "
        f"{len(observation.cases) - added} known already; the engine disagrees with {len(wrong)}."
    )
    if wrong:
        raise click.exceptions.Exit(1)


@command.command("list")
def show() -> None:
    """List every recorded answer, by case."""
    with opened_database(read_settings()) as engine, session_scope(engine, writes=False) as session:
        found = list_verified(session)
    for one in found:
        start = "judged" if one.error is None else "started" if one.error == 0 else f"refused with {one.error}"
        agrees = "agrees" if one.agrees else f"DISAGREES: {one.engine_decision}"
        settles = f"  settles {', '.join(one.doubts)}" if one.doubts else ""
        when = f"{one.windows_build}  {one.observed_at:%Y-%m-%d}"
        click.echo(f"{one.case_id}  {when}  {one.decision}, {start}; {agrees}{settles}")
    if not found:
        click.echo("Nothing has been verified on a real PC yet: see docs/verified.md.")
