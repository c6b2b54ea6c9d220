"""`wayleave baseline`: record the identities of files that an administrator vouches for, list them, drop them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from agent.pe import FileIdentity, PeError, identify
from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import AppError
from app.policies.baselines import (
    RULE_KINDS,
    TrustedFile,
    add_baseline_files,
    list_baseline_files,
    remove_baseline_file,
)
from app.settings import Settings

MAX_FILES = 5000


@click.group("baseline")
def command() -> None:
    """Trusted files: the only source of hash rules."""


@command.command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--source", default=None, help="Where the files were taken from. [default: the folder of the first]")
@click.option("--with-libraries", is_flag=True, help="In folders, take DLLs too (a Python build has dozens).")
def add(files: tuple[Path, ...], source: str | None, with_libraries: bool) -> None:
    """Record FILES as trusted: programs, libraries, scripts and installers from an installation you trust.

    A folder stands for the programs, scripts and installers below it. A rule made from them admits these very files,
    wherever a user puts them.
    """
    identities = list(_identities(files, with_libraries))
    if not identities:
        raise click.UsageError("no program, script or installer among these files")
    with _session() as session:
        done = add_baseline_files(session, identities, source=source or str(files[0].absolute().parent))
    for file in done.added:
        click.echo(f"added  {_line(file)}")
    for file in done.known:
        click.echo(f"known  {_line(file)}")
    for identity in identities:
        for problem in identity.problems:
            click.echo(f"{identity.name}: {problem}", err=True)
    click.echo(f"{len(identities)} read, {len(done.added)} added, {len(done.known)} known already", err=True)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def list_(as_json: bool) -> None:
    """List the trusted files."""
    with _session() as session:
        files = list_baseline_files(session)
    if as_json:
        rows = [dataclasses.asdict(file) | {"added_at": file.added_at.isoformat()} for file in files]
        click.echo(json.dumps(rows, indent=2))
        return
    for file in files:
        click.echo(_line(file))
    if not files:
        click.echo("No trusted files yet: add some with `wayleave baseline add FILE...`.", err=True)


@command.command("remove")
@click.argument("file_id", type=int)
def remove(file_id: int) -> None:
    """Trust the file with this number (see `list`) no longer. Exported rules stay where they are."""
    with _session() as session:
        click.echo(f"removed  {_line(remove_baseline_file(session, file_id))}")


def _identities(files: tuple[Path, ...], with_libraries: bool) -> Iterator[FileIdentity]:
    """Identify files, and in folders all that AppLocker checks. A file that was named must be usable."""
    count = 0
    for named in files:
        is_folder = named.is_dir()
        inside = sorted(path for path in named.rglob("*") if path.is_file()) if is_folder else [named]
        for path in inside:
            try:
                identity = identify(path)
            except (PeError, OSError) as error:
                if is_folder and isinstance(error, PeError):
                    click.echo(f"{path}: left out: {error}", err=True)
                    continue
                raise click.UsageError(f"{path}: {error}") from error
            if is_folder and (identity.kind not in RULE_KINDS or identity.size_bytes == 0):
                continue
            if is_folder and identity.kind == "dll" and not with_libraries:
                continue
            count += 1
            if count > MAX_FILES:
                raise click.UsageError(f"more than {MAX_FILES} files; name fewer")
            yield identity


def _line(file: TrustedFile) -> str:
    signed = file.publisher or "unsigned"
    return f"{file.id:>5}  {file.name}  {file.version or '-'}  {file.kind}  {file.rule_sha256}  {signed}"


@contextmanager
def _session() -> Iterator[Session]:
    """One transaction on the configured database; what is wrong becomes a message and exit code 2."""
    engine = open_engine(Settings())
    try:
        with session_scope(engine) as session:
            yield session
    except AppError as error:
        raise click.UsageError(f"{error.field}: {error.message}" if error.field else error.message) from error
    except DatabaseError as error:
        raise click.ClickException(f"{error.orig}. Is the database there? See `wayleave db upgrade`.") from error
    finally:
        engine.dispose()
