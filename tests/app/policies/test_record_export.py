"""Exports are kept as they left, and who made them is in the audit log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.audit.record import Actor
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.errors import NotFoundError
from app.policies.export import plan_export
from app.policies.record_export import get_export_file, list_exports, record_export

ADA = Actor(kind="account", name="ada@example.com")


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def test_an_export_is_kept_byte_for_byte_and_audited(session: Session, developers: str) -> None:
    export = plan_export(["venv-python", "uv-exe-winget"], developers)
    kept = record_export(session, export, actor=ADA)
    assert (kept.made_by, kept.sha256, kept.sid) == ("ada@example.com", export.sha256, developers)
    assert set(kept.rule_ids) == {rule.id for rule in export.rules}
    assert list_exports(session) == (kept,)
    assert get_export_file(session, kept.id) == (export.file_name, export.xml)
    (entry,) = session.scalars(select(AuditEntry))
    assert (entry.actor, entry.action, entry.target) == ("ada@example.com", "export.made", export.file_name)
    assert entry.detail["sha256"] == export.sha256
    assert entry.detail["patterns"] == ["uv-exe-winget", "venv-python"]


def test_rules_of_the_base_are_not_counted_as_ours(session: Session, developers: str, base_policy: str) -> None:
    once = plan_export(["venv-python"], developers, base=base_policy)
    twice = plan_export(["venv-python", "managed-python-exe"], developers, base=once.xml)
    kept = record_export(session, twice, actor=ADA)
    assert len(twice.rules) == 2
    assert kept.rule_ids == (twice.added[0].id,)
    assert kept.base_sha256


def test_an_unknown_export_is_not_found(session: Session) -> None:
    with pytest.raises(NotFoundError):
        get_export_file(session, 1)
