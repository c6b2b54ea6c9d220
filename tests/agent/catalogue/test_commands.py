"""Every command of the real uv is in the catalogue: it belongs to a workflow, or starts nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.catalogue import load

UV = Path(sys.executable).with_name("uv")


def commands_of(*words: str) -> list[str]:
    """What a command's own help lists beneath `Commands:`."""
    told = subprocess.run(
        [UV, *words, "--help"], capture_output=True, text=True, check=True, timeout=30, env={"NO_COLOR": "1"}
    ).stdout
    section = re.search(r"^Commands:\n(.*?)^\S", told, re.DOTALL | re.MULTILINE)
    return re.findall(r"^  ([a-z-]+) ", section[1], re.MULTILINE) if section else []


def test_every_command_is_known() -> None:
    if not UV.exists():
        pytest.skip("needs uv in the environment")
    found = set()
    for first in commands_of():
        below = [] if first == "help" else commands_of(first)
        found |= {f"uv {first} {second}" for second in below} or {f"uv {first}"}
    assert len(found) > 50
    catalogue = load()
    started = {command for workflow in catalogue.workflows for command in (workflow.command, *workflow.also)}
    # `uv run TOOL` is `uv run`: words in capitals and options stand for arguments.
    started = {" ".join(word for word in command.split() if word.islower() and word[0] != "-") for command in started}
    known = started | {"uv run"} | set(catalogue.starts_nothing)
    assert found - known == set()
    assert set(catalogue.starts_nothing) - found == {"uv generate-shell-completion"}  # which help does not list
    assert not started & set(catalogue.starts_nothing)
