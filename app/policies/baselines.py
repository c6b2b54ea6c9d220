"""Trusted identities: what an administrator took from a trusted installation, and the only source of hash rules.

They come on the administrator's word, or from a vendor's archive that the server checked and hashed itself; nothing
that a workstation reported ever gets in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from agent.pe import FileIdentity
from agent.pe.listing import Listing
from app.audit.record import COMMAND_LINE, Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import InvalidError, NotFoundError
from app.policies.tables import BaselineFile, VendorArchive, VendorArchiveFile

MAX_SOURCE_LETTERS = 500
SEPARATELY_AUDITED = 200
"""Of one addition, so many files have an entry of their own in the audit log; the others are in its one for all."""

_AT_ONCE = 500
RULE_KINDS = ("exe", "dll", "script", "msi")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFile:
    """One file of the baseline. `kind`: exe, dll, script or msi; `rule_sha256`: what a hash rule compares.

    `archive`: the vendor's archive in which the server found it, if there is one.
    """

    id: int
    name: str
    size_bytes: int
    sha256: str
    authenticode_sha256: str | None
    kind: str
    publisher: str | None
    product: str | None
    binary: str | None
    version: str | None
    source: str
    added_at: datetime
    added_by: str
    archive: str | None = None

    @property
    def rule_sha256(self) -> str:
        return self.authenticode_sha256 or self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What came of adding files: the new ones, and those that were already there."""

    added: tuple[TrustedFile, ...]
    known: tuple[TrustedFile, ...]


def add_baseline_files(
    session: Session,
    identities: Iterable[FileIdentity],
    *,
    source: str,
    actor: Actor = COMMAND_LINE,
    is_vouched_for: bool = True,
) -> Added:
    """Record files as trusted, all or none. `is_vouched_for`: on somebody's word, not for an archive's checksum alone.

    raises: InvalidError about `source`, or about a file that no hash rule could ever match.
    """
    checked_source = _checked_source(source)
    identities = tuple(identities)
    for identity in identities:
        _check_identity(identity)
    at = from_ms(to_ms(now()))  # as precise as it is stored
    present = _present(session, [identity.sha256 for identity in identities])
    added: dict[str, BaselineFile] = {}
    known: dict[str, BaselineFile] = {}
    for identity in identities:
        if identity.sha256 in added or identity.sha256 in known:
            continue
        if identity.sha256 in present:
            known[identity.sha256] = present[identity.sha256]
            continue
        added[identity.sha256] = BaselineFile(
            sha256=identity.sha256,
            authenticode_sha256=identity.authenticode_sha256,
            name=identity.name,
            size_bytes=identity.size_bytes,
            kind=identity.kind,
            publisher=identity.publisher,
            product=identity.product,
            binary=identity.binary,
            version=identity.version,
            source=checked_source,
            added_at=at,
            added_by=actor.name[:254],
        )
    if is_vouched_for:
        for some in _parts(list(known)):
            ids = select(BaselineFile.id).where(BaselineFile.sha256.in_(some)).scalar_subquery()
            session.execute(
                update(VendorArchiveFile)
                .where(VendorArchiveFile.file_id.in_(ids))
                .values(is_only_ground=False)
                .execution_options(synchronize_session=False)
            )
    session.add_all(added.values())
    session.flush()  # the answer names the ids
    for row in list(added.values())[:SEPARATELY_AUDITED]:
        record(session, actor, "baseline.added", row.name, sha256=row.sha256, source=checked_source)
    if len(added) > SEPARATELY_AUDITED:
        record(session, actor, "baseline.many_added", checked_source, files=len(added), known=len(known))
    return Added(
        added=tuple(_trusted(row) for row in added.values()), known=tuple(_trusted(row) for row in known.values())
    )


def add_listing(
    session: Session, listing: Listing, *, name: str, source: str | None = None, actor: Actor = COMMAND_LINE
) -> Added:
    """Record the files of a list that was made on a trusted machine. raises: InvalidError"""
    said = f"{(source or listing.source)[:300]} (list {name[:100]}, sha256:{listing.sha256})"
    record(session, actor, "baseline.list_added", name[:200], sha256=listing.sha256, files=len(listing.files))
    return add_baseline_files(session, [one.identity for one in listing.files], source=said, actor=actor)


