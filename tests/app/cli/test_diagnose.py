"""`wayleave diagnose`: from a file or a pipe, in the encodings of Windows, as words and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.diagnose import command

OUTPUT = Path(__file__).parents[1] / "diagnosis" / "outputs" / "add-query-interpreter.txt"
ROOT = Path(__file__).parents[3]


def test_json_of_a_file() -> None:
    ended = CliRunner().invoke(command, [str(OUTPUT), "--json"])
    answer = json.loads(ended.output)
    assert ended.exit_code == 0
    assert set(answer) == {"blocked", "engine", "error_code", "reason", "findings"}
    assert (answer["blocked"], answer["engine"], answer["error_code"]) == (True, "applocker-or-srp", 1260)
    (found,) = answer["findings"]
    assert {"path", "pattern", "certainty", "workflow", "advice"} <= set(found)
    assert found["pattern"] == "venv-python"
    assert set(found["advice"][0]) == {"audience", "kind", "text"}


def test_words_of_standard_input() -> None:
    ended = CliRunner().invoke(command, [], input=OUTPUT.read_bytes())
    assert ended.exit_code == 0
    assert ended.output.startswith("Blocked.\n")
    assert "Pattern:   venv-python" in ended.output
    assert "1. Administrator: Allow" in ended.output


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_what_powershell_writes(encoding: str) -> None:
    data = OUTPUT.read_text("utf-8").encode(encoding)
    assert json.loads(CliRunner().invoke(command, ["--json"], input=data).output)["blocked"] is True


def test_an_output_that_shows_no_block() -> None:
    ended = CliRunner().invoke(command, ["-"], input="Resolved 6 packages in 569ms")
    assert ended.exit_code == 1
    assert ended.output.startswith("Not blocked.\n")


def test_bytes_that_are_no_text_and_a_file_that_is_not_there() -> None:
    assert CliRunner().invoke(command, ["-"], input=b"\xff\xfe\x00\xd8\xe9\x81").exit_code == 1
    assert CliRunner().invoke(command, ["no-such-file"]).exit_code == 2


def test_as_a_program_in_a_pipe() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app.cli.main", "diagnose", "--json"],
        input=OUTPUT.read_bytes(),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["findings"][0]["workflow"] == "sync-wheels"
