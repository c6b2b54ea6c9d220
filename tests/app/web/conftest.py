"""A real application on a fresh SQLite database, and people of each role who are signed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from app.accounts import passwords
from app.accounts.create import create_account
from app.all_tables import metadata
from app.db.session import session_scope
from app.main import create_app
from app.settings import Settings

PASSWORD = "correct horse battery"
BASE_URL = "http://wayleave.example"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed with less memory and time, or these tests would do little else."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    passwords._decoy.cache_clear()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    made = create_app(Settings(data_dir=tmp_path, database_url="", base_url=BASE_URL))
    metadata().create_all(made.state.engine)
    made.state.workers.patience_s = 30  # a busy machine is no reason to see how far work is
    yield made
    made.state.workers.stop()
    made.state.engine.dispose()


@pytest.fixture
def engine(app: FastAPI) -> Engine:
    engine: Engine = app.state.engine
    return engine


@pytest.fixture
def anonymous(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=BASE_URL, follow_redirects=False) as client:
        yield client


@pytest.fixture
def signed_in(app: FastAPI, engine: Engine) -> Callable[[str], TestClient]:
    """A client signed in as somebody of a role, as a browser would be: by the login form."""

    def sign_in(role: str) -> TestClient:
        email = f"{role}@example.com"
        with session_scope(engine) as session:
            create_account(session, email, PASSWORD, role)
        client = TestClient(app, base_url=BASE_URL, follow_redirects=False)
        answer = client.post("/login", data={"email": email, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return client

    return sign_in


@pytest.fixture
def statements(engine: Engine) -> Iterator[list[str]]:
    """The SQL statements executed since the test began (or since it cleared the list)."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)
