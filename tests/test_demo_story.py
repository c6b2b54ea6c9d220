"""`make demo`: what people did with the made fleet is there, and went the ways that pages go."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy import select

from app.audit.tables import AuditEntry
from app.db.engine import open_engine
from app.db.migrate import upgrade
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.tables import FactSet, Subject
from app.imports.tables import ImportJob
from app.policies.queries_exports import get_kept_export, page_exports
from app.policies.queries_rule_sets import get_rule_set
from app.policies.review import held_approval
from app.requests.queries import list_groups
from app.settings import Settings

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "demo_story.py"
SPEC = spec_from_file_location("demo_story", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
story = module_from_spec(SPEC)
SPEC.loader.exec_module(story)


def test_what_people_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", "")
    monkeypatch.setattr("sys.stdin", StringIO("correct horse battery\n"))
    engine = open_engine(Settings(data_dir=tmp_path))
    upgrade(engine)
    make_fleet(engine, 60, seed=1, story=True)
    assert story.main(["analyst@example.com", "approver@example.com"]) == 0
    with session_scope(engine, writes=False) as session:
        approval = held_approval(session, 1)
        assert approval is not None
        assert approval.approved_by == "approver@example.com"
        assert get_rule_set(session, 2).state == "draft"
        assert len(page_exports(session).lines) == 1
        wanted = {one.rule.id for one in get_kept_export(session, 1).export.rules}
        in_force = select(FactSet.body).join(Subject, Subject.policy_id == FactSet.id)
        arrived = [body for body in session.scalars(in_force) if wanted and all(one in body for one in wanted)]
        assert 1 <= len(arrived) < story.PILOTS
        assert {group.pattern for group in list_groups(session)} == {pattern for pattern, _, _ in story.ASKED}
        assert session.scalars(select(ImportJob.name)).all() == ["laboratory.csv"]
        actions = set(session.scalars(select(AuditEntry.action)))
        assert {"rule_set.approved", "rule_set.exported", "access.asked"} <= actions
    engine.dispose()


def test_two_addresses_are_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert story.main(["analyst@example.com"]) == 2
    assert "Usage" in capsys.readouterr().err
