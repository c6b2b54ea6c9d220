"""Silent subjects and gaps are counted by group, on both databases, and only those."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, update

from app.db.session import session_scope
from app.fleet.absence import count_absent
from app.fleet.make import make_fleet
from app.fleet.queries import list_groups
from app.fleet.queries_absence import read_absence
from app.fleet.standing import Standing
from app.fleet.sweep import mark_silent
from app.fleet.tables import Pulse, Subject

AT = datetime(2030, 1, 1, tzinfo=UTC)


def test_nothing_is_missing_before_the_first_count(database: Engine) -> None:
    with session_scope(database, writes=False) as session:
        count = read_absence(session)
    assert (count.silent, count.with_gaps, count.counted_at) == (0, 0, None)


def test_silent_subjects_and_gaps_are_counted_by_group(database: Engine) -> None:
    make_fleet(database, 60, seed=3)
    with session_scope(database) as session:
        ids = list(session.scalars(Subject.__table__.select().with_only_columns(Subject.id).order_by(Subject.id)))
        session.execute(update(Pulse).values(last_seen_at=AT))
        session.execute(update(Pulse).where(Pulse.subject_id.in_(ids[:7])).values(last_seen_at=AT - timedelta(days=30)))
        session.execute(update(Pulse).where(Pulse.subject_id.in_(ids[5:12])).values(missed=3))
    with database.connect() as connection:
        assert mark_silent(connection, AT, days=14) == 7
        count_absent(connection, AT)
        count_absent(connection, AT)
    with session_scope(database, writes=False) as session:
        count = read_absence(session)
        groups = [read_absence(session, group.id) for group in list_groups(session)]
        assert session.get_one(Subject, ids[0]).standing == Standing.SILENT
    # A silent subject's gaps say nothing any more: two of the seven with gaps are silent.
    assert (count.silent, count.with_gaps, count.counted_at) == (7, 5, AT)
    assert sum(one.silent for one in groups) == 7
    assert sum(one.with_gaps for one in groups) == 5
    assert max(one.silent for one in groups) < 7
