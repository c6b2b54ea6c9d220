"""Promise 6 on Linux: uv answers the same while canaries stand and after kill -9, and nothing is left behind."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from agent._platform import CANARY, is_link
from agent.catalogue import Machine, canary_paths, load
from agent.placement import Journal, new_token, place, plan_placement
from tests.agent.linux import killing
from tests.agent.linux.workstation import Workstation, listing, system_python, use_uv

KILL_POINTS = 20

COMMANDS = (
    ("python", "list"),
    ("tool", "list"),
    ("tool", "upgrade", "--all"),
    ("venv", "--python", system_python(), "fresh"),
)


def settled(workstation: Workstation) -> list[tuple[int, str, str]]:
    """uv's answers once it has written down what it writes at a first use: settings in receipts, interpreters."""
    answers(workstation)
    return answers(workstation)


def answers(workstation: Workstation) -> list[tuple[int, str, str]]:
    """What uv answers to a person's commands: exit code, output, messages (without durations)."""
    found = []
    for command in COMMANDS:
        finished = workstation.run_uv(*command)
        found.append((finished.returncode, finished.stdout, re.sub(r"\d+(\.\d+)?m?s\b", "TIME", finished.stderr)))
    shutil.rmtree(workstation.project / "fresh")
    return found


def place_all(workstation: Workstation) -> tuple[Journal, list[str]]:
    """Every canary of the catalogue at once, as no cycle would ever have them."""
    machine = Machine(env=workstation.environment(), platform="linux", project_roots=(str(workstation.project),))
    token = new_token()
    paths = [path for pattern in load().patterns for path in canary_paths(pattern, machine, token)]
    workstation.state_dir.mkdir(exist_ok=True)
    journal = Journal(workstation.state_dir / "journal.json", is_link)
    for path in paths:
        placement = plan_placement(path)
        journal.add((placement,))
        place(placement, CANARY)
    return journal, paths


def test_uv_answers_the_same_with_every_canary_in_place(workstation: Workstation) -> None:
    use_uv(workstation)
    before = settled(workstation)
    assert [code for code, _, _ in before] == [0, 0, 0, 0], before
    assert "greeter v1.0" in before[1][1]
    files = listing(workstation.home)

    journal, paths = place_all(workstation)
    assert len(paths) >= 9
    assert all(Path(path).exists() for path in paths)
    during = answers(workstation)
    left = journal.clear()

    assert during == before
    assert left == ()
    assert listing(workstation.home) == files


def test_the_next_start_sweeps_what_a_killed_agent_left(workstation: Workstation) -> None:
    use_uv(workstation)
    settled(workstation)
    files = listing(workstation.home)
    _, paths = place_all(workstation)  # and nobody clears it: the process that would have is gone
    stranger = Path(paths[0]).parent / "not-ours"
    stranger.write_text("somebody else's")
    (Path(paths[1])).write_bytes(b"somebody else's program under our name")

    workstation.probe()

    assert stranger.exists()
    assert Path(paths[1]).exists()
    for mine in (stranger, Path(paths[1])):
        mine.unlink()
        for folder in mine.parents:
            if str(folder) in files or any(folder.iterdir()):
                break
            folder.rmdir()
    assert listing(workstation.home) == files


@pytest.mark.slow
def test_killed_anywhere_uv_is_unharmed_and_nothing_stays(workstation: Workstation) -> None:
    use_uv(workstation)
    program = (killing.__file__,)
    roots = ("--project-root", str(workstation.project))
    counted = workstation.run_agent("probe", *roots, program=(*program, "count"))
    assert counted.returncode == 0, counted.stderr
    lines = int(re.search(r"lines: (\d+)", counted.stderr)[1])
    before = settled(workstation)
    files = listing(workstation.home)
    seed = random.randrange(2**32)
    print(f"seed {seed}, {lines} lines")
    chance = random.Random(seed)

    caught_in_the_act = 0
    for point in sorted(chance.sample(range(1, lines), KILL_POINTS)):
        killed = workstation.run_agent("probe", *roots, program=(*program, str(point)))
        assert killed.returncode == -signal.SIGKILL, (seed, point)
        standing = listing(workstation.home) != files
        caught_in_the_act += standing
        assert answers(workstation) == before, (seed, point)
        probes = workstation.probe()
        assert probes["cache-builds-venv-python"]["outcome"] == "allowed", (seed, point)
        assert listing(workstation.home) == files, (seed, point)
        assert not (workstation.state_dir / "journal.json").exists(), (seed, point)
    print(json.dumps({"kill points": KILL_POINTS, "with canaries standing": caught_in_the_act}))
    assert caught_in_the_act > 0, seed
