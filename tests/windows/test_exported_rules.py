"""Rules that `wayleave export applocker` writes, obeyed to the letter: uv works under them, and under no fewer."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.catalogue import classify
from app.cli.export import command as export_command
from tests.windows.bench.commands import COMMANDS, Command, did_work, refused, run_command
from tests.windows.bench.policy import enforce, paths_in
from tests.windows.conftest import POLICIES

pytestmark = pytest.mark.windows

OPENED = (
    "managed-python-exe",
    "cache-builds-venv-python",
    "cache-archive-env-python",
    "cache-archive-env-entrypoint-exe",
    "venv-python",
    "venv-entrypoint-exe",
)
NEEDED = {
    "uv venv": {"managed-python-exe"},
    "uv run": {"managed-python-exe", "venv-python", "venv-entrypoint-exe"},
    "uvx": {"cache-archive-env-python", "cache-archive-env-entrypoint-exe"},
    "uv pip install (sdist)": {"cache-builds-venv-python"},
}
# The rule for a folder's programs lets its Python run too: without the Python rule alone nothing would be refused.
CONTAINED_IN = {"cache-archive-env-python": "cache-archive-env-entrypoint-exe", "venv-python": "venv-entrypoint-exe"}


def export(patterns: set[str], target: Path) -> str:
    """The whole policy: AppLocker's default rules and the path rules of these patterns, for everyone."""
    chosen = [argument for pattern in sorted(patterns) for argument in ("--pattern", f"{pattern}=path")]
    base = ["--base", str(POLICIES / "default-rules.xml"), "--project-root", "C:\\src"]
    result = CliRunner().invoke(
        export_command, ["applocker", *chosen, "--sid", "S-1-1-0", *base, "--out", str(target)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return target.read_text(encoding="utf-8-sig")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_works_under_the_rules_of_the_patterns_it_needs(
    command: Command, clean_bench: None, index_url: str, tmp_path: Path
) -> None:
    xml = export(NEEDED[command.name], tmp_path / "policy.xml")
    translation = enforce(xml)
    assert translation.rules >= 2 + len(NEEDED[command.name]), paths_in(xml)
    assert translation.unjudged == 0
    finished = run_command(command, index_url)
    assert did_work(command, finished), finished
    assert refused() == []


@pytest.mark.parametrize("left_out", OPENED)
def test_with_one_rule_left_out_exactly_its_pattern_is_refused(
    left_out: str, clean_bench: None, index_url: str, tmp_path: Path
) -> None:
    without = {left_out, CONTAINED_IN.get(left_out, left_out)}
    command = next(command for command in COMMANDS if left_out in NEEDED[command.name])
    enforce(export(set(OPENED) - without, tmp_path / "policy.xml"))
    finished = run_command(command, index_url)
    assert finished.code != 0, finished
    assert {classify(path, machine=None) for path in refused()} <= without, finished
    assert refused(), finished
