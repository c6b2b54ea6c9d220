"""The child that loads libraries: one for many, started again when one takes it down, gone with the agent."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.loading import Loader, child_command, serve

CHILD = """
import json, os, sys
from agent.loading import serve

def load(path):
    if path == "crash":
        os._exit(3)
    if path == "silent":
        sys.stdin.close()
        os._exit(0)
    return {"refused": 1260}.get(path, 0)

sys.exit(serve(sys.stdin, sys.stdout, load=load))
"""


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-c", CHILD]


def test_what_the_child_answers_is_a_number_for_each_line() -> None:
    asked: list[str] = []

    def load(path: str) -> int:
        asked.append(path)
        return 1260

    answers = io.StringIO()
    lines = [json.dumps("C:\\x y\\ü.pyd") + "\n", "not json\n", "5\n", '""\n']
    assert serve(lines, answers, load=load) == 0
    assert answers.getvalue() == "1260\n-1\n-1\n-1\n"
    assert asked == ["C:\\x y\\ü.pyd"]


def test_one_child_serves_many_and_another_follows_one_that_died(command: list[str]) -> None:
    with Loader(command) as loader:
        assert loader.load("fine") == 0
        first = loader._child
        assert loader.load("refused") == 1260
        assert loader._child is first
        assert loader.load("crash") == -1
        assert loader.load("fine") == 0
        assert loader.load("silent") == -1
        assert loader.load("refused") == 1260
        last = loader._child
        assert last is not None
        assert last is not first
    assert last.poll() is not None


def test_a_child_that_may_not_be_started_is_told_by_its_number(tmp_path: Path) -> None:
    with Loader([str(tmp_path / "missing")]) as loader:
        assert loader.load("x") == 2


def test_no_child_is_started_for_nothing() -> None:
    with Loader(["/does/not/exist"]) as loader:
        pass
    assert loader._child is None


def test_the_child_ends_when_its_agent_does(command: list[str]) -> None:
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=20) == 0
    assert child.stdout is not None
    child.stdout.close()


def test_frozen_the_agent_is_its_own_child(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_command()[1:] == ["-I", "-m", "agent.loading"]
    monkeypatch.setattr(sys, "executable", "/opt/wayleave/wayleave-agent.exe")
    assert child_command() == ["/opt/wayleave/wayleave-agent.exe", "load-libraries"]
