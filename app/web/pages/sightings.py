"""Sightings: what the fleet really tried to run and a policy refused, by pattern, path or identity, in a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, cast, get_args

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from agent.catalogue import load as load_catalogue
from app.db.session import SessionDep
from app.errors import InvalidError
from app.fleet.queries_sightings import read_seen, read_seen_kinds
from app.policies.baselines import find_grounds
from app.policies.evidence import ground_of
from app.web.guards import ViewFleet
from app.web.templating import address, render

router = APIRouter(include_in_schema=False)

By = Literal["pattern", "path", "identity"]
USUAL_DAYS = 14
MOST_DAYS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """From one day to another, both included (UTC). `problem`: what was wrong with the days asked for."""

    first: date
    last: date
    problem: str | None = None

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


@router.get("/sightings")
def show_sightings(
    person: ViewFleet,  # noqa: ARG001 - the guard
    request: Request,
    session: SessionDep,
    first: Annotated[str, Query(alias="from", max_length=20)] = "",
    last: Annotated[str, Query(alias="to", max_length=20)] = "",
    by: Annotated[str, Query(max_length=20)] = "pattern",
    pattern: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    today = datetime.now(UTC).date()
    time = read_time(first, last, today)
    patterns = {one.id: one for one in load_catalogue().patterns}
    wanted = pattern if pattern in patterns else None
    grouped = cast("By", by if by in get_args(By) else "pattern")
    seen = read_seen(session, time.first, time.last, pattern=wanted)
    kinds = None if grouped == "pattern" else read_seen_kinds(session, seen, time.first, time.last, by=grouped)
    hashes = [one.sha256 for one in kinds.kinds if one.sha256] if kinds else []
    kept = {"by": grouped if grouped != "pattern" else "", "pattern": wanted or ""}
    in_time = {"from": time.first.isoformat(), "to": time.last.isoformat()}
    return render(
        request,
        "sightings/page.html",
        fragment="results",
        address=address("/sightings", **in_time, **kept),
        time=time,
        today=today,
        by=grouped,
        pattern=wanted,
        patterns=patterns,
        seen=seen,
        kinds=kinds,
        grounds={digest: ground_of(file) for digest, file in find_grounds(session, hashes).items()} if hashes else {},
        chart={
            "days": [one.day.isoformat() for one in seen.days],
            "blocked": [one.blocked for one in seen.days],
            "audited": [one.audited for one in seen.days],
        },
        spans=[
            (f"{days} days", address("/sightings", **_span(today, days), **kept), time == _last(today, days))
            for days in (7, 14, 30, 90)
        ],
        tabs=[
            (title, address("/sightings", **in_time, **(kept | {"by": key})), key == grouped)
            for key, title in (("pattern", "By pattern"), ("path", "By path"), ("identity", "By identity"))
        ],
        without_pattern=address("/sightings", **in_time, by=kept["by"]),
        status=422 if time.problem else 200,
    )


def read_time(first: str, last: str, today: date) -> Time:
    """The days asked for; the last fortnight where none are, or where they can't be used.

    >>> read_time("2026-01-01", "2026-01-03", date(2026, 1, 9)).days
    3
    >>> read_time("2026-01-05", "2026-01-03", date(2026, 1, 9)).problem
    'The first day comes after the last.'
    """
    usual = _last(today, USUAL_DAYS)
    if not first and not last:
        return usual
    try:
        end = date.fromisoformat(last) if last else today
        start = date.fromisoformat(first) if first else end - timedelta(days=USUAL_DAYS - 1)
    except (ValueError, OverflowError):
        return replace(usual, problem="Days are written as 2026-01-31.")
    if start > end:
        return replace(usual, problem="The first day comes after the last.")
    if (end - start).days >= MOST_DAYS:
        return replace(usual, problem=f"At most {MOST_DAYS} days can be shown at once.")
    return Time(first=start, last=end)


def days_asked_for(first: date | None, last: date | None) -> tuple[date, date]:
    """The first and last day that a program asks for; the last fortnight where it names none.

    raises: InvalidError for days in the wrong order or too many.
    """
    end = last or datetime.now(UTC).date()
    try:
        start = first or end - timedelta(days=USUAL_DAYS - 1)
    except OverflowError:
        start = date.min
    if not 0 <= (end - start).days < MOST_DAYS:
        raise InvalidError(f"Ask for 1 to {MOST_DAYS} days.", field="from")
    return start, end


def _last(today: date, days: int) -> Time:
    return Time(first=today - timedelta(days=days - 1), last=today)


def _span(today: date, days: int) -> dict[str, str]:
    return {"from": (today - timedelta(days=days - 1)).isoformat(), "to": today.isoformat()}
