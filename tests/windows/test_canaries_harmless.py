"""Canaries do not disturb uv, and nothing of them stays: not even when the agent is killed at any moment.

uv answers the same with canaries in place and after `kill -9`, and once the agent has started again the folders hold
exactly what they held before. Moments are random, a third of them anywhere in a cycle, the others while canaries are
being placed; their seed is printed, and `WAYLEAVE_TEST_SEED` repeats them. `make faults` kills twenty times.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.windows.bench.agent import run_agent, start_agent
from tests.windows.bench.commands import MANAGED, TOOL, make_project
from tests.windows.bench.places import DRIVE_C, LOCAL_APPDATA, PYTHON, UV, on_disk
from tests.windows.bench.run import Running, run

pytestmark = [pytest.mark.windows, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("WAYLEAVE_CANARY_KILLS") or 6)
MORE_KILLS = 12
"""So many more at most, when none met a canary in place."""
SWEEP_ONLY = {"WAYLEAVE_AGENT_PROBING": "false", "WAYLEAVE_AGENT_ASK_UV": "false"}
PLACE_ALL = """
import os
from pathlib import Path
from agent.catalogue import load
from agent.discover import discover
from agent.placement import Journal, new_token, place, plan_placement
from agent.canary import WINDOWS_LIBRARY, WINDOWS_SCRIPT
from agent.trials import plan_trials
from agent._platform import CANARY, is_link
state = Path(os.environ["STATE"])
state.mkdir(parents=True, exist_ok=True)
found = discover(load(), os.environ, configured_roots=("C:\\\\src",), search_projects=True, may_ask=True)
trials = plan_trials(load(), found.machine, new_token(), uvs=[uv.path for uv in found.uvs])
contents = {"Exe": CANARY, "Dll": WINDOWS_LIBRARY, "Script": WINDOWS_SCRIPT}
canaries = [
    (path, contents[trial.collection]) for trial in trials if trial.specimen == "canary" for path in trial.paths
]
placements = [plan_placement(path) for path, _ in canaries]
journal = Journal(state / "journal.json", is_link)
journal.add(placements)
for placement, (_, content) in zip(placements, canaries):
    place(placement, content)
print(len(placements), "placed")
"""


@pytest.fixture
def lived_in(clean_bench: None, agent_installed: None, index_url: str) -> dict[str, str]:
    """A workstation on which uv is in use: a tool, a project with its environment, a filled cache."""
    variables = {"UV_DEFAULT_INDEX": index_url, "UV_PYTHON_DOWNLOADS": "never"}
    make_project()
    for arguments in (["tool", "install", *MANAGED, TOOL], ["sync", *MANAGED, "--project", r"C:\src\demo"]):
        finished = run([UV, *arguments], variables=variables)
        assert finished.code == 0, finished
    return variables


def uv_answers(variables: dict[str, str]) -> list[str]:
    """What uv says to four questions; times it took are left out, and what Wine says of a process that was killed."""
    answers = []
    for arguments in (
        ["python", "list", "--only-installed", "--show-urls"],
        ["tool", "list", "--show-paths"],
        ["tool", "upgrade", "--all"],
        ["venv", *MANAGED, "--clear", r"C:\src\scratch"],
    ):
        finished = run([UV, *arguments], variables=variables)
        said = "\n".join(line for line in finished.output.splitlines() if not line.startswith("wine client error:"))
        answers.append(f"{finished.code}\n{re.sub(r'in [0-9.]+m?s', 'in T', said)}")
    shutil.rmtree(on_disk(r"C:\src\scratch"), ignore_errors=True)
    return answers


def listing() -> set[str]:
    """Every file, folder and link where canaries could be, but for the agent's own state. uv rewrites files of its own
    when it is asked, so sizes and times do not count."""
    state = on_disk(rf"{LOCAL_APPDATA}\wayleave")
    found = set()
    for top in (DRIVE_C / "users/alice", DRIVE_C / "src"):
        for folder, folders, files in os.walk(top):
            if Path(folder) == state.parent:
                folders[:] = [name for name in folders if name != state.name]
            found |= {str(Path(folder, name).relative_to(DRIVE_C)) for name in (*folders, *files)}
    return found


def sweep() -> None:
    """Lets the agent start again, which sweeps; it tries nothing."""
    finished = run_agent("probe", variables=SWEEP_ONLY)
    assert finished.code == 0, finished


def measure_cycle() -> tuple[float, float]:
    """How long a whole cycle takes, and for how long in it canaries are being placed: seconds."""
    with start_agent("probe") as agent:
        wait_for_journal(True, agent)
        began = time.monotonic()
        wait_for_journal(False, agent)
        placing_s = time.monotonic() - began
        whole = agent.wait(60)
    assert whole.code == 0, whole
    return whole.seconds, placing_s


def wait_for_journal(there: bool, agent: Running) -> None:
    """Waits until the agent has written down what it is going to place, or has taken all of it away."""
    journal = on_disk(rf"{LOCAL_APPDATA}\wayleave\journal.json")
    deadline = time.monotonic() + 60
    while journal.exists() != there:
        assert agent.process.poll() is None, agent.output()
        assert time.monotonic() < deadline, agent.output()
        time.sleep(0.002)


def test_uv_answers_the_same_with_every_canary_in_place(lived_in: dict[str, str]) -> None:
    uv_answers(lived_in)
    sweep()
    before, held = uv_answers(lived_in), listing()
    placed = run([PYTHON, "-I", "-c", PLACE_ALL], variables={"STATE": rf"{LOCAL_APPDATA}\wayleave"})
    assert re.search(r"^[1-9]\d placed$", placed.output, re.MULTILINE), placed
    there = listing()
    assert len(there) > len(held) + 10
    assert uv_answers(lived_in) == before
    sweep()
    assert listing() == held


def test_nothing_stays_wherever_the_agent_is_killed(lived_in: dict[str, str]) -> None:
    uv_answers(lived_in)
    cycle_s, placing_s = measure_cycle()
    before, held = uv_answers(lived_in), listing()
    seed = int(os.environ.get("WAYLEAVE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"WAYLEAVE_TEST_SEED={seed}; a cycle takes {cycle_s:.1f} s, placing canaries {placing_s:.1f} s of it")
    moments = random.Random(seed)
    found_in_place = number = 0
    while number < KILLS or (not found_in_place and number < KILLS + MORE_KILLS):
        with start_agent("probe") as agent:
            if number % 3:
                wait_for_journal(True, agent)
                # How long it takes changes with what else the machine does: some are quicker than was measured.
                time.sleep(moments.uniform(0, placing_s) * moments.choice((1, 0.4, 0.15)))
            else:
                time.sleep(moments.uniform(0, cycle_s))
            agent.kill()
        left = listing() - held
        found_in_place += bool(left)
        if left or number == 0:
            assert uv_answers(lived_in) == before, f"seed {seed}, kill {number}, left: {sorted(left)}"
        sweep()
        assert listing() == held, f"seed {seed}, kill {number}"
        number += 1
    assert found_in_place, f"seed {seed}: no kill met a canary in place, so nothing was shown"
    print(f"{found_in_place} of {number} kills left something for the next start")