def remove_baseline_file(session: Session, file_id: int, *, actor: Actor = COMMAND_LINE) -> TrustedFile:
    """Trust a file no longer. Rules already exported stay where they are. raises: NotFoundError"""
    row = session.get(BaselineFile, file_id)
    if row is None:
        raise NotFoundError(f"There is no baseline file {file_id}.")
    removed = _trusted(row)
    session.delete(row)
    record(session, actor, "baseline.removed", removed.name, sha256=removed.sha256)
    return removed


def list_baseline_files(session: Session) -> tuple[TrustedFile, ...]:
    """All trusted files, by name, then by version and hash."""
    rows = session.execute(_with_archive().order_by(BaselineFile.name, BaselineFile.version, BaselineFile.sha256))
    return tuple(_trusted(row, archive) for row, archive in rows)


def find_grounds(session: Session, digests: Iterable[str]) -> Mapping[str, TrustedFile]:
    """The trusted files among digests (Authenticode or flat, in any case), by digest in lower case."""
    wanted = sorted({one.lower() for one in digests})
    found: dict[str, TrustedFile] = {}
    for some in _parts(wanted):
        is_one = or_(BaselineFile.sha256.in_(some), BaselineFile.authenticode_sha256.in_(some))
        for row, archive in session.execute(_with_archive().where(is_one)):
            file = _trusted(row, archive)
            found.setdefault(file.rule_sha256, file)
            found.setdefault(file.sha256, file)
    return found


def read_trusted(session: Session, ids: Sequence[int]) -> Mapping[int, TrustedFile]:
    """Trusted files by their numbers."""
    rows = session.execute(_with_archive().where(BaselineFile.id.in_(ids)))
    return {row.id: _trusted(row, archive) for row, archive in rows}


def _with_archive() -> Any:
    """Each file with the name of the vendor's archive that was added first, or None."""
    first = (
        select(VendorArchiveFile.file_id, func.min(VendorArchiveFile.archive_id).label("archive_id"))
        .group_by(VendorArchiveFile.file_id)
        .subquery()
    )
    return (
        select(BaselineFile, VendorArchive.name)
        .outerjoin(first, first.c.file_id == BaselineFile.id)
        .outerjoin(VendorArchive, VendorArchive.id == first.c.archive_id)
    )


def _present(session: Session, digests: Sequence[str]) -> dict[str, BaselineFile]:
    found: dict[str, BaselineFile] = {}
    for some in _parts(digests):
        found.update(
            {row.sha256: row for row in session.scalars(select(BaselineFile).where(BaselineFile.sha256.in_(some)))}
        )
    return found


def _parts(digests: Sequence[str]) -> Iterable[Sequence[str]]:
    for begin in range(0, len(digests), _AT_ONCE):
        yield digests[begin : begin + _AT_ONCE]


def _checked_source(source: str) -> str:
    text = source.strip()
    if not text:
        raise InvalidError("Say where these files were taken from.", field="source")
    if len(text) > MAX_SOURCE_LETTERS:
        raise InvalidError(f"At most {MAX_SOURCE_LETTERS} letters.", field="source")
    if not text.isprintable():
        raise InvalidError("Control characters are not allowed here.", field="source")
    return text


def _check_identity(identity: FileIdentity) -> None:
    field = f"file {identity.name!r}"
    if identity.rule_sha256 is None:
        raise InvalidError("An empty file has no hash that a rule could name.", field=field)
    if identity.kind not in RULE_KINDS:
        raise InvalidError(
            "Neither a program, a library, a script nor an installer: no AppLocker collection checks it.", field=field
        )
    if not identity.name or len(identity.name) > 255 or not identity.name.isprintable():
        raise InvalidError("A file name of 1 to 255 printable letters is needed.", field=field)


def _trusted(row: BaselineFile, archive: str | None = None) -> TrustedFile:
    return TrustedFile(
        id=row.id,
        name=row.name,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        authenticode_sha256=row.authenticode_sha256,
        kind=row.kind,
        publisher=row.publisher,
        product=row.product,
        binary=row.binary,
        version=row.version,
        source=row.source,
        added_at=row.added_at,
        added_by=row.added_by,
        archive=archive,
    )
