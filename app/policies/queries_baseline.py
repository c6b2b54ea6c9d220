"""Reads the baseline for its page: trusted files by name, with what speaks for each, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from app.db.paging import Page, cut_page, decode_cursor, encode_cursor
from app.policies.baselines import TrustedFile, read_trusted
from app.policies.tables import BaselineFile, VendorArchiveFile

Ground = Literal["", "baseline", "archive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFilter:
    """Which trusted files. `search`: a part of the name, publisher or source, or the beginning of a hash."""

    search: str = ""
    ground: Ground = ""
    archive_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineCounts:
    """How many files are trusted, and how many of them a vendor's archive speaks for."""

    files: int
    from_archives: int


def count_baseline(session: Session) -> BaselineCounts:
    """How many files there are."""
    files, from_archives = session.execute(
        select(
            select(func.count()).select_from(BaselineFile).scalar_subquery(),
            select(func.count(VendorArchiveFile.file_id.distinct())).scalar_subquery(),
        )
    ).one()
    return BaselineCounts(files=files, from_archives=from_archives)


def page_baseline(
    session: Session, wanted: BaselineFilter, *, cursor: str | None = None, rows: int = 50
) -> Page[TrustedFile]:
    """Some trusted files, by name. raises: InvalidError for a damaged cursor."""
    fits = _fits(wanted)
    if cursor:
        name, file_id = decode_cursor(cursor, (str, int))
        fits.append(tuple_(BaselineFile.name, BaselineFile.id) > tuple_(name, file_id))
    order = (BaselineFile.name, BaselineFile.id)
    found = session.execute(select(*order).where(*fits).order_by(*order).limit(rows + 1)).all()
    ids, last = cut_page(found, rows)
    files = read_trusted(session, [row.id for row in ids])
    more = encode_cursor([last.name, last.id]) if last is not None else None
    return Page(rows=tuple(files[row.id] for row in ids), next_cursor=more)


def _fits(wanted: BaselineFilter) -> list[Any]:
    link = exists().where(VendorArchiveFile.file_id == BaselineFile.id)
    fits: list[Any] = []
    if wanted.ground == "archive":
        fits.append(link)
    elif wanted.ground == "baseline":
        fits.append(~link.where(VendorArchiveFile.is_only_ground))
    if wanted.archive_id is not None:
        fits.append(link.where(VendorArchiveFile.archive_id == wanted.archive_id))
    text = wanted.search.strip().lower()
    if text:
        parts = (BaselineFile.name, BaselineFile.publisher, BaselineFile.source)
        hashes = (BaselineFile.sha256, BaselineFile.authenticode_sha256)
        fits.append(
            or_(
                *(func.lower(part).contains(text, autoescape=True) for part in parts),
                *(digest.startswith(text, autoescape=True) for digest in hashes),
            )
        )
    return fits
