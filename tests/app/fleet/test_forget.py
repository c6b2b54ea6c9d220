"""Erasing a host: nothing of it is left in any table, counts are right, and its audit entry names nobody."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, func, select, text

from app.audit.record import COMMAND_LINE
from app.audit.tables import AuditEntry
from app.cli.host import command
from app.db.base import now
from app.db.session import session_scope
from app.errors import NotFoundError
from app.fleet.check import check_tallies
from app.fleet.fold import ContributionCache, fold
from app.fleet.forget import find_hosts, forget_host
from app.fleet.make import make_fleet
from app.fleet.tables import Host, Pulse, Sighting, Subject, Transition


def fleet_with_a_sighting(engine: Engine) -> tuple[int, str, int]:
    """Id, name and subject of a host of whose past something is kept."""
    make_fleet(engine, 40)
    with session_scope(engine) as session:
        subject = session.scalars(
            select(Subject).join(Transition, Transition.subject_id == Subject.id).order_by(Subject.id).limit(1)
        ).one()
        host = session.get_one(Host, subject.host_id)
        session.add(
            Sighting(
                host_id=host.id,
                at=now(),
                channel="c",
                record=1,
                subject_id=subject.id,
                recorded_at=now(),
                event_id=8004,
                pattern="venv-python",
                path="**\\python.exe",
            )
        )
        return host.id, host.name, subject.id


def test_nothing_is_left_and_counts_are_right(database: Engine) -> None:
    host_id, name, subject_id = fleet_with_a_sighting(database)
    with session_scope(database) as session:
        assert find_hosts(session, name.lower()) == (host_id,)
        gone = forget_host(session, host_id, actor=COMMAND_LINE)
    assert gone.sightings >= 1
    assert gone.transitions >= 1
    with session_scope(database, writes=False) as session:
        for table, column, value in (
            (Host, Host.id, host_id),
            (Subject, Subject.host_id, host_id),
            (Sighting, Sighting.host_id, host_id),
            (Pulse, Pulse.subject_id, subject_id),
            (Transition, Transition.subject_id, subject_id),
        ):
            assert session.scalar(select(func.count()).select_from(table).where(column == value)) == 0, table
        assert session.scalar(select(func.count()).select_from(Host)) == 39
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc()).limit(1)).one()
        assert (entry.action, entry.target) == ("host.forgotten", str(host_id))
        audit = " ".join(str(row) for row in session.execute(text("SELECT target, detail FROM audit_entry")))
        assert name not in audit
    with database.connect() as connection:
        while fold(connection, ContributionCache()):
            pass
    with database.connect() as connection:
        assert check_tallies(connection) == []


def test_an_unknown_host_is_refused(database: Engine) -> None:
    with session_scope(database) as session, pytest.raises(NotFoundError):
        forget_host(session, 4711, actor=COMMAND_LINE)


def test_the_command_asks_and_tells(database: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    _, name, _ = fleet_with_a_sighting(database)
    monkeypatch.setenv("WAYLEAVE_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path))
    run = CliRunner()
    assert run.invoke(command, ["forget", "nobody", "--yes"]).exit_code == 1
    refused = run.invoke(command, ["forget", name], input="n\n")
    assert refused.exit_code == 1
    with session_scope(database, writes=False) as session:
        assert find_hosts(session, name)
    done = run.invoke(command, ["forget", name, "--yes"])
    assert done.exit_code == 0, done.output
    assert "Erased: 1 users" in done.output
    with session_scope(database, writes=False) as session:
        assert find_hosts(session, name) == ()
