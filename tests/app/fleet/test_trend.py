"""Days gone by: a command's curve, what changed since the day before, and the policies that came meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, delete, update

from app.db.base import now
from app.db.session import session_scope
from app.fleet.make import make_fleet
from app.fleet.queries import list_groups, read_overview
from app.fleet.queries_trend import (
    date_of,
    day_number,
    list_new_policies,
    list_new_versions,
    read_shifts,
    read_trend,
    read_version_trend,
)
from app.fleet.tables import Daily


@pytest.fixture
def made(database: Engine) -> Engine:
    make_fleet(database, 120, seed=2, story=True)
    return database


def test_a_release_breaks_what_worked_and_rules_mend_it(made: Engine) -> None:
    until = now()
    with session_scope(made, writes=False) as session:
        engineering = next(group for group in list_groups(session) if group.name == "Engineering")
        days = {day_number(until) - i: None for i in range(60)}
        points = read_trend(session, "sync-build", days=60, until=until, group_id=engineering.id)
        whole = read_trend(session, "sync-build", days=60, until=until)
        week = read_trend(session, "sync-build", days=7, until=until)
        overview = read_overview(session)
    by_age = {(until.date() - one.day).days: one for one in points}
    assert by_age[13].open > by_age[9].open, "the release of uv broke the pilot"
    assert by_age[0].open > by_age[9].open, "the new policy mended it"
    # No day is left out between the first report and today, and none is told twice.
    assert [one.day for one in whole] == sorted({date_of(day) for day in days if date_of(day) >= whole[0].day})
    assert len(week) == 7
    shown = next(one for one in overview.workflows if one.workflow == "sync-build")
    assert (whole[-1].open, whole[-1].blocked, whole[-1].unknown) == (shown.open, shown.blocked, shown.unknown)


def test_changes_since_the_day_before_are_those_of_the_counts(made: Engine) -> None:
    until = now()
    yesterday = day_number(until) - 1
    with session_scope(made) as session:
        session.execute(delete(Daily).where(Daily.day == yesterday))
        overview = read_overview(session)
        shifts = read_shifts(session, overview, until)
        assert shifts.day == date_of(yesterday - 1), "the newest day that has counts"
        rows = session.query(Daily).where(Daily.day == day_number(until)).all()
        session.add_all(
            Daily(
                day=yesterday,
                group_id=row.group_id,
                what=row.what,
                name=row.name,
                value=row.value,
                subjects=row.subjects,
            )
            for row in rows
        )
    with session_scope(made) as session:
        assert read_shifts(session, read_overview(session), until).shifts == ()
        at_pattern = Daily.day == yesterday, Daily.what == "pattern", Daily.name == "venv-python"
        blocked = Daily.value == "blocked applocker"
        session.execute(update(Daily).where(*at_pattern, blocked).values(subjects=Daily.subjects + 2))
        session.execute(delete(Daily).where(Daily.day == yesterday, Daily.what == "version", Daily.name == "0.13.8"))
    with session_scope(made, writes=False) as session:
        overview = read_overview(session)
        shifts = read_shifts(session, overview, until)
        groups = sum(1 for group in overview.groups if group.counted)
        new = next(one.subjects for one in overview.versions if one.version == "0.13.8")
    by_name = {(one.what, one.name): one for one in shifts.shifts}
    assert set(by_name) == {("pattern", "venv-python"), ("version", "0.13.8")}
    assert -2 * groups <= by_name["pattern", "venv-python"].by < 0
    assert (by_name["version", "0.13.8"].before, by_name["version", "0.13.8"].now) == (0, new)


def test_policies_of_the_time_shown(made: Engine) -> None:
    with session_scope(made, writes=False) as session:
        recent = list_new_policies(session, now() - timedelta(days=10))
        older = list_new_policies(session, now() - timedelta(days=60))
    # The pilot's policy is in nobody's hands any more, so it is not told.
    assert len(recent) == 1
    assert recent[0].subjects > 0
    assert {one.set_id for one in older} > {recent[0].set_id}


def test_releases_of_uv_in_the_time_shown(made: Engine) -> None:
    until = now()
    with session_scope(made, writes=False) as session:
        found = list_new_versions(session, days=30, until=until)
        after = list_new_versions(session, days=9, until=until)
        finance = next(group for group in list_groups(session) if group.name == "Finance")
        of_group = list_new_versions(session, days=30, until=until, group_id=finance.id)
        shown = {one.version: one.subjects for one in read_overview(session).versions}
    # The older versions that came with users who enrolled later are no releases.
    assert [(one.version, one.subjects) for one in found] == [("0.13.8", shown["0.13.8"])]
    assert (until.date() - found[0].day).days in (11, 12)
    assert after == (), "it was there on the first of these days"
    assert [one.version for one in of_group] == ["0.13.8"]
    assert 0 < of_group[0].subjects < found[0].subjects
    with session_scope(made) as session:
        day = day_number(until)
        row = Daily(day=day, group_id=finance.id, what="version", name="0.14.0", value="", subjects=3)
        session.add_all([row, Daily(day=day, group_id=finance.id, what="version", name="own", value="", subjects=9)])
    with session_scope(made, writes=False) as session:
        found = list_new_versions(session, days=30, until=until)
    assert [(one.version, one.subjects) for one in found][:1] == [("0.14.0", 3)]


def test_a_fleet_of_today_has_no_day_before(database: Engine) -> None:
    with session_scope(database, writes=False) as session:
        shifts = read_shifts(session, read_overview(session), now())
        assert (shifts.day, shifts.shifts) == (None, ())
        assert read_trend(session, "sync-build", days=30, until=now()) == ()


def test_versions_by_day_sum_up_to_all_users(made: Engine) -> None:
    until = now()
    with session_scope(made, writes=False) as session:
        trend = read_version_trend(session, days=90, until=until, most=2)
        every = read_version_trend(session, days=90, until=until, most=99)
        overview = read_overview(session)
    assert [version for version, _ in trend.versions] == [version for version, _ in every.versions[:2]]
    assert every.others == (0,) * len(every.days)
    totals = [sum(values[day] for _, values in trend.versions) + trend.others[day] for day in range(len(trend.days))]
    assert totals == [sum(values[day] for _, values in every.versions) for day in range(len(every.days))]
    assert totals[-1] == sum(one.subjects for one in overview.versions)
    newest = dict(every.versions)["0.13.8"]
    assert newest[0] == 0, "the release came during the story"
    assert newest[-1] > 0
