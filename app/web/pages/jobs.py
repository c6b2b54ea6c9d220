"""Jobs: what the server does by the clock, how the last run went, and a button to have it done now."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response

from app.db.base import now
from app.db.session import SessionDep
from app.jobs.queries import list_jobs
from app.jobs.run import run_soon
from app.web.guards import ManageSettings
from app.web.templating import render
from app.web.words import plural

router = APIRouter(include_in_schema=False)


@router.get("/jobs")
def show_jobs(person: ManageSettings, request: Request, session: SessionDep) -> Response:  # noqa: ARG001 - the guard
    jobs = list_jobs(session)
    due = any(job.next_at is not None and job.next_at <= now() for job in jobs)
    return render(request, "jobs/page.html", fragment="results", jobs=jobs, every=spoken, refresh=due)


@router.post("/jobs/{name}/run")
def run_now(person: ManageSettings, session: SessionDep, name: Annotated[str, Path(max_length=40)]) -> Response:
    run_soon(session, name, person.actor)
    return RedirectResponse("/jobs", status_code=303)


def spoken(every: timedelta) -> str:
    """How often, in words.

    >>> spoken(timedelta(minutes=1)), spoken(timedelta(hours=6)), spoken(timedelta(days=1))
    ('minute', '6 hours', 'day')
    """
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        count = every // length
        if count:
            return unit if count == 1 else plural(count, unit)
    return plural(int(every.total_seconds()), "second")
