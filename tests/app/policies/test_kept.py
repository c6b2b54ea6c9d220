"""A kept export is the export that was planned: the same words, the same bundle to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.audit.record import Actor
from app.db.session import session_scope
from app.errors import NotFoundError
from app.policies.baselines import TrustedFile
from app.policies.bundle import build_bundle
from app.policies.describe import describe_export
from app.policies.export import Export, plan_export
from app.policies.queries_exports import get_kept_export, page_exports
from app.policies.record_export import record_export

ADA = Actor(kind="account", name="ada@example.com")
Trust = Callable[..., TrustedFile]


@pytest.fixture
def session(database: Engine) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


def kept_of(session: Session, export: Export) -> Export:
    made = record_export(session, export, actor=ADA)
    session.expunge_all()
    return get_kept_export(session, made.id).export


def test_rules_to_add_come_back_as_they_were(session: Session, developers: str, trust: Trust) -> None:
    export = plan_export(
        ["cache-builds-venv-python", "venv-python=path", "uv-exe-standalone", "managed-python-native-lib"],
        developers,
        baseline=[trust(1, "python.exe")],
        project_roots=[r"C:\src & more"],
        roots={"python": r"D:\Pythons"},
        collections=["Exe"],
    )
    assert {rule.kind for rule in export.rules} == {"hash", "path", "publisher"}
    assert export.left_out
    kept = kept_of(session, export)
    assert describe_export(kept) == describe_export(export)
    assert [rule.reach for rule in kept.rules] == [rule.reach for rule in export.rules]
    assert [rule.build for rule in kept.rules] == [rule.build for rule in export.rules]
    assert (kept.project_roots, kept.roots) == (export.project_roots, export.roots)
    for delivery in ("same-gpo", "separate-gpo", "local"):
        assert build_bundle(kept, delivery).content == build_bundle(export, delivery).content


def test_a_whole_policy_comes_back_with_rules_its_base_had(session: Session, developers: str, base_policy: str) -> None:
    once = plan_export(["venv-python"], developers, base=base_policy)
    base = once.xml.replace(once.rules[0].id, "11111111-2222-4333-8444-555555555555")
    export = plan_export(["venv-python", "managed-python-exe"], developers, base=base)
    assert [rule.in_base for rule in export.rules].count(True) == 1
    kept = kept_of(session, export)
    assert describe_export(kept) == describe_export(export)
    for delivery in ("same-gpo", "separate-gpo", "local", "intune"):
        assert build_bundle(kept, delivery).content == build_bundle(export, delivery).content


def test_the_list_is_searched_and_paged(session: Session, developers: str) -> None:
    first = record_export(session, plan_export(["venv-python"], developers), actor=ADA)
    other = record_export(session, plan_export(["uv-exe-standalone"], "S-1-5-32-545"), actor=ADA)
    page = page_exports(session)
    assert [line.id for line in page.lines] == [other.id, first.id]
    assert (page.lines[1].patterns, page.lines[1].kinds, page.lines[1].rules) == (("venv-python",), ("path",), 1)
    assert [line.id for line in page_exports(session, before=other.id).lines] == [first.id]
    assert page_exports(session, before=other.id).total == 2
    for words in ("VENV-", "ADA@", developers, first.sha256[:12]):
        assert first.id in [line.id for line in page_exports(session, search=words).lines], words
    assert [line.id for line in page_exports(session, search="venv-").lines] == [first.id]
    assert page_exports(session, search="%").lines == ()


def test_an_unknown_export_is_not_found(session: Session) -> None:
    with pytest.raises(NotFoundError):
        get_kept_export(session, 7)
