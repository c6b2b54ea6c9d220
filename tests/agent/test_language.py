"""PowerShell's language mode: asked once for each policy, believed only behind the token of the question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import language
from agent.language import ask_language_mode, find_language_mode, read_answer

WINDOWS = {"SystemRoot": r"C:\Windows"}


@pytest.fixture(autouse=True)
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "PLATFORM", "windows")


class PowerShell:
    """Answers as told; `{token}` stands for the token in the question."""

    def __init__(self, output: str | None) -> None:
        self.output = output
        self.asked: list[Sequence[str]] = []

    def __call__(self, command: Sequence[str]) -> str | None:
        self.asked.append(command)
        found = re.match(r"'([0-9a-f]{24})='", command[-1])
        assert found
        return self.output and self.output.replace("{token}", found[1])


def test_a_mode_behind_the_token_is_believed() -> None:
    shell = PowerShell("{token}=ConstrainedLanguage\r\n")
    assert ask_language_mode(WINDOWS, run=shell) == "ConstrainedLanguage"
    (command,) = shell.asked
    assert command[0] == r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
    assert "-NoProfile" in command
    assert "-NonInteractive" in command


@pytest.mark.parametrize(
    "output",
    [
        None,
        "",
        "FullLanguage\r\n",
        "0123456789abcdef01234567=FullLanguage\r\n",
        "{token}=\r\n",
        "{token}=SomeLanguage\r\n",
        "{token}=FullLanguage trailing\r\n",
        "x{token}=FullLanguage\r\n",
        "{token}=FullLanguage\r\n{token}=ConstrainedLanguage\r\n",
        "'{token}=' + $ExecutionContext.SessionState.LanguageMode",
    ],
)
def test_anything_else_says_nothing(output: str | None) -> None:
    assert ask_language_mode(WINDOWS, run=PowerShell(output)) is None


def test_noise_around_the_answer_does_not_hide_it() -> None:
    assert read_answer("WARNING: a\r\nabc=FullLanguage\r\nbye\r\n", "abc") == "FullLanguage"


def test_it_is_asked_once_for_each_policy(tmp_path: Path) -> None:
    shell = PowerShell("{token}=FullLanguage")
    for _ in range(3):
        assert find_language_mode(tmp_path, "sha256:a", WINDOWS, run=shell) == "FullLanguage"
    assert len(shell.asked) == 1
    shell.output = "{token}=ConstrainedLanguage"
    assert find_language_mode(tmp_path, "sha256:b", WINDOWS, run=shell) == "ConstrainedLanguage"
    assert len(shell.asked) == 2
    silent = PowerShell(None)
    assert find_language_mode(tmp_path, "sha256:c", WINDOWS, run=silent) == ""
    assert find_language_mode(tmp_path, "sha256:c", WINDOWS, run=silent) == ""
    assert len(silent.asked) == 1


def test_tokens_differ() -> None:
    shell = PowerShell(None)
    ask_language_mode(WINDOWS, run=shell)
    ask_language_mode(WINDOWS, run=shell)
    assert shell.asked[0][-1] != shell.asked[1][-1]
