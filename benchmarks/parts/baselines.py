"""What ingest is held against: nothing but reading the body, FastAPI doing so, and the obvious way with an ORM.

The obvious way: one request, one session, one row per probe, committed before the answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel
from sqlalchemy import Engine, ForeignKey, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.types import Receive, Scope, Send


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI function that reads the body."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    body = b'{"ok":true}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def fastapi() -> FastAPI:
    """A FastAPI endpoint that reads the body."""
    app = FastAPI()

    @app.post("/api/v1/reports")
    async def take(request: Request) -> dict[str, bool]:
        await request.body()
        return {"ok": True}

    return app


class Base(DeclarativeBase):
    pass


class Machine(Base):
    __tablename__ = "machine"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    last_seen_at: Mapped[datetime]


class Finding(Base):
    __tablename__ = "finding"
    id: Mapped[int] = mapped_column(primary_key=True)
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id"), index=True)
    pattern: Mapped[str] = mapped_column(String(100))
    outcome: Mapped[str] = mapped_column(String(20))
    engine: Mapped[str] = mapped_column(String(20))
    error: Mapped[int]


class FindingIn(BaseModel):
    pattern: str
    outcome: str
    engine: str
    error: int


class ReportIn(BaseModel):
    name: str
    findings: list[FindingIn]


@cache
def opened_engine() -> Engine:
    engine = create_engine(os.environ["BENCH_DATABASE"], pool_size=20, max_overflow=0)
    Base.metadata.create_all(engine)
    return engine


def opened_session() -> Iterator[Session]:
    with Session(opened_engine()) as session:
        yield session


def obvious() -> FastAPI:
    """FastAPI, pydantic, an ORM session: 40 rows a report."""
    opened_engine()
    app = FastAPI()

    @app.post("/api/v1/reports")
    def take(report: ReportIn, session: Annotated[Session, Depends(opened_session)]) -> dict[str, bool]:
        machine = session.scalar(select(Machine).where(Machine.name == report.name))
        if machine is None:
            machine = Machine(name=report.name, last_seen_at=datetime.now(UTC).replace(tzinfo=None))
            session.add(machine)
        machine.last_seen_at = datetime.now(UTC).replace(tzinfo=None)
        session.flush()
        session.add_all(
            Finding(machine_id=machine.id, pattern=f.pattern, outcome=f.outcome, engine=f.engine, error=f.error)
            for f in report.findings
        )
        session.commit()
        return {"ok": True}

    return app
