"""The commands that a script needs, run as a person would: in a process of their own, on real databases."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.audit.queries import list_entries
from app.cli.database import opened_database
from app.db.session import session_scope
from app.settings import Settings
from tests.forked import Forked

# Each test starts processes of its own.
pytestmark = pytest.mark.slow


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "WAYLEAVE_DATA_DIR": str(settings.data_dir),
        "WAYLEAVE_DATABASE_URL": settings.database_url,
        "PYTHONWARNINGS": "default",
    }


def wayleave(settings: Settings, *arguments: str, given: str = "", code: int = 0) -> str:
    """What a command printed; it must end with this exit code."""
    run = subprocess.run(
        [sys.executable, "-m", "app.cli.main", *arguments],
        input=given,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == code, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run.stdout + run.stderr


def forked(settings: Settings, *arguments: str, code: int = 0) -> str:
    """The same, many times as fast: what is tried more than once is read once."""
    process, said = start_forked(settings, *arguments)
    assert process.wait(120) == code, said.read_text()
    assert "Traceback" not in said.read_text()
    return said.read_text()


def start_forked(settings: Settings, *arguments: str) -> tuple[Forked, Path]:
    """A process that runs, and the file with what it prints."""
    said = settings.data_dir / f"said-{uuid.uuid4().hex}"
    said.touch()
    return Forked(arguments, environment(settings), said), said


def wait_for(process: Forked, said: Path, pattern: str) -> re.Match[str]:
    """Where a running process has printed it."""
    until_s = time.monotonic() + 60
    while (match := re.search(pattern, said.read_text())) is None:
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < until_s, said.read_text()
        time.sleep(0.01)
    return match


@contextmanager
def serving_forked(settings: Settings) -> Iterator[str]:
    """The address of a running server, which is there sooner than by its name."""
    process, said = start_forked(settings, "serve", "--port", "0")
    try:
        yield wait_for(process, said, r"listens on (http://\S+) ")[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@contextmanager
def serving(settings: Settings, *arguments: str) -> Iterator[tuple[str, str]]:
    """A running server: its address, and what it said before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli.main", "serve", "--port", "0", *arguments],
        env=environment(settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if match := re.search(r"listens on (http://\S+)", line):
                yield match[1], said
                return
        raise AssertionError(f"the server did not start: {said}")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


def get(url: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=30) as client:
        return client.get(url)


def test_the_first_start_says_how_to_get_in_and_the_next_does_not(settings: Settings) -> None:
    with serving(settings) as (url, said):
        link = re.search(r"http://\S+/invitation/\S+", said)
        assert link is not None
        assert "wayleave-agent enrol --server " + url in said
        assert get(link[0]).status_code == 200
        assert get(f"{url}/readyz").text == "ready\n"
        assert get(f"{url}/healthz").text == "ok\n"
    wayleave(
        settings, "admin", "create", "--email", "a@example.com", "--password-stdin", given="correct horse battery\n"
    )
    with serving(settings) as (_url, said):
        assert "invitation" not in said
        assert "enrol" not in said


def test_the_key_is_for_its_owner_alone(settings: Settings) -> None:
    with serving(settings):
        pass
    key = settings.data_dir / "server.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text().strip()) == 64


def test_several_workers_need_postgresql(settings: Settings) -> None:
    if settings.is_sqlite:
        said = wayleave(settings, "serve", "--workers", "2", code=2)
        assert "needs PostgreSQL" in said
    else:
        with serving(settings, "--workers", "2") as (url, _said):
            assert get(f"{url}/readyz").status_code == 200


def test_secrets_tokens_and_checks(settings: Settings) -> None:
    assert re.fullmatch(
        r"wle_1_\S{20,}\n", wayleave(settings, "enrol-secret", "create", "--uses", "2", "--expires", "7d")
    )
    assert wayleave(settings, "token", "create", "--role", "viewer").strip()
    with opened_database(settings) as engine, session_scope(engine) as session:
        assert {"enrolment_secret.created", "token.created"} <= {
            entry.action for entry in list_entries(session).entries
        }
    assert "All counts are right." in wayleave(settings, "db", "check")
    assert "up to date" in forked(settings, "db", "upgrade")
    assert "Made 50 workstations" in wayleave(settings, "fleet", "make", "--hosts", "50")
    assert "There are 50 hosts already" in forked(settings, "fleet", "make", "--hosts", "5", code=1)
    assert "All counts are right." in forked(settings, "db", "check")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("enrol-secret", "create", "--expires", "soon"), 2, "give 30m"),
        (("enrol-secret", "create", "--network", "nowhere"), 1, "Not a network"),
        (("token", "create", "--role", "king"), 2, "'king' is not one of"),
    ],
)
def test_bad_input_is_one_sentence(settings: Settings, arguments: tuple[str, ...], code: int, said: str) -> None:
    last = forked(settings, *arguments, code=code).splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last


def test_no_address_is_one_sentence(settings: Settings) -> None:
    said = wayleave(
        settings, "admin", "create", "--email", "nobody", "--password-stdin", given="correct horse battery\n", code=1
    )
    assert said == "Error: This is not an e-mail address.\n"


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none")
    assert "The database does not answer" in wayleave(settings, "db", "check", code=1)


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "db", "check"],
        env={**os.environ, "WAYLEAVE_DATA_DIR": str(tmp_path), "WAYLEAVE_NEXT_REPORT_S": "often"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "WAYLEAVE_NEXT_REPORT_S" in run.stderr
