"""Takes the work that is due, one piece at a time, and notes how it went; the database says who does it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.audit.record import Actor, record
from app.db.base import now
from app.db.slices import StoppedError
from app.errors import NotFoundError
from app.jobs.tables import JobRow
from app.jobs.work import JOBS, Job, Keeping

log = logging.getLogger("wayleave.jobs")

OVERDUE_AFTER = timedelta(hours=6)
"""A run that takes so long is taken for one whose process ended, and the work is done anew."""
MAX_SAID = 500
FAILED_AGAIN_AFTER = timedelta(minutes=10)
"""What runs once a day and failed, because a lock was not to be had, is not left for a day."""


def make_rows(connection: Connection, at: datetime, jobs: Sequence[Job] = JOBS) -> None:
    """Makes the rows of work that has none yet. Commits."""
    with connection.begin():
        known = set(connection.scalars(select(JobRow.name)))
    for job in jobs:
        if job.name not in known:
            try:
                with connection.begin():
                    connection.execute(
                        insert(JobRow).values(name=job.name, next_at=at + job.first_after, said="", failed=False)
                    )
            except IntegrityError:  # another process was faster
                log.debug("the row of %s is there already", job.name)


def run_due(connection: Connection, keeping: Keeping, jobs: Sequence[Job] = JOBS) -> int:
    """Does the work that is due; how many pieces. A piece that fails is noted and soon tried again."""
    at = now()
    with connection.begin():
        due = set(connection.scalars(select(JobRow.name).where(JobRow.next_at <= at)))
    done = 0
    for job in jobs:
        if job.name in due and _take(connection, job):
            _run(connection, job, keeping)
            done += 1
    return done


def run_soon(session: Session, name: str, actor: Actor) -> None:
    """Makes a piece of work due at once; the clock takes it within seconds.

    raises: NotFoundError.
    """
    row = session.get(JobRow, name)
    if row is None or name not in {job.name for job in JOBS}:
        raise NotFoundError("There is no such work.", field="job")
    row.next_at = now()
    record(session, actor, "job.started", name)


def _take(connection: Connection, job: Job) -> bool:
    at = now()
    with connection.begin():
        goes_on = JobRow.began_at.is_not(None) & JobRow.ended_at.is_(None) & (JobRow.began_at > at - OVERDUE_AFTER)
        taken = connection.execute(
            update(JobRow)
            .where(JobRow.name == job.name, JobRow.next_at <= at, ~goes_on)
            .values(next_at=at + job.every, began_at=at, ended_at=None)
        ).rowcount
    return bool(taken)


def _run(connection: Connection, job: Job, keeping: Keeping) -> None:
    began_s = time.monotonic()
    failed = stopped = False
    try:
        said = job.run(connection, now(), keeping)
    except StoppedError:
        stopped, said = True, "the server was stopped; begins anew after its start"
    except Exception as error:
        log.exception("%s failed and is tried again", job.name)
        connection.rollback()
        failed, said = True, f"{type(error).__name__}: {error}"
    at = now()
    values = {"ended_at": at, "took_ms": int((time.monotonic() - began_s) * 1000), "said": said[:MAX_SAID]}
    if failed:
        values["next_at"] = at + min(job.every, FAILED_AGAIN_AFTER)
    elif stopped:
        values["next_at"] = at
    with connection.begin():
        connection.execute(update(JobRow).where(JobRow.name == job.name).values(failed=failed, **values))
