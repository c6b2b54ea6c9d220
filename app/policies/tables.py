"""The tables of policies: trusted identities that administrators recorded, and the exports that were made."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class BaselineFile(Base):
    """One trusted file, by its flat hash: what a rule can know of it, and who vouched for it, when, from where."""

    __tablename__ = "baseline_file"
    __table_args__ = (Index("ix_baseline_file_name", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    authenticode_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(10))
    publisher: Mapped[str | None] = mapped_column(String(1024))
    product: Mapped[str | None] = mapped_column(String(1024))
    binary: Mapped[str | None] = mapped_column(String(1024))
    version: Mapped[str | None] = mapped_column(String(24))
    source: Mapped[str] = mapped_column(String(500))
    added_at: Mapped[datetime]
    added_by: Mapped[str] = mapped_column(String(254))


class VendorArchive(Base):
    """An archive whose checksum, as its vendor publishes it, the server verified before hashing its files itself."""

    __tablename__ = "vendor_archive"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    checksum_name: Mapped[str] = mapped_column(String(255))
    checksum_sha256: Mapped[str] = mapped_column(String(64))
    """Of the checksum file itself."""
    checksum_line: Mapped[int]
    added_at: Mapped[datetime]
    added_by: Mapped[str] = mapped_column(String(254))


class VendorArchiveFile(Base):
    """A trusted file that was found in a vendor's archive, and where in it."""

    __tablename__ = "vendor_archive_file"

    archive_id: Mapped[int] = mapped_column(ForeignKey("vendor_archive.id", ondelete="CASCADE"), primary_key=True)
    file_id: Mapped[int] = mapped_column(
        ForeignKey("baseline_file.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    path: Mapped[str] = mapped_column(String(4096))
    is_only_ground: Mapped[bool]
    """Nobody had vouched for the file before."""


class ExportRow(Base):
    """One export as it left: who made it, for whom, its bytes and their digest."""

    __tablename__ = "export"

    id: Mapped[int] = mapped_column(primary_key=True)
    made_at: Mapped[datetime] = mapped_column(index=True)
    made_by: Mapped[str] = mapped_column(String(254))
    sid: Mapped[str] = mapped_column(String(200))
    choices: Mapped[dict[str, Any]] = mapped_column(JSON)
    base_sha256: Mapped[str | None] = mapped_column(String(64))
    file_name: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    content: Mapped[str] = mapped_column(Text)


class ExportRule(Base):
    """One rule of an export: its id is how it is found again in the policies that hosts report."""

    __tablename__ = "export_rule"

    export_id: Mapped[int] = mapped_column(ForeignKey("export.id", ondelete="CASCADE"), primary_key=True)
    rule_id: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)
    collection: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(20))
    patterns: Mapped[list[str]] = mapped_column(JSON)


class VerifiedCase(Base):
    """What one real PC did with one case, and whether the engine agreed when it was recorded."""

    __tablename__ = "verified_case"
    __table_args__ = (UniqueConstraint("case_id", "windows_build", "observed_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(String(80))
    windows: Mapped[str] = mapped_column(String(120))
    windows_build: Mapped[str] = mapped_column(String(40))
    observed_at: Mapped[datetime]
    decision: Mapped[str] = mapped_column(String(40))
    error: Mapped[int | None]
    """Windows' error number of a real start, 0 for none; None if the file was only judged, not started."""
    engine_decision: Mapped[str] = mapped_column(String(40))
    agrees: Mapped[bool]
    doubts: Mapped[str] = mapped_column(Text)
    """Codes of the engine's doubts that this case settles, separated by spaces."""
    recorded_at: Mapped[datetime]
    recorded_by: Mapped[str] = mapped_column(String(254))
