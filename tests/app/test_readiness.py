"""`/readyz` names what is wrong: tables of another release, threads that have ended."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("revision", "status", "said"),
    [
        ("0005", 503, "schema: older than this server; run `wayleave db upgrade`\n"),
        # A later release may be starting while this one still serves.
        ("9999", 200, "ready\n"),
    ],
)
def test_tables_of_another_release(client: TestClient, server: FastAPI, revision: str, status: int, said: str) -> None:
    assert client.get("/readyz").text == "ready\n"
    with server.state.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (status, said)
    assert ("retry-after" in answer.headers) is (status == 503)


def test_threads_that_have_ended(client: TestClient, server: FastAPI) -> None:
    server.state.clock.stop()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (
        503,
        "clock: the threads that fold counts and do the work have ended; restart the server\n",
    )
    server.state.writer.stop()
    assert "reports: the thread that writes them has ended" in client.get("/readyz").text
