"""`wayleave baseline`: record what an administrator vouches for or a vendor publishes, list it, drop it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from agent.pe import FileIdentity, PeError, identify
from agent.pe.listing import MAX_LISTING_BYTES, Listing, ListingError, read_listing
from app.db.engine import open_engine
from app.db.session import session_scope
from app.errors import AppError, InvalidError
from app.policies.baselines import (
    RULE_KINDS,
    Added,
    TrustedFile,
    add_baseline_files,
    add_listing,
    list_baseline_files,
    remove_baseline_file,
)
from app.policies.checksums import MAX_CHECKSUM_BYTES
from app.policies.vendor_archives import (
    add_vendor_archive,
    check_archive,
    list_vendor_archives,
    remove_vendor_archive,
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

    A folder stands for the programs, scripts and installers below it. A list that `wayleave-agent baseline` wrote on a
    trusted machine (.json) stands for the files in it. A rule made from them admits these very files, wherever a user
    puts them.
    """
    lists = [path for path in files if path.is_file() and path.suffix.lower() == ".json"]
    listings = [(path, _read_listing(path)) for path in lists]
    given = list(_identities([path for path in files if path not in lists], with_libraries))
    identities = [*given, *(one.identity for _, listing in listings for one in listing.files)]
    if not identities:
        raise click.UsageError("no program, script or installer among these files")
    with _session() as session:
        done = Added(added=(), known=())
        if given:
            done = add_baseline_files(session, given, source=source or str(files[0].absolute().parent))
        for path, listing in listings:
            some = add_listing(session, listing, name=path.name, source=source)
            done = Added(added=(*done.added, *some.added), known=(*done.known, *some.known))
    for file in done.added:
        click.echo(f"added  {_line(file)}")
    for file in done.known:
        click.echo(f"known  {_line(file)}")
    for identity in identities:
        for problem in identity.problems:
            click.echo(f"{identity.name}: {problem}", err=True)
    click.echo(f"{len(identities)} read, {len(done.added)} added, {len(done.known)} known already", err=True)


@command.command("add-archive")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--checksums",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The vendor's checksum file: SHA256SUMS or NAME.sha256.",
)
def add_archive(archive: Path, checksums: Path) -> None:
    """Trust the files of a vendor's ARCHIVE (zip, whl, nupkg, tar, tar.gz, or a program alone).

    It must be what its vendor's checksum file publishes; then each program in it is hashed here.
    """
    try:
        checked = check_archive(archive, archive.name, _bounded(checksums, MAX_CHECKSUM_BYTES), checksums.name)
    except InvalidError as error:
        raise click.UsageError(error.message) from error
    with _session() as session:
        done = add_vendor_archive(session, checked)
    for file in done.added:
        click.echo(f"added  {_line(file)}")
    for file in done.known:
        click.echo(f"known  {_line(file)}")
    for path, why in done.left_out:
        click.echo(f"{path}: left out: {why}", err=True)
    click.echo(f"{checked.name}  sha256:{checked.sha256}  as {checked.checksum_name} line {checked.checksum_line} says")
    click.echo(f"{len(done.added)} added, {len(done.known)} known already", err=True)


@command.command("archives")
def archives() -> None:
    """List the vendors' archives."""
    with _session() as session:
        found = list_vendor_archives(session)
    for one in found:
        click.echo(f"{one.id:>5}  {one.name}  {one.files} files  sha256:{one.sha256}  {one.checksum_name}")
    if not found:
        click.echo("No archives yet: add one with `wayleave baseline add-archive`.", err=True)


@command.command("remove-archive")
@click.argument("archive_id", type=int)
def remove_archive(archive_id: int) -> None:
    """Trust the archive with this number (see `archives`) no longer, nor files that only it spoke for."""
    with _session() as session:
        click.echo(f"{remove_vendor_archive(session, archive_id)} files are no longer trusted")


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


def _identities(files: Sequence[Path], with_libraries: bool) -> Iterator[FileIdentity]:
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


def _read_listing(path: Path) -> Listing:
    try:
        return read_listing(_bounded(path, MAX_LISTING_BYTES))
    except ListingError as error:
        raise click.UsageError(f"{path}: {error}") from error


def _bounded(path: Path, most: int) -> bytes:
    """The file, or one byte more than is taken."""
    with path.open("rb") as file:
        return file.read(most + 1)


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
