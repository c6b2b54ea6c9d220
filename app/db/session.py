"""The one place that commits for pages, jobs and commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db.engine import WRITES

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@contextmanager
def session_scope(engine: Engine, *, writes: bool = True) -> Iterator[Session]:
    """A session that commits at the end, or rolls everything back when something was raised."""
    with engine.connect() as connection:
        connection.execution_options(**{WRITES: writes})
        with Session(connection, expire_on_commit=False) as session:
            yield session
            session.commit()


def request_session(request: Request) -> Iterator[Session]:
    """The session of one request; committed before the answer leaves (see SessionDep)."""
    with session_scope(request.app.state.engine, writes=request.method not in _SAFE_METHODS) as session:
        yield session


# scope="function": by default FastAPI would end the dependency, and so commit, only after the answer was sent.
SessionDep = Annotated[Session, Depends(request_session, scope="function")]
