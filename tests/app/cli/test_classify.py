"""`wayleave classify`: paths as arguments, a stream of lines, and what is said of input that can't be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.classify import MAX_LINE_BYTES, command

BUILD = r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe"
PROGRAM = [sys.executable, "-m", "app.cli.main", "classify"]
ROOT = Path(__file__).parents[3]


def run_lines(data: bytes, *arguments: str) -> tuple[list[dict[str, object]], str, int]:
    ended = subprocess.run([*PROGRAM, "--jsonl", *arguments], input=data, capture_output=True, cwd=ROOT, timeout=60)
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr.decode(), ended.returncode


def test_paths_as_arguments() -> None:
    ended = CliRunner().invoke(command, [BUILD, r"C:\Windows\notepad.exe"])
    assert ended.exit_code == 0
    assert ended.output.splitlines() == [
        f"cache-builds-venv-python  {BUILD}",
        f"{'-':<24}  C:\\Windows\\notepad.exe",
    ]


def test_json_is_an_array_in_order() -> None:
    ended = CliRunner().invoke(command, [r"D:\b\mypy.exe", BUILD, "x", "--env", r"UV_TOOL_BIN_DIR=D:\b", "--json"])
    assert json.loads(ended.output) == [
        {"path": r"D:\b\mypy.exe", "pattern": "tool-bin-exe"},
        {"path": BUILD, "pattern": "cache-builds-venv-python"},
        {"path": "x", "pattern": None},
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name at least one PATH"),
        (["x", "--env", "UV_CACHE_DIR"], "'UV_CACHE_DIR' is not NAME=VALUE"),
        (["x", "--env", "=D:"], "'=D:' is not NAME=VALUE"),
        (["x", "--jsonl"], "--jsonl takes its paths from standard input"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    ended = CliRunner().invoke(command, arguments)
    assert ended.exit_code == 2
    assert said in ended.output


def test_lines_are_answered_in_order() -> None:
    lines = [
        {"path": BUILD},
        {"path": r"C:\x"},
        {"path": r"D:\b\mypy.exe", "context": {"env": {"UV_TOOL_BIN_DIR": r"D:\b"}}},
        {"path": r"D:\c\mypy.exe"},
        {"path": r"C:\src\.venv\Scripts\python.exe", "context": {"pyvenv_cfg_uv": False}},
        {"path": r"C:\src\.venv\Scripts\python.exe", "context": {"pyvenv_cfg_uv": None, "env": None, "future": [1]}},
        {"path": "C:\\\ud800\\.venv\\Scripts\\python.exe", "more": 1},
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    answers, said, code = run_lines(data, "--env", r"UV_TOOL_BIN_DIR=D:\c")
    assert (said, code) == ("", 0)
    assert [answer["path"] for answer in answers] == [line["path"] for line in lines]
    wanted = ["cache-builds-venv-python", None, "tool-bin-exe", "tool-bin-exe", None, "venv-python", "venv-python"]
    assert [answer["pattern"] for answer in answers] == wanted
    assert all(set(answer) == {"path", "pattern"} for answer in answers)


def test_a_line_that_cannot_be_read_is_named_and_the_others_are_answered() -> None:
    good = json.dumps({"path": BUILD}).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        b"",
        b"   \r",
        b"{",
        b'["path"]',
        b'{"path": 1}',
        b'{"context": {}}',
        b'{"path": "x", "context": []}',
        b'{"path": "x", "context": {"env": []}}',
        b'{"path": "x", "context": {"env": {"A": 1}}}',
        b"[" * 100_000,
        b'{"path": "' + b"a" * MAX_LINE_BYTES + b'"}',
        b'{"path": "C:\\\\caf\xe9\\\\.venv\\\\Scripts\\\\python.exe"}',
        good + b"\r",
    ]
    answers, said, code = run_lines(b"\n".join(lines))
    assert code == 2
    assert len(answers) == len(lines) - 2
    assert answers[0]["pattern"] == "cache-builds-venv-python"
    assert [answer["pattern"] for answer in answers][-2:] == ["venv-python", "cache-builds-venv-python"]
    assert ["error" in answer for answer in answers] == [False] + [True] * 9 + [False, False]
    assert answers[5] == {"path": "x", "pattern": None, "error": "context: not an object"}
    told = said.splitlines()
    assert told[0].startswith("line 4: not JSON")
    assert told[1:] == [
        'line 5: not an object of the form {"path": ..., "context": ...}',
        "line 6: path: not a string",
        "line 7: path: missing",
        "line 8: context: not an object",
        "line 9: context.env: not an object",
        "line 10: context.env.A: not a string",
        "line 11: not readable: nested too deeply",
        f"line 12: longer than {MAX_LINE_BYTES} bytes",
    ]


def test_each_line_is_answered_before_the_next_is_waited_for() -> None:
    with subprocess.Popen(
        [*PROGRAM, "--jsonl"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for path, pattern in ((BUILD, "cache-builds-venv-python"), ("x", None)) * 2:
            process.stdin.write(json.dumps({"path": path}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {"path": path, "pattern": pattern}
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_nothing_in_nothing_out() -> None:
    assert run_lines(b"") == ([], "", 0)


def test_the_database_is_not_imported() -> None:
    script = "import app.cli.classify, sys; print([name for name in ('sqlalchemy', 'fastapi') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.stdout == "[]\n"
