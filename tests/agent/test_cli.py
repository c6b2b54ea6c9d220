"""The command line: its exit codes, its words, and a loop that ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import cli
from agent._platform import read_machine_id
from agent.spool import Identity, Progress, hash_machine, locked, save_identity, save_progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def quiet_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("WAYLEAVE_", "UV_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYLEAVE_AGENT_SEARCH_PROJECTS", "false")


def enrolled(state: Path, *, machine: str | None = None, **progress: object) -> None:
    with locked(state):
        machine = machine or hash_machine(read_machine_id())
        save_identity(state, Identity(server="http://127.0.0.1:9", host_id="1", token="t", machine=machine))
        save_progress(state, Progress(epoch=1, **progress))


def run(state: Path, command: str, *more: str) -> int:
    return cli.main([command, "--state-dir", str(state), *more])


def test_not_enrolled(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "once") == cli.NOT_ENROLLED
    assert run(state, "status") == cli.NOT_ENROLLED
    assert "enrol --server" in capsys.readouterr().err


def test_revoked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(state, revoked=True, trouble="the server answered 403 revoked: gone")
    assert run(state, "once") == cli.REVOKED
    assert "gone" in capsys.readouterr().err
    assert run(state, "status") == cli.REVOKED


def test_a_clone_without_a_secret(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(state, machine="another")
    assert run(state, "once") == cli.NOT_ENROLLED
    assert "clone" in capsys.readouterr().err


def test_busy(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(state)
    with locked(state):
        assert run(state, "once") == cli.BUSY
    assert "another agent" in capsys.readouterr().err


def test_not_delivered(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(state)
    assert run(state, "once") == cli.NOT_DELIVERED
    assert "1 waiting" in capsys.readouterr().out
    assert run(state, "status", "--json") == cli.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["waiting"] == 1
    assert told["failures"] == 1
    assert told["trouble"].startswith("ConnectError")
    assert run(state, "status") == cli.DONE
    assert "waiting" in capsys.readouterr().out


@pytest.mark.parametrize("server", ["http://wayleave.example.com", "nonsense"])
def test_a_wrong_server(state: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "enrol", "--server", server, "--secret", "s") == cli.WRONG_USE
    assert "https://" in capsys.readouterr().err


def test_enrolling_needs_a_secret_and_a_server_that_answers(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "enrol", "--server", "http://127.0.0.1:9") == cli.WRONG_USE
    assert "--secret-file" in capsys.readouterr().err
    assert run(state, "enrol", "--server", "http://127.0.0.1:9", "--secret", "s") == cli.NOT_DELIVERED
    assert "s" not in (path.name for path in state.iterdir())
    assert not (state / "identity.json").exists()


def test_a_wrong_setting(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text("probe = true\n")
    assert run(state, "probe", "--config", str(tmp_path / "a.toml")) == cli.WRONG_USE
    assert "unknown setting 'probe'" in capsys.readouterr().err


def test_a_state_that_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "state", "probe") == cli.FAILED
    assert "Not a directory" in capsys.readouterr().err


def test_what_is_printed_is_what_is_sent(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "probe", "--format", "wire") == cli.DONE
    wire = json.loads(capsys.readouterr().out)
    assert run(state, "probe") == cli.DONE
    read = json.loads(capsys.readouterr().out)
    assert read["sets"] == wire["sets"]
    assert {name: json.loads(body) for name, body in wire["bodies"].items()} == read["bodies"]
    assert run(state, "probe", "--format", "table") == cli.DONE
    assert "cache-builds-venv-python" in capsys.readouterr().out


def test_the_loop_goes_on_and_ends_when_told(state: Path) -> None:
    enrolled(state)
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "run", "--state-dir", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "1 waiting" in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == cli.DONE
    process.communicate()


def test_the_loop_outlives_somebody_elses_cycle(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(state, revoked=True)
    slept: list[float] = []
    held = locked(state)
    held.__enter__()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", sleep)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run(state, "run") == cli.REVOKED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert slept == [cli.RETRY_S]
    assert "another agent" in capsys.readouterr().err
