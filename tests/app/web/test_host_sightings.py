"""Who ran what on a host: for those who may see it, each look in the audit log, and for nobody else by any way."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, insert, select
from starlette.testclient import TestClient

from app.accounts.tokens import create_token
from app.audit.tables import AuditEntry
from app.db.session import session_scope
from app.fleet.tables import Host, Sighting, Subject

SPEC = spec_from_file_location("small_fleet_of_sightings", Path(__file__).with_name("small_fleet.py"))
assert SPEC is not None
assert SPEC.loader is not None
small_fleet: ModuleType = module_from_spec(SPEC)
sys.modules[SPEC.name] = small_fleet
SPEC.loader.exec_module(small_fleet)

PATH = "%OSDRIVE%\\src\\*\\.venv\\Scripts\\only-here.exe"
HOSTILE = '%OSDRIVE%\\"><script>alert(1)</script>.exe'


@pytest.fixture
def host(app: FastAPI, engine: Engine) -> int:
    """The id of a host that has reported, on which two files were tried."""
    with TestClient(app, base_url="http://wayleave.example") as agents:
        small_fleet.report_all(app, agents, small_fleet.machines()[:2])
    with engine.begin() as connection:
        host_id, subject_id = connection.execute(
            select(Host.id, Subject.id).join(Subject, Subject.host_id == Host.id).order_by(Host.id)
        ).first()
        connection.execute(Sighting.__table__.delete())
        at = datetime.now(UTC)
        connection.execute(
            insert(Sighting),
            [
                {
                    "host_id": host_id,
                    "subject_id": subject_id + 1000 * number,
                    "at": at,
                    "recorded_at": at,
                    "channel": "Microsoft-Windows-AppLocker/EXE and DLL",
                    "record": number,
                    "event_id": 8004,
                    "pattern": "venv-entrypoint-exe",
                    "path": path,
                    "collection": "Exe",
                }
                for number, path in enumerate((PATH, HOSTILE))
            ],
        )
    return int(host_id)


def entries(engine: Engine) -> list[AuditEntry]:
    with session_scope(engine, writes=False) as session:
        found = list(session.scalars(select(AuditEntry).where(AuditEntry.action == "sightings.viewed")))
        session.expunge_all()
    return found


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.parametrize("role", ["approver", "administrator"])
def test_those_who_may_see_it_do_and_the_look_is_audited(
    host: int, engine: Engine, signed_in: Callable[[str], TestClient], role: str
) -> None:
    client = signed_in(role)
    assert f"/hosts/{host}/tried" in client.get(f"/hosts/{host}").text
    assert entries(engine) == []
    page = client.get(f"/hosts/{host}/tried").text
    assert PATH in unescape(page)
    assert re.search(r"User 1 %OSDRIVE%.*only-here", text_of(page))
    assert "gone" in text_of(page)
    assert "<script>alert" not in page
    (entry,) = entries(engine)
    assert (entry.actor, entry.detail["host"], entry.detail["shown"]) == (f"{role}@example.com", host, 2)
    assert entry.target


@pytest.mark.parametrize("role", ["viewer", "analyst"])
def test_nobody_else_sees_it_by_any_way(
    host: int, engine: Engine, signed_in: Callable[[str], TestClient], role: str
) -> None:
    client = signed_in(role)
    page = client.get(f"/hosts/{host}")
    assert "only-here" not in page.text
    assert "/tried" not in page.text
    assert "told of 2 files" in text_of(page.text)
    assert client.get(f"/hosts/{host}/tried").status_code == 403
    assert client.get(f"/api/v1/hosts/{host}/sightings").status_code == 403
    assert "only-here" not in client.get(f"/api/v1/hosts/{host}").text
    assert entries(engine) == []


def test_programs_need_a_token_of_a_role_that_may(host: int, app: FastAPI, engine: Engine) -> None:
    with session_scope(engine) as session:
        tokens = {role: create_token(session, role, f"a {role}", None) for role in ("viewer", "approver")}
    with TestClient(app, base_url="http://wayleave.example") as client:
        path = f"/api/v1/hosts/{host}/sightings"

        def get(role: str, query: str = "") -> tuple[int, object]:
            answer = client.get(path + query, headers={"Authorization": f"Bearer {tokens[role]}"})
            return answer.status_code, answer.json()

        assert get("viewer")[0] == 403
        status, rows = get("approver")
        assert status == 200
        assert isinstance(rows, list)
        assert {row["path"] for row in rows} == {PATH, HOSTILE}
        assert get("approver", "?rows=0")[0] == 422
        assert client.get(path).status_code == 401
        (entry,) = entries(engine)
        assert (entry.actor_kind, entry.actor) == ("token", "a approver")


def test_anonymous_people_sign_in_first(host: int, anonymous: TestClient) -> None:
    assert anonymous.get(f"/hosts/{host}/tried").headers["location"].startswith("/login")


def test_an_unknown_host_is_not_found_and_not_audited(
    host: int, engine: Engine, signed_in: Callable[[str], TestClient]
) -> None:
    assert signed_in("approver").get("/hosts/999999/tried").status_code == 404
    assert entries(engine) == []


def test_few_statements(host: int, signed_in: Callable[[str], TestClient], statements: list[str]) -> None:
    client = signed_in("approver")
    statements.clear()
    client.get(f"/hosts/{host}/tried")
    assert len(statements) <= 14, statements


def test_groups_of_users_are_looked_up_too(host: int, engine: Engine, signed_in: Callable[[str], TestClient]) -> None:
    viewer, approver = signed_in("viewer"), signed_in("approver")
    plain = viewer.get(f"/api/v1/hosts/{host}").json()
    assert {"probes", "uv", "policy"} <= plain["subjects"][0]["sets"].keys()
    assert "token" not in plain["subjects"][0]["sets"]
    for client in (viewer, approver):
        assert "S-1-5-32-545" not in client.get(f"/api/v1/hosts/{host}").text
    assert viewer.get(f"/api/v1/hosts/{host}/rights").status_code == 403

    def looks() -> list[AuditEntry]:
        with session_scope(engine, writes=False) as session:
            found = list(session.scalars(select(AuditEntry).where(AuditEntry.action == "rights.viewed")))
            session.expunge_all()
        return found

    assert looks() == []
    (user,) = approver.get(f"/api/v1/hosts/{host}/rights").json()
    assert (user["number"], user["is_administrator"]) == (1, False)
    assert "S-1-5-32-545" in user["sids"]
    assert [(one.actor, one.detail["host"]) for one in looks()] == [("approver@example.com", host)]
    assert "S-1-5-32-545" in approver.get(f"/hosts/{host}/tried").text
    assert len(looks()) == 2
    assert approver.get("/api/v1/hosts/999999/rights").status_code == 404
    assert len(looks()) == 2
