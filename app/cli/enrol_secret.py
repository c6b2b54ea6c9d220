"""`wayleave enrol-secret`: secrets with which agents enrol."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.fleet.groups import make_standard_groups
from app.ingest.secrets import make_secret

_SPAN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_expiry(text: str) -> datetime:
    """`30m`, `12h`, `7d`, or a date like 2026-12-31 (the end of that day, UTC).

    raises: click.BadParameter.
    """
    if match := _SPAN.fullmatch(text):
        return datetime.now(UTC) + timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter("give 30m, 12h, 7d, or a date like 2026-12-31", param_hint="--expires") from error
    if len(text) <= len("2026-12-31"):
        at += timedelta(days=1)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@click.group()
def command() -> None:
    """Secrets with which agents enrol."""


@command.command()
@click.option("--uses", type=click.IntRange(min=1), help="How many hosts may enrol with it (any number if not given).")
@click.option("--expires", help="When it ends: 30m, 12h, 7d, or a date. For ever if not given.")
@click.option("--group", help="The group of the hosts that enrol with it; made if there is none of this name.")
@click.option("--network", help="Only from this network, like 10.1.0.0/16.")
@click.option("--note", default="", help="What it is for.")
@click.option("--trial", is_flag=True, help="For agents that users run themselves: what they report stays unattested.")
def create(
    uses: int | None, expires: str | None, group: str | None, network: str | None, note: str, trial: bool
) -> None:
    """Print a new secret. It is shown only here."""
    expires_at = read_expiry(expires) if expires else None
    with opened_database(read_settings()) as engine, session_scope(engine) as session:
        make_standard_groups(session)
        secret = make_secret(
            session,
            uses=uses,
            expires_at=expires_at,
            network=network,
            group=group,
            note=note,
            trial=trial,
            actor=COMMAND_LINE,
        )
    click.echo(secret)
