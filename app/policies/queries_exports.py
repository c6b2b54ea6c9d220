"""What the pages about exports show: the list of all, newest first, and one as it was planned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.db.paging import cut_page, newest_first
from app.errors import NotFoundError
from app.policies.export import Export
from app.policies.kept import from_kept
from app.policies.tables import ExportRow, ExportRule
from app.policies.tables_rule_sets import RuleSetExport

PAGE_ROWS = 50
_WITH_RULE_SET = select(ExportRow, RuleSetExport.rule_set_id).outerjoin(
    RuleSetExport, RuleSetExport.export_id == ExportRow.id
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLine:
    """One line of the list. `rules`: how many are new to the base."""

    id: int
    made_at: datetime
    made_by: str
    sid: str
    patterns: tuple[str, ...]
    kinds: tuple[str, ...]
    is_whole_policy: bool
    file_name: str
    sha256: str
    rules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPage:
    """Lines of one page. `next_before`: the id that the next page begins below, None on the last; `total`: of all."""

    lines: tuple[ExportLine, ...]
    next_before: int | None
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptExport:
    """One export: who made it and when, and the plan as it was. `rule_set_id`: of an approved one; None without."""

    id: int
    made_at: datetime
    made_by: str
    export: Export
    rule_set_id: int | None

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(sorted({pattern for rule in self.export.rules for pattern in rule.patterns}))


def page_exports(session: Session, *, search: str = "", before: int | None = None) -> ExportPage:
    """Exports whose maker, SID, digest, file or patterns contain `search`, newest first."""
    patterns, kinds = ExportRow.choices["patterns"], ExportRow.choices["kinds"]
    is_whole = ExportRow.choices["whole_policy"].as_boolean()
    fits = []
    if search:
        searched = (ExportRow.made_by, ExportRow.sid, ExportRow.sha256, ExportRow.file_name, patterns.as_string())
        fits.append(or_(*(func.lower(text).contains(search.lower(), autoescape=True) for text in searched)))
    total = session.scalar(select(func.count()).select_from(ExportRow).where(*fits)) or 0
    rules = select(func.count()).where(ExportRule.export_id == ExportRow.id).scalar_subquery()
    query = select(
        ExportRow.id,
        ExportRow.made_at,
        ExportRow.made_by,
        ExportRow.sid,
        patterns,
        kinds,
        is_whole,
        ExportRow.file_name,
        ExportRow.sha256,
        rules,
    ).where(*fits)
    newest = newest_first(query, ExportRow.id, before=before, rows=PAGE_ROWS)
    rows, last = cut_page(session.execute(newest).all(), PAGE_ROWS)
    lines = tuple(
        ExportLine(
            id=export_id,
            made_at=made_at,
            made_by=made_by,
            sid=sid,
            patterns=tuple(opened or ()),
            kinds=tuple(used or ()),
            is_whole_policy=bool(whole),
            file_name=file_name,
            sha256=sha256,
            rules=count,
        )
        for export_id, made_at, made_by, sid, opened, used, whole, file_name, sha256, count in rows
    )
    return ExportPage(lines=lines, next_before=last.id if last is not None else None, total=total)


def list_exports_since(session: Session, since: datetime, *, most: int = 20) -> tuple[tuple[int, datetime], ...]:
    """Ids and times of the exports made since then, the newest first, at most so many."""
    rows = session.execute(
        select(ExportRow.id, ExportRow.made_at)
        .where(ExportRow.made_at >= since)
        .order_by(ExportRow.made_at.desc())
        .limit(most)
    )
    return tuple((export_id, made_at) for export_id, made_at in rows)


def get_kept_export(session: Session, export_id: int) -> KeptExport:
    """One export as it was planned. raises: NotFoundError"""
    found = session.execute(_WITH_RULE_SET.where(ExportRow.id == export_id)).first()
    if found is None:
        raise NotFoundError(f"There is no export {export_id}.")
    return _kept(*found)


def list_kept_exports(session: Session, *, limit: int) -> tuple[KeptExport, ...]:
    """The newest exports as they were planned, the newest first."""
    query = _WITH_RULE_SET.order_by(ExportRow.id.desc()).limit(limit)
    return tuple(_kept(row, rule_set_id) for row, rule_set_id in session.execute(query))


def _kept(row: ExportRow, rule_set_id: int | None) -> KeptExport:
    return KeptExport(
        id=row.id,
        made_at=row.made_at,
        made_by=row.made_by,
        export=from_kept(
            row.choices["plan"],
            xml=row.content,
            file_name=row.file_name,
            sha256=row.sha256,
            sid=row.sid,
            base_sha256=row.base_sha256,
        ),
        rule_set_id=rule_set_id,
    )
