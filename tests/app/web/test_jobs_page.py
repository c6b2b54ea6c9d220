"""Jobs: administrators see how each last run went and have one done at once; others don't."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.audit.tables import AuditEntry
from app.db.base import now
from app.db.session import session_scope
from app.jobs.run import make_rows, run_due
from app.jobs.tables import JobRow
from app.jobs.work import JOBS, Keeping


@pytest.fixture
def administrator(engine: Engine, signed_in: Callable[[str], TestClient]) -> TestClient:
    with engine.connect() as connection:
        make_rows(connection, now())
    return signed_in("administrator")


def test_work_that_was_not_due_yet_waits(administrator: TestClient) -> None:
    page = administrator.get("/jobs").text
    assert "No job has run yet" in page
    assert page.count(">waiting<") == len(JOBS)


def test_work_done_and_work_that_failed(administrator: TestClient, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(update(JobRow).values(next_at=now() - timedelta(seconds=1)))
    with engine.connect() as connection:
        run_due(connection, Keeping(silent_after_days=14, retention_days=180))
    page = administrator.get("/jobs").text
    assert f"All {len(JOBS)} jobs did their work." in page
    with engine.begin() as connection:
        failed = {"failed": True, "said": "OSError: <no space>"}
        connection.execute(update(JobRow).where(JobRow.name == "drop-old").values(**failed))
    page = administrator.get("/jobs").text
    assert "Drop transitions and sightings past their time" in page
    assert f"1 job</strong> of {len(JOBS)} failed last time" in page
    assert "OSError: &lt;no space&gt;" in page


def test_run_now_makes_it_due_and_is_audited(administrator: TestClient, engine: Engine) -> None:
    answer = administrator.post("/jobs/write-daily/run")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert 'hx-trigger="every 3s"' in administrator.get("/jobs").text, "the page follows what was begun"
    with session_scope(engine, writes=False) as session:
        row = session.get_one(JobRow, "write-daily")
        assert row.next_at <= now()
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "job.started")).one()
        assert (entry.actor, entry.target) == ("administrator@example.com", "write-daily")


def test_unknown_work_is_not_found(administrator: TestClient) -> None:
    assert administrator.post("/jobs/invented/run").status_code == 404


@pytest.mark.parametrize("role", ["viewer", "analyst", "approver"])
def test_others_may_not(signed_in: Callable[[str], TestClient], role: str) -> None:
    client = signed_in(role)
    assert client.get("/jobs").status_code == 403
    assert client.post("/jobs/write-daily/run").status_code == 403
    assert 'href="/jobs"' not in client.get("/").text
