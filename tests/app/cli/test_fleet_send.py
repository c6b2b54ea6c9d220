"""`fleet send` speaks the real protocol to a running server; `fleet compare` holds its ledger to the database."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from app.db.engine import open_engine
from app.db.session import session_scope
from app.fleet.tables import FactSet, Host, Pulse, Sighting, Subject, Transition
from app.fleet.tables_rule_use import RuleUse
from app.settings import Settings
from tests.app.cli.test_server_commands import environment, serving, wayleave

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
    # A database in which two states went astray.
    with session_scope(engine) as session:
        first, second = (session.get_one(Subject, number) for number in (1, 2))
        wrong = (first.host_id, second.host_id)
        first.policy_id, first.token_id = first.uv_id, None
        session.execute(update(Host).where(Host.id == wrong[1]).values(facts_digest=b"x"))
    said = wayleave(settings, "fleet", "compare", ledger, code=1)
    assert f"host {wrong[0]}, state: not as last acknowledged: policy, token\n" in said
    assert f"host {wrong[1]}, state: not as last acknowledged: host\n" in said
    assert "2 workstations differ" in said
    # One that lost one report, and one that counted one twice.
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


def test_an_interrupted_ledger_accuses_nobody(settings: Settings, tmp_path: Path) -> None:
    """Ended with reports in flight: these may have arrived or not."""
    secret = wayleave(settings, "enrol-secret", "create").strip()
    with serving(settings) as (url, _said):
        for how in (signal.SIGINT, signal.SIGTERM):
            ledger = tmp_path / how.name
            send = ["fleet", "send", "--hosts", str(HOSTS), "--url", url, "--secret", secret, "--changed", "0.3"]
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli.main", *send, "--ledger", str(ledger)],
                env={**environment(settings), "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert process.stdout is not None
            assert "enrolled" in process.stdout.readline()
            time.sleep(1)
            process.send_signal(how)
            said, _none = process.communicate(timeout=30)
            assert process.returncode == 1
            assert "Traceback" not in said
            lines = [json.loads(line) for line in ledger.read_text().splitlines()]
            assert sum(line["unanswered"] for line in lines) > 0, "none was in flight: nothing was tested"
            assert "0 workstations differ" in wayleave(settings, "fleet", "compare", str(ledger))


def test_a_file_that_is_no_ledger_is_named_by_its_line(settings: Settings, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text('{"host": "1", "acknowledged": 2}\n{"host": "x"}\n')
    assert "line 2 is no line of a ledger" in wayleave(settings, "fleet", "compare", str(bad), code=1)


def test_a_server_that_is_not_there_is_a_sentence(settings: Settings) -> None:
    send = ["fleet", "send", "--hosts", "1", "--secret", "wle_1_x"]
    assert "Error" in wayleave(settings, *send, "--url", "http://127.0.0.1:1", code=1)
    assert "plain HTTP" in wayleave(settings, *send, "--url", "https://wayleave.example", code=1)
