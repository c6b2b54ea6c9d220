"""A page left open reads its figures anew, and does not keep anybody signed in by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.accounts.sessions import IDLE_LIMIT
from app.accounts.tables import WebSession
from app.db.session import session_scope


def test_what_a_page_asks_for_by_itself_is_no_sign_of_life(
    engine: Engine, signed_in: Callable[[str], TestClient]
) -> None:
    client = signed_in("viewer")

    def age(by: timedelta) -> None:
        with session_scope(engine) as session:
            session.execute(update(WebSession).values(last_seen_at=datetime.now(UTC) - by))

    def is_fresh() -> bool:
        with session_scope(engine, writes=False) as session:
            seen = session.scalars(select(WebSession.last_seen_at)).one()
        return datetime.now(UTC) - seen < timedelta(minutes=1)

    age(IDLE_LIMIT - timedelta(minutes=5))
    by_itself = {"HX-Request": "true", "HX-Target": "main", "X-Unattended": "yes"}
    answer = client.get("/", headers=by_itself)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert not is_fresh()
    assert client.get("/").status_code == 200
    assert is_fresh()
    age(IDLE_LIMIT + timedelta(minutes=5))
    assert client.get("/", headers=by_itself).status_code != 200
