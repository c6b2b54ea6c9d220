"""Keeping exports: the bytes that left, who made them, and the ids by which their rules are found again on hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit.record import COMMAND_LINE, Actor, record
from app.db.base import from_ms, now, to_ms
from app.errors import NotFoundError
from app.policies.export import Export
from app.policies.kept import to_kept
from app.policies.tables import ExportRow, ExportRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExport:
    """One export as it left. `choices`: patterns, kinds, the plan; `rule_ids`: its rules, not the base's."""

    id: int
    made_at: datetime
    made_by: str
    sid: str
    choices: dict[str, Any]
    base_sha256: str | None
    file_name: str
    sha256: str
    rule_ids: tuple[str, ...]


def record_export(session: Session, export: Export, *, actor: Actor = COMMAND_LINE) -> RecordedExport:
    """Keep an export and write the audit entry. The caller hands the file out only after this is committed."""
    row = ExportRow(
        made_at=from_ms(to_ms(now())),  # as precise as it is stored
        made_by=actor.name[:254],
        sid=_shown_sids(export.sids),
        choices={
            "patterns": sorted({pattern for rule in export.rules for pattern in rule.patterns}),
            "kinds": sorted({rule.kind for rule in export.rules}),
            "whole_policy": export.is_whole_policy,
            "left_out": len(export.left_out),
            "plan": to_kept(export),
        },
        base_sha256=export.base_sha256,
        file_name=export.file_name,
        sha256=export.sha256,
        content=export.xml,
    )
    session.add(row)
    session.flush()  # the rules need the export's id
    for rule in export.added:
        session.add(
            ExportRule(
                export_id=row.id,
                rule_id=rule.id,
                collection=rule.collection,
                kind=rule.kind,
                patterns=list(rule.patterns),
            )
        )
    record(
        session,
        actor,
        "export.made",
        export.file_name,
        sha256=export.sha256,
        sid=export.sid,
        rules=len(export.added),
        patterns=row.choices["patterns"],
    )
    session.flush()
    return _recorded(row, sorted(rule.id for rule in export.added))


def list_exports(session: Session, *, before: int | None = None, limit: int = 100) -> tuple[RecordedExport, ...]:
    """The newest exports first, older than export `before`."""
    query = select(ExportRow).order_by(ExportRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(ExportRow.id < before)
    rows = session.scalars(query).all()
    rules: defaultdict[int, list[str]] = defaultdict(list)
    ids = [row.id for row in rows]
    query_rules = select(ExportRule.export_id, ExportRule.rule_id).where(ExportRule.export_id.in_(ids))
    for export_id, rule_id in session.execute(query_rules.order_by(ExportRule.rule_id)):
        rules[export_id].append(rule_id)
    return tuple(_recorded(row, rules[row.id]) for row in rows)


def get_export_file(session: Session, export_id: int) -> tuple[str, str]:
    """File name and text of an export, as it left. raises: NotFoundError"""
    row = session.get(ExportRow, export_id)
    if row is None:
        raise NotFoundError(f"There is no export {export_id}.")
    return row.file_name, row.content


def _shown_sids(sids: tuple[str, ...]) -> str:
    """The groups as far as they fit; the plan holds all."""
    text = ", ".join(sids)
    return text if len(text) <= 200 else f"{sids[0]} and {len(sids) - 1} more"


def _recorded(row: ExportRow, rule_ids: Sequence[str]) -> RecordedExport:
    return RecordedExport(
        id=row.id,
        made_at=row.made_at,
        made_by=row.made_by,
        sid=row.sid,
        choices=row.choices,
        base_sha256=row.base_sha256,
        file_name=row.file_name,
        sha256=row.sha256,
        rule_ids=tuple(rule_ids),
    )
