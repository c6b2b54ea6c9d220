"""What `/readyz` says: whether the database answers and has our tables, and whether the threads are there."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import WRITES
from app.db.migrate import Schema, judge_schema
from app.ingest.writer import Writer
from app.jobs.clock import Clock

_SCHEMAS = {
    Schema.OLDER: "schema: older than this server; run `wayleave db upgrade`",
    Schema.NONE: "schema: there are no tables; run `wayleave db upgrade`",
}


def find_faults(engine: Engine, writer: Writer | None, clock: Clock | None) -> list[str]:
    """Why this process should get no requests, a line each; empty when it may."""
    return [*_faults_of_database(engine), *_faults_of_threads(writer, clock)]


def _faults_of_database(engine: Engine) -> Iterator[str]:
    try:
        with engine.connect().execution_options(**{WRITES: False}) as connection:
            yield from _faults_of_schema(connection)
    except SQLAlchemyError:
        yield "the database does not answer"


def _faults_of_schema(connection: Connection) -> Iterator[str]:
    fault = _SCHEMAS.get(judge_schema(connection))
    if fault is not None:
        yield fault


def _faults_of_threads(writer: Writer | None, clock: Clock | None) -> Iterator[str]:
    if writer is None or clock is None:
        yield "the server is starting"
        return
    if not writer.is_alive:
        yield "reports: the thread that writes them has ended; restart the server"
    elif writer.is_stuck:
        yield "reports: a commit has taken longer than agents wait"
    if not clock.is_alive:
        yield "clock: the threads that fold counts and do the work have ended; restart the server"
