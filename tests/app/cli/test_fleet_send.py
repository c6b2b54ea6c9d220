"""`fleet send` speaks the real protocol to a running server; `fleet compare` holds its ledger to the database."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from app.db.engine import open_engine
from app.db.session import session_scope
from app.fleet.tables import FactSet, Host, Pulse, Sighting, Transition
from app.fleet.tables_rule_use import RuleUse
from app.settings import Settings
from tests.app.cli.test_server_commands import serving, wayleave

pytestmark = pytest.mark.slow
HOSTS = 40


def test_what_was_acknowledged_is_in_the_database(settings: Settings, tmp_path: Path) -> None:
    secret = wayleave(settings, "enrol-secret", "create").strip()
    several = [] if settings.is_sqlite else ["--workers", "2"]
    ledger, second = str(tmp_path / "ledger"), str(tmp_path / "second")
    with serving(settings, *several) as (url, _said):
        send = ["fleet", "send", "--hosts", str(HOSTS), "--url", url, "--secret", secret]
        said = wayleave(settings, *send, "--rate", "200", "--for", "2", "--changed", "0.3", "--ledger", ledger)
        assert f"{HOSTS} workstations enrolled." in said
        assert "0 reports refused, 0 connections lost" in said
        wayleave(settings, *send, "--for", "1", "--new-connection", "--ledger", second)
        said = wayleave(settings, "fleet", "compare", ledger)
        assert "0 workstations differ" in said
        assert "0 workstations differ" in wayleave(settings, "fleet", "compare", second)
        assert "All counts are right." in wayleave(settings, "db", "check")
    lines = [json.loads(line) for line in Path(ledger).read_text().splitlines()]
    assert len(lines) == HOSTS
    assert sum(line["acknowledged"] for line in lines) > 200
    engine = open_engine(settings)
    with session_scope(engine, writes=False) as session:
        names = set(session.scalars(select(Host.name)))
        assert {f"SEND-{number:07}" for number in range(1, HOSTS + 1)} == names
        assert session.scalars(select(Transition.kind)).first(), "nothing changed"
        assert len(session.scalars(select(FactSet.id)).all()) < 40, "what is alike is not sent by each"
    # A database that lost one report, and one that counted one twice.
    with session_scope(engine) as session:
        session.execute(update(Pulse).where(Pulse.subject_id == 1).values(received=Pulse.received - 1))
        session.execute(update(Pulse).where(Pulse.subject_id == 2).values(received=Pulse.received + 1))
    said = wayleave(settings, "fleet", "compare", ledger, code=1)
    assert "in the database: lost" in said
    assert "in the database: counted twice" in said
    assert "2 workstations differ" in said
    with session_scope(engine) as session:
        session.execute(delete(Sighting))
        session.execute(update(RuleUse).values(uses=RuleUse.uses + 1000))
    said = wayleave(settings, "fleet", "compare", ledger, code=1)
    assert re.search(r"host \d+, sightings: \d+ acknowledged, 0 in the database: lost", said)
    assert re.search(r"host \d+, uses of rules: \d+ acknowledged, \d+ in the database: counted twice", said)
    engine.dispose()


def test_a_file_that_is_no_ledger_is_named_by_its_line(settings: Settings, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text('{"host": "1", "acknowledged": 2}\n{"host": "x"}\n')
    assert "line 2 is no line of a ledger" in wayleave(settings, "fleet", "compare", str(bad), code=1)


def test_a_server_that_is_not_there_is_a_sentence(settings: Settings) -> None:
    send = ["fleet", "send", "--hosts", "1", "--secret", "wle_1_x"]
    assert "Error" in wayleave(settings, *send, "--url", "http://127.0.0.1:1", code=1)
    assert "plain HTTP" in wayleave(settings, *send, "--url", "https://wayleave.example", code=1)
