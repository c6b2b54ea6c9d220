"""Trusted identities: what an administrator took from a trusted installation, and the only source of hash rules.

Files are identified here, on the administrator's word; nothing that a workstation reported ever gets in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.pe import FileIdentity
from app.audit.record import COMMAND_LINE, Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import InvalidError, NotFoundError
from app.policies.tables import BaselineFile

MAX_SOURCE_LETTERS = 500
RULE_KINDS = ("exe", "dll", "script", "msi")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedFile:
    """One file of the baseline. `kind`: exe, dll, script or msi; `rule_sha256`: what a hash rule compares."""

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

    @property
    def rule_sha256(self) -> str:
        return self.authenticode_sha256 or self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What came of adding files: the new ones, and those that were already there."""

    added: tuple[TrustedFile, ...]
    known: tuple[TrustedFile, ...]


def add_baseline_files(
    session: Session, identities: Iterable[FileIdentity], *, source: str, actor: Actor = COMMAND_LINE
) -> Added:
    """Record files as trusted, all or none.

    raises: InvalidError about `source`, or about a file that no hash rule could ever match.
    """
    checked_source = _checked_source(source)
    identities = tuple(identities)
    for identity in identities:
        _check_identity(identity)
    at = from_ms(to_ms(now()))  # as precise as it is stored
    added: dict[str, BaselineFile] = {}
    known: dict[str, BaselineFile] = {}
    for identity in identities:
        if identity.sha256 in added or identity.sha256 in known:
            continue
        present = session.scalar(select(BaselineFile).where(BaselineFile.sha256 == identity.sha256))
        if present is not None:
            known[identity.sha256] = present
            continue
        row = BaselineFile(
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
        session.add(row)
        session.flush()  # the answer names the ids
        added[identity.sha256] = row
        record(session, actor, "baseline.added", identity.name, sha256=identity.sha256, source=checked_source)
    return Added(
        added=tuple(_trusted(row) for row in added.values()), known=tuple(_trusted(row) for row in known.values())
    )


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
    rows = session.scalars(select(BaselineFile).order_by(BaselineFile.name, BaselineFile.version, BaselineFile.sha256))
    return tuple(_trusted(row) for row in rows)


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


def _trusted(row: BaselineFile) -> TrustedFile:
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
    )
