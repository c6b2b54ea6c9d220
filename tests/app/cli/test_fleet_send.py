"""`fleet send` speaks the real protocol to a running server; `fleet compare` holds its ledger to the database."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, func, select, update

from app.db.engine import open_engine
from app.db.session import session_scope
from app.fleet.tables import FactSet, Host, Pulse, Sighting, Subject, Transition
from app.fleet.tables_rule_use import RuleUse
from app.settings import Settings
from tests.app.cli.test_server_commands import forked, serving, serving_forked, start_forked, wait_for, wayleave

pytestmark = pytest.mark.slow
HOSTS = 40


@contextmanager
def serving_with_two_processes(settings: Settings) -> Iterator[str]:
    """The address of a server of two processes where the database lets it."""
    if settings.is_sqlite:
        with serving_forked(settings) as url:
            yield url
        return
    with serving(settings, "--workers", "2") as (url, _said):
        yield url


def test_what_was_acknowledged_is_in_the_database(settings: Settings, tmp_path: Path) -> None:
    secret = forked(settings, "enrol-secret", "create").strip()
    ledger, other = str(tmp_path / "ledger"), str(tmp_path / "other")
    with serving_with_two_processes(settings) as url:
        send = ["fleet", "send", "--hosts", str(HOSTS), "--url", url, "--secret", secret]
        said = forked(settings, *send, "--rate", "200", "--for", "3", "--changed", "0.3", "--ledger", ledger)
        assert f"{HOSTS} workstations enrolled." in said
        assert "0 reports refused, 0 connections lost" in said
        forked(settings, *send, "--for", "0.5", "--new-connection", "--ledger", other)
        said = forked(settings, "fleet", "compare", ledger)
        assert "0 workstations differ" in said
        assert "0 workstations differ" in forked(settings, "fleet", "compare", other)
        assert "All counts are right." in forked(settings, "db", "check")
    lines = [json.loads(line) for line in Path(ledger).read_text().splitlines()]
    assert len(lines) == HOSTS
    # Asked for were 600; a busy machine is behind.
    assert sum(line["acknowledged"] for line in lines) > 200
    engine = open_engine(settings)
    with session_scope(engine, writes=False) as session:
        names = set(session.scalars(select(Host.name)))
        assert {f"SEND-{number:07}" for number in range(1, HOSTS + 1)} == names
        assert session.scalars(select(Transition.kind)).first(), "nothing changed"
        assert len(session.scalars(select(FactSet.id)).all()) < 40, "what is alike is not sent by each"
    # A database in which two states went astray.
    with session_scope(engine) as session:
        first, second = session.scalars(select(Subject).order_by(Subject.id).limit(2))
        wrong, subjects = (first.host_id, second.host_id), (first.id, second.id)
        first.policy_id, first.token_id = first.uv_id, None
        session.execute(update(Host).where(Host.id == wrong[1]).values(facts_digest=b"x"))
    said = forked(settings, "fleet", "compare", ledger, code=1)
    assert f"host {wrong[0]}, state: not as last acknowledged: policy, token\n" in said
    assert f"host {wrong[1]}, state: not as last acknowledged: host\n" in said
    assert "2 workstations differ" in said
    # One that lost one report, and one that counted one twice.
    with session_scope(engine) as session:
        session.execute(update(Pulse).where(Pulse.subject_id == subjects[0]).values(received=Pulse.received - 1))
        session.execute(update(Pulse).where(Pulse.subject_id == subjects[1]).values(received=Pulse.received + 1))
    said = forked(settings, "fleet", "compare", ledger, code=1)
    assert "in the database: lost" in said
    assert "in the database: counted twice" in said
    assert "2 workstations differ" in said
    with session_scope(engine) as session:
        session.execute(delete(Sighting))
        session.execute(update(RuleUse).values(uses=RuleUse.uses + 1000))
    said = forked(settings, "fleet", "compare", ledger, code=1)
    assert re.search(r"host \d+, sightings: \d+ acknowledged, 0 in the database: lost", said)
    assert re.search(r"host \d+, uses of rules: \d+ acknowledged, \d+ in the database: counted twice", said)
    engine.dispose()


def test_an_interrupted_ledger_accuses_nobody(settings: Settings, database: Engine, tmp_path: Path) -> None:
    """Ended with reports in flight: these may have arrived or not."""
    secret = forked(settings, "enrol-secret", "create").strip()
    ledger = tmp_path / "ledger"

    def count_received() -> int:
        with session_scope(database, writes=False) as session:
            return session.scalar(select(func.sum(Pulse.received))) or 0

    def interrupt(url: str, how: signal.Signals) -> int:
        """How many reports were in flight."""
        before = count_received()
        send = ["fleet", "send", "--hosts", str(HOSTS), "--url", url, "--secret", secret, "--changed", "0.3"]
        process, said = start_forked(settings, *send, "--ledger", str(ledger))
        wait_for(process, said, "enrolled")
        until_s = time.monotonic() + 60
        while count_received() < before + HOSTS:
            assert time.monotonic() < until_s, "they do not report"
            time.sleep(0.05)
        process.send_signal(how)
        assert process.wait(30) == 1
        assert "Traceback" not in said.read_text()
        assert "0 workstations differ" in forked(settings, "fleet", "compare", str(ledger))
        return sum(json.loads(line)["unanswered"] for line in ledger.read_text().splitlines())

    with serving_forked(settings) as url:
        for how in (signal.SIGINT, signal.SIGTERM):
            # Now and then all have their answers, and the next have not been sent.
            assert any(interrupt(url, how) for _ in range(5)), "none was in flight: nothing was tested"


def test_a_file_that_is_no_ledger_is_named_by_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text('{"host": "1", "acknowledged": 2}\n{"host": "x"}\n')
    settings = Settings(data_dir=tmp_path, database_url="")
    assert "line 2 is no line of a ledger" in wayleave(settings, "fleet", "compare", str(bad), code=1)


def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="")
    send = ["fleet", "send", "--hosts", "1", "--secret", "wle_1_x"]
    assert "Error" in wayleave(settings, *send, "--url", "http://127.0.0.1:1", code=1)
    assert "plain HTTP" in forked(settings, *send, "--url", "https://wayleave.example", code=1)
