"""The repository's agent on the bench: as an ordinary user under the policy in force, with a state of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from tests.windows.bench.places import LAUNCHER, LOCAL_APPDATA, PYTHON, REPOSITORY, on_disk
from tests.windows.bench.run import Finished, Running, run_under_policy, start

STATE = rf"{LOCAL_APPDATA}\wayleave"
AGENT = (PYTHON, "-I", "-m", "agent.cli")


def install_agent() -> None:
    """Puts the agent, as it stands in the repository now, into the bench's Python, byte code included."""
    target = on_disk(PYTHON).parent / "Lib/site-packages/agent"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(REPOSITORY / "agent", target, ignore=shutil.ignore_patterns("__pycache__"))
    run_under_policy([*AGENT, "--version"])


def forget_state() -> None:
    """Removes the agent's identity, progress and spool."""
    # Windows does not tell `Wayleave`, which an installed agent makes, from `wayleave`; this disk does.
    for folder in on_disk(LOCAL_APPDATA).iterdir():
        if folder.name.lower() == on_disk(STATE).name.lower():
            shutil.rmtree(folder, ignore_errors=True)


def run_agent(*arguments: str, variables: Mapping[str, str] | None = None, limit_s: float = 120) -> Finished:
    """Runs one command of the agent, with projects below C:\\src."""
    return run_under_policy(_command(arguments), variables=variables, limit_s=limit_s)


def start_agent(*arguments: str, variables: Mapping[str, str] | None = None) -> Running:
    """Starts one command of the agent and returns at once."""
    return start([LAUNCHER, *_command(arguments)], variables=variables)


def probe() -> dict[str, dict[str, Any]]:
    """What `wayleave-agent probe` finds of programs, by pattern: the best specimen of each.

    raises: AssertionError with the agent's output.
    """
    found = [one for one in probe_all() if one["collection"] == "Exe"]
    # The canary beside something better is told after it.
    return {one["pattern"]: one for one in sorted(found, key=lambda one: one["specimen"] != "canary")}


def probe_all() -> list[dict[str, Any]]:
    """Every probe that `wayleave-agent probe` tells of. raises: AssertionError with the agent's output."""
    finished = run_agent("probe")
    assert finished.code == 0, finished
    report = json.loads(finished.output[finished.output.index("{") :])
    probes: list[dict[str, Any]] = report["bodies"][report["sets"]["probes"]]["probes"]
    return probes


def _command(arguments: Sequence[str]) -> list[str]:
    command, *rest = arguments
    return [*AGENT, command, "--state-dir", STATE, "--project-root", "C:\\src", *rest]
