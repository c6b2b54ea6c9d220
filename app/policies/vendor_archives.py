"""Vendors' archives as a ground for rules: checked against the published checksum, hashed by the server itself.

What is kept says it all: the archive's name and digest, which file's which line published it, that file's own digest,
who added it and when.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.audit.record import COMMAND_LINE, Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import InvalidError, NotFoundError
from app.policies.archives import ArchiveFile, Unpacked, identify_archive, sha256_of
from app.policies.baselines import TrustedFile, add_baseline_files
from app.policies.checksums import Checksum, find_checksum
from app.policies.tables import BaselineFile, VendorArchive, VendorArchiveFile

MAX_PATH_LETTERS = 4096
SHOWN_ARCHIVES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedArchive:
    """An archive that is what its vendor published, and what is in it. `checksum_sha256`: of the checksum file."""

    name: str
    sha256: str
    size_bytes: int
    checksum_name: str
    checksum_sha256: str
    checksum_line: int
    unpacked: Unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedArchive:
    """What came of an archive: files that are new, and those that were trusted before."""

    id: int
    added: tuple[TrustedFile, ...]
    known: tuple[TrustedFile, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLine:
    """An archive in a list. `files`: trusted files that were found in it."""

    id: int
    name: str
    sha256: str
    size_bytes: int
    checksum_name: str
    checksum_sha256: str
    checksum_line: int
    added_at: datetime
    added_by: str
    files: int


def check_archive(archive: Path, name: str, checksums: bytes, checksum_name: str) -> CheckedArchive:
    """Hold an archive against its vendor's checksum file, then identify what is in it. Needs no database.

    raises: InvalidError about `archive` or `checksums`, naming file and line.
    """
    name, checksum_name = _checked_name(name, "archive"), _checked_name(checksum_name, "checksums")
    published: Checksum = find_checksum(checksums, name, checksum_name=checksum_name)
    sha256 = sha256_of(archive)
    if sha256 != published.sha256:
        raise InvalidError(
            f"{name} is not what {checksum_name}, line {published.line}, publishes: its SHA-256 is {sha256}, not "
            f"{published.sha256}. It was damaged or changed on its way.",
            field="archive",
        )
    unpacked = identify_archive(archive, name)
    if not unpacked.files:
        raise InvalidError(f"{name} holds no program, library, script or installer for Windows.", field="archive")
    return CheckedArchive(
        name=name,
        sha256=sha256,
        size_bytes=archive.stat().st_size,
        checksum_name=checksum_name,
        checksum_sha256=hashlib.sha256(checksums).hexdigest(),
        checksum_line=published.line,
        unpacked=unpacked,
    )


def add_vendor_archive(session: Session, checked: CheckedArchive, *, actor: Actor = COMMAND_LINE) -> AddedArchive:
    """Trust the files of a checked archive. One that is there already is told again. raises: InvalidError"""
    source = (
        f"vendor archive {checked.name}, sha256:{checked.sha256}, published in {checked.checksum_name} line "
        f"{checked.checksum_line} (sha256:{checked.checksum_sha256})"
    )
    by_digest: dict[str, ArchiveFile] = {}
    for file in checked.unpacked.files:
        by_digest.setdefault(file.identity.sha256, file)
    done = add_baseline_files(
        session,
        [file.identity for file in by_digest.values()],
        source=_shortened(source),
        actor=actor,
        is_vouched_for=False,
    )
    row = session.scalar(select(VendorArchive).where(VendorArchive.sha256 == checked.sha256))
    if row is None:
        row = VendorArchive(
            name=checked.name,
            sha256=checked.sha256,
            size_bytes=checked.size_bytes,
            checksum_name=checked.checksum_name,
            checksum_sha256=checked.checksum_sha256,
            checksum_line=checked.checksum_line,
            added_at=from_ms(to_ms(now())),
            added_by=actor.name[:254],
        )
        session.add(row)
        session.flush()
    linked = set(session.scalars(select(VendorArchiveFile.file_id).where(VendorArchiveFile.archive_id == row.id)))
    for files, is_only_ground in ((done.added, True), (done.known, False)):
        session.add_all(
            VendorArchiveFile(
                archive_id=row.id,
                file_id=file.id,
                path=by_digest[file.sha256].path[:MAX_PATH_LETTERS],
                is_only_ground=is_only_ground,
            )
            for file in files
            if file.id not in linked
        )
    record(
        session,
        actor,
        "baseline.archive_added",
        checked.name,
        sha256=checked.sha256,
        checksums=checked.checksum_name,
        checksums_sha256=checked.checksum_sha256,
        line=checked.checksum_line,
        added=len(done.added),
        known=len(done.known),
    )
    session.flush()
    return AddedArchive(id=row.id, added=done.added, known=done.known, left_out=checked.unpacked.left_out)


def remove_vendor_archive(session: Session, archive_id: int, *, actor: Actor = COMMAND_LINE) -> int:
    """Trust an archive no longer, nor the files that only it spoke for; how many. raises: NotFoundError"""
    row = session.get(VendorArchive, archive_id)
    if row is None:
        raise NotFoundError(f"There is no vendor archive {archive_id}.")
    unvouched = select(VendorArchiveFile.file_id).where(
        VendorArchiveFile.archive_id == archive_id, VendorArchiveFile.is_only_ground
    )
    elsewhere = select(VendorArchiveFile.file_id).where(VendorArchiveFile.archive_id != archive_id)
    ids = list(session.scalars(unvouched.where(VendorArchiveFile.file_id.not_in(elsewhere))))
    # Files that another archive holds too now rest on that one.
    session.execute(
        update(VendorArchiveFile)
        .where(VendorArchiveFile.archive_id != archive_id, VendorArchiveFile.file_id.in_(unvouched.scalar_subquery()))
        .values(is_only_ground=True)
        .execution_options(synchronize_session=False)
    )
    session.execute(delete(VendorArchiveFile).where(VendorArchiveFile.archive_id == archive_id))
    for begin in range(0, len(ids), 500):
        session.execute(delete(BaselineFile).where(BaselineFile.id.in_(ids[begin : begin + 500])))
    session.delete(row)
    record(session, actor, "baseline.archive_removed", row.name, sha256=row.sha256, files=len(ids))
    session.flush()
    return len(ids)


def list_vendor_archives(session: Session) -> tuple[ArchiveLine, ...]:
    """The archives, newest first."""
    files = func.count(VendorArchiveFile.file_id)
    rows = session.execute(
        select(VendorArchive, files)
        .outerjoin(VendorArchiveFile, VendorArchiveFile.archive_id == VendorArchive.id)
        .group_by(VendorArchive.id)
        .order_by(VendorArchive.added_at.desc(), VendorArchive.id.desc())
        .limit(SHOWN_ARCHIVES)
    )
    return tuple(
        ArchiveLine(
            id=row.id,
            name=row.name,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            checksum_name=row.checksum_name,
            checksum_sha256=row.checksum_sha256,
            checksum_line=row.checksum_line,
            added_at=row.added_at,
            added_by=row.added_by,
            files=count,
        )
        for row, count in rows
    )


def _checked_name(name: str, field: str) -> str:
    last = name.replace("\\", "/").rpartition("/")[2].strip()
    if not last or len(last) > 255 or not last.isprintable():
        raise InvalidError("A file name of 1 to 255 printable letters is needed.", field=field)
    return last


def _shortened(source: str) -> str:
    return source if len(source) <= 500 else source[:499] + "…"
