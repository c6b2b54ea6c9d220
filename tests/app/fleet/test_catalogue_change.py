"""A release with another catalogue: the derived counts are made anew at the start, and by one catalogue at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from agent import catalogue
from agent.catalogue import Catalogue
from app.db.session import session_scope
from app.fleet import derive, fold
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, rebuild_if_catalogue_changed
from app.fleet.make import make_fleet
from app.fleet.queries import read_overview
from app.fleet.tables import PatternTally, TallyDelta, WorkflowTally
from app.jobs import clock
from app.main import create_app
from app.settings import Settings

GONE = "venv-python"
NEEDED_BY = "sync-wheels"
Become = Callable[[Catalogue], None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    """Gives the running code another catalogue."""
    return lambda other: monkeypatch.setattr(catalogue, "load", lambda: other)


@pytest.fixture
def other() -> Catalogue:
    """The next release's: one pattern is gone, and a command needs less."""
    ours = catalogue.load()
    return replace(
        ours,
        etag="another",
        patterns=tuple(one for one in ours.patterns if one.id != GONE),
        workflows=tuple(
            replace(one, needs=tuple(need for need in one.needs if need != GONE)) for one in ours.workflows
        ),
    )


def counted(engine: Engine) -> tuple[set[str], dict[tuple[str, str], int]]:
    with session_scope(engine, writes=False) as session:
        patterns = set(session.scalars(select(PatternTally.pattern)))
        rows = session.execute(
            select(WorkflowTally.workflow, WorkflowTally.verdict, func.sum(WorkflowTally.subjects)).group_by(
                WorkflowTally.workflow, WorkflowTally.verdict
            )
        )
        return patterns, {(workflow, verdict): int(subjects) for workflow, verdict, subjects in rows}


def rebuilt(engine: Engine) -> bool:
    with engine.connect() as connection:
        return rebuild_if_catalogue_changed(connection, ContributionCache())


def assert_right(engine: Engine) -> None:
    with engine.connect() as connection:
        assert check_tallies(connection) == []


def test_counts_are_made_anew_and_back(database: Engine, become: Become, other: Catalogue) -> None:
    ours = catalogue.load()
    make_fleet(database, 60)
    assert rebuilt(database)
    assert not rebuilt(database), "once is enough"
    patterns, workflows = counted(database)
    assert GONE in patterns
    assert_right(database)

    become(other)
    assert rebuilt(database)
    assert not rebuilt(database)
    assert counted(database)[0] == patterns - {GONE}
    assert counted(database)[1] != workflows
    assert_right(database)

    become(ours)
    assert rebuilt(database)
    assert counted(database) == (patterns, workflows)
    assert_right(database)


def test_other_rules_make_them_anew_too(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fleet(database, 20)
    assert rebuilt(database)
    monkeypatch.setattr(fold, "DERIVATION", derive.DERIVATION + 1)
    assert rebuilt(database)
    assert_right(database)


def test_an_older_server_beside_a_newer_one_leaves_folding_to_it(
    database: Engine, become: Become, other: Catalogue
) -> None:
    ours = catalogue.load()
    make_fleet(database, 30)
    assert rebuilt(database)
    become(other)
    assert rebuilt(database)
    become(ours)
    make_fleet(database, 30, seed=2)  # what its own folder can't fold stays
    with session_scope(database, writes=False) as session:
        assert session.scalar(select(func.count()).select_from(TallyDelta))
    assert GONE not in counted(database)[0]
    become(other)
    with database.connect() as connection:
        while fold.fold(connection, ContributionCache()):
            pass
    assert_right(database)
    assert GONE not in counted(database)[0]
    with session_scope(database, writes=False) as session:
        assert read_overview(session).counted > 30


def test_when_the_newer_one_is_gone_the_older_takes_over(
    server: FastAPI, become: Become, other: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "FOLD_EVERY_S", 0.05)
    monkeypatch.setattr(clock, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(clock, "TAKE_OVER_AFTER_S", 0.4)
    engine = server.state.engine
    ours = catalogue.load()
    make_fleet(engine, 30)
    with TestClient(server):
        wait_for(lambda: not _needs_rebuild(engine))
        become(other)
        assert rebuilt(engine)
        become(ours)
        time.sleep(0.6)
        assert GONE not in counted(engine)[0], "nothing waits, so nobody is needed"
        make_fleet(engine, 30, seed=2)
        wait_for(lambda: GONE in counted(engine)[0])
    assert_right(engine)


def test_a_restart_with_another_catalogue_rebuilds(
    settings: Settings, server: FastAPI, become: Become, other: Catalogue
) -> None:
    engine = server.state.engine
    make_fleet(engine, 40)
    with TestClient(server):
        wait_for(lambda: not _needs_rebuild(engine))
    assert GONE in counted(engine)[0]
    become(other)
    again = create_app(settings)
    with TestClient(again):
        wait_for(lambda: GONE not in counted(engine)[0])
    assert_right(engine)


def _needs_rebuild(engine: Engine) -> bool:
    with engine.connect() as connection, connection.begin():
        return fold._derived_from(connection) != fold._own_derivation()


def wait_for(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_counts_are_not_made_anew_while_they_are_checked(database: Engine) -> None:
    """The check writes in a snapshot: on PostgreSQL what somebody else writes meanwhile would end it."""
    if database.name != "postgresql":
        return
    with database.connect() as checking, database.connect() as starting:
        checking.execute(text("LOCK TABLE tally IN SHARE ROW EXCLUSIVE MODE"))
        starting.execute(text("SET lock_timeout = '200ms'"))
        starting.commit()
        with pytest.raises(OperationalError, match="lock timeout"):
            rebuild_if_catalogue_changed(starting, ContributionCache())
        starting.rollback()
        checking.rollback()
        assert rebuild_if_catalogue_changed(starting, ContributionCache())
