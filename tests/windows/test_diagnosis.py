"""What real uv prints when it is refused, diagnosed: the answer names the very file that the policy refused."""

from __future__ import annotations

import pytest

from agent.catalogue import classify, normalise
from app.diagnosis import Finding, diagnose
from tests.windows.bench.commands import COMMANDS, PROJECT, Command, did_work, refused, run_command
from tests.windows.bench.index import SCRIPTED
from tests.windows.bench.places import SHIM_LOG, UV, UV_BEFORE_SIGNING, on_disk
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import Finished, run_under_policy
from tests.windows.test_uv_under_policy import PLACES, with_places

pytestmark = pytest.mark.windows

UVS = {"newest": UV, "0.7.12": UV_BEFORE_SIGNING}


def with_uv(command: Command, uv: str) -> Command:
    """The same command of another uv; `uvx` as `uv tool run`, which any uv knows."""
    words = command.arguments[1:] if command.arguments[0] == UV else ("tool", "run", *command.arguments[1:])
    return Command(
        name=command.name,
        arguments=(uv, *words),
        says=command.says,
        makes=command.makes,
        directory=command.directory,
        prepare=command.prepare,
    )


def diagnosed(finished: Finished, typed: tuple[str, ...]) -> Finding:
    """The one finding of an output, as a person would paste it: below the command that was typed."""
    text = f"C:\\src>uv {' '.join(typed[1:])}\n{finished.output}"
    answer = diagnose(text)
    assert (answer.blocked, answer.engine, answer.error_code) == (True, "applocker-or-srp", 1260), text
    assert len(answer.findings) == 1, text
    return answer.findings[0]


def same(path: str | None, other: str) -> bool:
    return path is not None and (normalise(path) or "").lower() == (normalise(other) or "").lower()


@pytest.mark.parametrize("uv", UVS.values(), ids=UVS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_refused_command_is_told_by_its_output(
    command: Command, uv: str, clean_bench: None, index_url: str, default_rules: str
) -> None:
    enforce(default_rules)
    mine = with_uv(command, uv)
    finished = run_command(mine, index_url)
    found = diagnosed(finished, mine.arguments)
    file = refused()[0]
    assert same(found.path, file), (found, file, finished.output)
    assert found.pattern == classify(file)
    assert found.workflow is not None


@pytest.mark.parametrize("uv", UVS.values(), ids=UVS)
def test_a_tool_and_a_launcher_that_are_refused_later(
    uv: str, clean_bench: None, index_url: str, default_rules: str
) -> None:
    enforce(with_places(default_rules, PLACES))
    command = with_uv(COMMANDS[1], uv)
    assert did_work(command, run_command(command, index_url))

    # The environment is closed: its python.exe is refused when uv asks it about itself.
    enforce(with_places(default_rules, PLACES[:2]))
    words = (uv, "run", "--offline", SCRIPTED)
    on_disk(SHIM_LOG).unlink(missing_ok=True)
    found = diagnosed(run_under_policy(words, directory=PROJECT), words)
    assert same(found.path, refused()[0]), (found, refused())
    assert found.pattern == "venv-python"

    # The environment is open, and the Python behind it closed.
    enforce(with_places(default_rules, (PLACES[0], PLACES[2])))
    on_disk(SHIM_LOG).unlink(missing_ok=True)
    finished = run_under_policy(words, directory=PROJECT)
    assert finished.code != 0
    answer = diagnose(finished.output)
    assert answer.blocked, finished.output
    assert not same(answer.findings[0].path, rf"{PROJECT}\.venv\Scripts\python.exe"), finished.output
    assert refused(), finished.output
