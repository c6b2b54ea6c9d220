"""The session commits before the answer, and rolls back when something was raised."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.session import SessionDep, session_scope
from app.db.tables import find_setting, put_setting


def test_it_commits_before_the_answer(database: Engine) -> None:
    app = FastAPI()
    app.state.engine = database
    seen: list[str | None] = []

    @app.post("/")
    def write(session: SessionDep) -> str:
        put_setting(session, "colour", "green")
        return "done"

    class Look:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        async def __call__(self, scope: object, receive: object, send: object) -> None:
            async def look(message: dict[str, object]) -> None:
                if message["type"] == "http.response.start":
                    with session_scope(database, writes=False) as session:
                        seen.append(find_setting(session, "colour"))
                await send(message)

            await self.inner(scope, receive, look)

    app.add_middleware(Look)
    with TestClient(app) as client:
        assert client.post("/").status_code == 200
    assert seen == ["green"]


def test_it_rolls_back_what_failed(database: Engine) -> None:
    def fail_half_way() -> None:
        with session_scope(database) as session:
            put_setting(session, "colour", "green")
            session.flush()
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    with session_scope(database, writes=False) as session:
        assert find_setting(session, "colour") is None
