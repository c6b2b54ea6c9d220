"""`wayleave import`: event logs and exports of other products as sightings, with progress and a report."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from app.audit.record import COMMAND_LINE
from app.cli.database import opened_database, read_settings
from app.db.session import session_scope
from app.errors import AppError
from app.imports.jobs import FAILED, Import, begin_import, find_unfinished, fingerprint, get_import
from app.imports.model import FileError, Given
from app.imports.read import FORMAT_WORDS, read_beginning, recognise
from app.imports.run import run_import
from app.imports.uploads import upload_path
from app.ingest.keys import load_keys

TELL_EVERY_S = 5.0


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--host", "computer", default="", help="The computer, for a list of files that does not name it.")
@click.option(
    "--event-type",
    type=click.Choice(["denied", "audited"]),
    default=None,
    help="What a list of files holds: as Get-AppLockerFileInformation was told.",
)
@click.option(
    "variables", "--env", multiple=True, metavar="NAME=VALUE", help="A variable that moved uv's directories there."
)
@click.option("--processes", type=click.IntRange(1, 2), default=2, show_default=True, help="To read large event logs.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array with one report a file.")
@click.option("--job", "job_id", type=int, default=None, hidden=True, help="Read an uploaded file.")
def command(
    files: tuple[Path, ...],
    computer: str,
    event_type: str | None,
    variables: tuple[str, ...],
    processes: int,
    as_json: bool,
    job_id: int | None,
) -> None:
    """Import the events of uv's files from FILEs: what agents would have told, told by files.

    A FILE is an event log (.evtx, also of forwarded events), event XML (`wevtutil qe`, Event Viewer), CSV or JSON from
    Defender, Sentinel, Splunk or Elastic, or what Get-AppLockerFileInformation prints. A file read twice adds nothing;
    one that was interrupted is continued. Exit codes: 0 all read, 2 a file could not be.
    """
    if job_id is not None:
        _read_upload(job_id)
        return
    if not files:
        raise click.UsageError("Name at least one FILE.")
    env = dict(_split(given) for given in variables)
    reports, is_failed = [], False
    settings = read_settings()
    with opened_database(settings) as engine:
        for file in files:
            try:
                kind = recognise(read_beginning(file))
                at = round(file.stat().st_mtime * 1000)
                given = Given(computer=computer, event_type=event_type or "", at=at, env=env)
                known_by = fingerprint(file)
                with session_scope(engine) as session:
                    found = find_unfinished(session, known_by, kind, given)
                    job_id = found.id if found else None
                    if job_id is None:
                        job_id = begin_import(
                            session,
                            name=file.name,
                            size_bytes=file.stat().st_size,
                            fingerprint=known_by,
                            kind=kind,
                            given=given,
                            is_upload=False,
                            actor=COMMAND_LINE,
                        )
                if found and found.read_bytes:
                    click.echo(f"{file}: goes on after {_size(found.read_bytes)}", err=True)
                teller = _Teller(str(file))
                done = run_import(
                    engine,
                    job_id,
                    file,
                    keys=load_keys(settings),
                    retention_days=settings.retention_days,
                    actor=COMMAND_LINE,
                    processes=processes,
                    tell=teller.tell,
                )
                teller.clear()
            except (FileError, OSError, AppError) as error:
                words = error.message if isinstance(error, AppError) else getattr(error, "strerror", None) or error
                click.echo(f"{file}: {words}", err=True)
                is_failed = True
                continue
            except KeyboardInterrupt:
                click.echo(f"\n{file}: stopped; the same command goes on from here.", err=True)
                raise
            is_failed |= done.state == FAILED
            if as_json:
                reports.append(report_of(done))
            else:
                click.echo("\n".join(describe(done)))
    if as_json:
        click.echo(json.dumps(reports, indent=1))
    if is_failed:
        sys.exit(2)


def report_of(done: Import) -> dict[str, object]:
    """An import's report as JSON."""
    return {
        "file": done.name,
        "kind": done.kind.format.value,
        "state": done.state,
        "bytes": done.size_bytes,
        "seconds": done.took_ms / 1000,
        "events": done.events,
        "added": done.added,
        "known": done.known,
        "hosts_made": done.hosts_made,
        "left_out": dict(done.left_out),
        "problems": [{"place": place, "message": message} for place, message in done.problems],
        "fault": done.fault or None,
    }


def describe(done: Import) -> list[str]:
    """An import's report in lines."""
    if done.state == FAILED:
        return [f"{done.name}: {done.fault}"]
    lines = [
        f"{done.name} ({FORMAT_WORDS[done.kind.format]}, {_size(done.size_bytes)}): {done.state} in "
        f"{done.took_ms / 1000:.1f} s, {_size(done.bytes_a_second)} a second",
        f"  {done.events:,} events read: {done.added:,} sightings added, {done.known:,} were there already"
        + (f"; {done.hosts_made:,} hosts that no agent speaks for" if done.hosts_made else ""),
    ]
    lines += [f"  {count:,} left out: {reason}" for reason, count in done.left_out.items()]
    lines += [f"  {place}: {message}" for place, message in done.problems]
    return lines


class _Teller:
    """Tells how far an import is: on a terminal in one line that changes, elsewhere a line now and then."""

    def __init__(self, name: str) -> None:
        self._name, self._is_terminal = name, sys.stderr.isatty()
        self._due_s = time.monotonic() + (0 if self._is_terminal else TELL_EVERY_S)

    def tell(self, found: Import) -> None:
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + (0.5 if self._is_terminal else TELL_EVERY_S)
        share = 100 * found.read_bytes // max(found.size_bytes, 1)
        left = "" if found.remaining_s is None else f", {found.remaining_s:.0f} s left"
        words = f"{self._name}: {share} %, {_size(found.bytes_a_second)} a second{left}, {found.added:,} added"
        click.echo(f"\r\x1b[K{words}" if self._is_terminal else words, err=True, nl=not self._is_terminal)

    def clear(self) -> None:
        if self._is_terminal:
            click.echo("\r\x1b[K", err=True, nl=False)


def _read_upload(job_id: int) -> None:
    settings = read_settings()
    with opened_database(settings, migrate=False) as engine:
        with session_scope(engine, writes=False) as session:
            name = get_import(session, job_id).name
        path = upload_path(settings.data_dir, job_id)
        done = run_import(
            engine,
            job_id,
            path,
            keys=load_keys(settings),
            retention_days=settings.retention_days,
            actor=COMMAND_LINE,
        )
        if done.is_over:
            path.unlink(missing_ok=True)
    click.echo(f"{name}: {done.state}", err=True)


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--env")
    return name, value


def _size(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} KB"
