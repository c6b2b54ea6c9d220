"""What is noted of each set of probes is what judging it says, and recounting finds it wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, delete, func, insert, select, update

from agent import catalogue
from agent.contract.facts import Engine as Blocker
from app.db.base import now
from app.fleet.check import check_tallies
from app.fleet.facts import read_set
from app.fleet.fold import ContributionCache, fold
from app.fleet.judged import MAX_WORKFLOWS, sets_closed_by, sets_judged, sets_with_outcome
from app.fleet.make import make_fleet
from app.fleet.marks import RANK
from app.fleet.retention import retire_sets
from app.fleet.tables import KIND_NUMBERS, FactSet, JudgedSet, ObstacleTally, Subject
from app.fleet.workflows import CLOSED_OUTCOMES, VERDICTS, judge_workflows


@pytest.fixture
def made(database: Engine) -> Engine:
    make_fleet(database, 200, seed=7, profile="hostile")
    return database


def test_the_bits_say_what_judging_each_set_says(made: Engine) -> None:
    with made.connect() as connection:
        in_use = select(Subject.probes_id).where(Subject.standing.in_((1, 2, 3, 4)))
        rows = connection.execute(select(FactSet.id, FactSet.body).where(FactSet.id.in_(in_use))).all()
        patterns = {row.id: read_set("probes", row.body).patterns for row in rows}
        patterns = {set_id: facts for set_id, facts in patterns.items() if facts}
        assert len(patterns) > 10
        for workflow in catalogue.load().workflows:
            for verdict in VERDICTS:
                expected = {
                    set_id
                    for set_id, facts in patterns.items()
                    if (workflow.id, verdict) in {(one.workflow, one.verdict) for one in judge_workflows(facts)}
                }
                found = set(connection.scalars(sets_judged(workflow.id, [verdict])))
                assert found & patterns.keys() == expected, (workflow.id, verdict)
        for engine in Blocker:
            expected = {
                set_id
                for set_id, facts in patterns.items()
                if any(one.engine == engine and one.outcome in CLOSED_OUTCOMES for one in facts)
            }
            assert set(connection.scalars(sets_closed_by(engine))) & patterns.keys() == expected, engine
        for outcome in RANK:
            expected = {set_id for set_id, facts in patterns.items() if outcome in {one.outcome for one in facts}}
            assert set(connection.scalars(sets_with_outcome([outcome]))) & patterns.keys() == expected, outcome


def test_a_recount_finds_and_repairs_what_is_wrong(made: Engine) -> None:
    with made.connect() as connection:
        assert check_tallies(connection) == []
    with made.begin() as connection:
        first, second = connection.scalars(select(JudgedSet.set_id).order_by(JudgedSet.set_id).limit(2)).all()
        connection.execute(update(JudgedSet).where(JudgedSet.set_id == first).values(verdicts=0, engines=255))
        connection.execute(delete(JudgedSet).where(JudgedSet.set_id == second))
        connection.execute(update(ObstacleTally).values(subjects=ObstacleTally.subjects + 1))
    with made.connect() as connection:
        told = " ".join(one.what for one in check_tallies(connection, repair=True))
    assert f"judged_set set {first} engines" in told
    assert f"judged_set set {second} verdicts" in told
    assert "obstacle_tally" in told
    with made.connect() as connection:
        fold(connection, ContributionCache())
        connection.commit()
        assert check_tallies(connection) == []


def test_what_was_noted_goes_with_the_set(made: Engine) -> None:
    at = now()
    with made.begin() as connection:
        # One that nobody has any more, retired long ago.
        connection.execute(
            insert(FactSet).values(
                kind=KIND_NUMBERS["probes"],
                digest=b"gone",
                body="{}",
                flags=0,
                facts=None,
                created_at=at - timedelta(days=9),
                retired_at=at - timedelta(days=5),
            )
        )
        gone = connection.scalars(select(FactSet.id).where(FactSet.digest == b"gone")).one()
        connection.execute(insert(JudgedSet).values(set_id=gone, verdicts=0, engines=0, outcomes=0))
        before = connection.scalar(select(func.count()).select_from(JudgedSet))
    with made.connect() as connection:
        _retired, deleted = retire_sets(connection, at)
        assert deleted == 1
        assert connection.scalar(select(func.count()).select_from(JudgedSet)) == (before or 0) - 1


def test_there_is_room_for_every_command() -> None:
    assert len(catalogue.load().workflows) <= MAX_WORKFLOWS
