"""The whole circle: refused by a policy, seen by the agent, shown by the server, opened by its export, seen to be open.

The agent runs as an ordinary user under AppLocker's default rules and reports to a real server. What its pages show as
blocked is what uv meets; the files that its pages give are all that the bench's next policy is made of: those of the
export page, and those of rule sets that were simulated and approved, by hash alone, by path, by moving folders.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from agent.catalogue import classify
from app.applocker.model import HashCondition
from app.applocker.read import parse_policy
from tests.windows.bench.agent import forget_state, install_agent, run_agent
from tests.windows.bench.commands import (
    COMMANDS,
    PROJECT,
    Command,
    did_work,
    forget_what_uv_made,
    make_project,
    refused,
    run_command,
)
from tests.windows.bench.index import SCRIPTED, TOOL
from tests.windows.bench.places import (
    LOCAL_APPDATA,
    MANAGED_KEY,
    MANAGED_MINOR_KEY,
    MANAGED_PYTHON,
    PYTHON,
    ROAMING_APPDATA,
    UV,
    UVX,
    on_disk,
)
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run
from tests.windows.bench.server import Server, running_server
from tests.windows.bench.workbench import (
    Package,
    Way,
    approve_and_export,
    draft_rules,
    second_person,
    simulate,
    trusted_files,
)

pytestmark = pytest.mark.windows

CHOSEN = {
    "managed-python-exe",
    "cache-builds-venv-python",
    "cache-archive-env-python",
    "cache-archive-env-entrypoint-exe",
    "venv-python",
    "venv-entrypoint-exe",
}
# Rules for all programs of a folder open its Python too, and the link to Python is its target: left out with it.
ALONE = ("managed-python-exe", "cache-git-checkout", "tool-bin-exe", "cache-archive-env-entrypoint-exe", "venv-python")
ALSO_OPENS = {
    "managed-python-exe": {"managed-python-minor-link"},
    "cache-archive-env-entrypoint-exe": {"cache-archive-env-python"},
    "venv-python": {"venv-entrypoint-exe"},
}

VENV, _, UVX_TOOL, SDIST = COMMANDS
PINNED_PYTHON = ("--managed-python", "--python", "3.13.2")
"""Asked for by its patch version, uv copies the launcher into `.venv`; else it makes a trampoline for each place."""
PINNED = Command(
    name="uv run (pinned Python)",
    arguments=(UV, "run", *PINNED_PYTHON, "python", "-c", "import sys; print(sys.prefix)"),
    says=rf"{PROJECT}\.venv",
    directory=PROJECT,
    prepare=make_project,
)
TRAMPOLINE = Command(
    name="uv run (a package's program)",
    arguments=(UV, "run", *PINNED_PYTHON, SCRIPTED),
    says=rf"{PROJECT}\.venv\Scripts\python.exe",
    directory=PROJECT,
    prepare=make_project,
)


@pytest.fixture(scope="module")
def server(bench: None, default_rules: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one host: the bench, whose agent has been enrolled."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        install_agent()
        forget_state()
        forget_what_uv_made()
        enforce(default_rules)
        enrolled = run_agent("enrol", "--server", running.url, "--secret", running.enrolment_secret())
        assert enrolled.code == 0, enrolled
        yield running
        forget_state()


def report(variables: Mapping[str, str] | None = None, install: Callable[[], None] = lambda: None) -> None:
    """One cycle of the agent, with uv never used before but for what `install` does."""
    forget_what_uv_made()
    install()
    finished = run_agent("once", "--force", variables=variables)
    assert finished.code == 0, finished
    assert "1 sent" in finished.output, finished


def settled(server: Server, expected: set[str], among: set[str]) -> set[str]:
    """The patterns of `among` that are shown as blocked, once those are as expected or half a minute has passed."""
    deadline = time.monotonic() + 30
    while (found := server.blocked_patterns() & among) != expected and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def test_the_circle(server: Server, index_url: str, default_rules: str) -> None:
    enforce(default_rules)
    report()
    assert settled(server, CHOSEN, CHOSEN) == CHOSEN
    probes = server.probes_of_only_host()
    places = {pattern: found for pattern, found in probes.items() if found.outcome == "blocked"}
    assert set(places) >= CHOSEN
    assert {(found.engine, found.error) for found in places.values()} == {("AppLocker", "1260")}
    for command in COMMANDS:
        finished = run_command(command, index_url)
        assert finished.code != 0, finished
        assert "(os error 1260)" in finished.output, finished
        assert classify(refused()[0]) in places, finished

    enforce(server.export(CHOSEN, default_rules))
    report()
    assert settled(server, set(), CHOSEN) == set()
    probes = server.probes_of_only_host()
    assert {pattern: probes[pattern].outcome for pattern in CHOSEN} == dict.fromkeys(CHOSEN, "allowed")
    assert server.open_patterns() >= CHOSEN
    for command in COMMANDS:
        finished = run_command(command, index_url)
        assert did_work(command, finished), finished
        assert refused() == [], finished


@pytest.mark.parametrize("left_out", ALONE)
def test_with_one_rule_left_out_the_pages_show_exactly_its_pattern(
    left_out: str, server: Server, default_rules: str
) -> None:
    everything = server.choosable_patterns()
    without = {left_out} | ALSO_OPENS.get(left_out, set())
    enforce(default_rules)
    report()
    settled(server, CHOSEN, CHOSEN)
    was_blocked = server.blocked_patterns() & everything
    assert without <= was_blocked
    enforce(server.export(was_blocked - without, default_rules))
    report()
    assert settled(server, without, was_blocked) == without


@pytest.fixture(scope="module")
def approver(server: Server) -> Iterator[httpx.Client]:
    """The browser of the person who approves what the administrator wrote."""
    with second_person(server) as browser:
        yield browser


@pytest.fixture
def no_moved_folders() -> Iterator[None]:
    yield
    for name in ("python", "tools", "bin"):
        shutil.rmtree(on_disk(rf"C:\Program Files\uv\{name}"), ignore_errors=True)


def test_a_rule_set_of_hashes_alone(
    server: Server, approver: httpx.Client, index_url: str, default_rules: str, tmp_path: Path
) -> None:
    """A Python's files open it and every environment made of it; trampolines that name their place stay closed."""
    folder = on_disk(MANAGED_PYTHON).parent
    names = (
        "python.exe",
        "pythonw.exe",
        "Lib/venv/scripts/nt/venvlauncher.exe",
        "Lib/venv/scripts/nt/venvwlauncher.exe",
    )
    trampoline = made_on_a_trusted_machine(index_url, tmp_path)
    files = trusted_files(server, [*(str(folder / name) for name in names), str(trampoline)])
    ways = {
        # A real one is not signed; the bench's is, and by that nobody's managed Python: so its files are chosen.
        "managed-python-exe": Way(kind="hash", files=files[:2]),
        "cache-builds-venv-python": Way(kind="hash"),
        "cache-archive-env-python": Way(kind="hash"),
        "cache-archive-env-entrypoint-exe": Way(kind="hash", files=files[4:]),
        "venv-python": Way(kind="hash"),
    }
    package = go_round(
        server,
        approver,
        index_url,
        default_rules,
        ways,
        install=lambda: use_uvx(index_url),
        works=(VENV, PINNED, UVX_TOOL, SDIST),
        stays=(TRAMPOLINE,),
    )
    rules = parse_policy(package.files["rules.xml"])
    assert {type(rule.condition) for _, rule in rules.rules()} == {HashCondition}


def test_a_rule_set_of_paths(server: Server, approver: httpx.Client, index_url: str, default_rules: str) -> None:
    ways = {
        "cache-builds-venv-python": Way(kind="path"),
        "cache-archive-env-python": Way(kind="path"),
        "cache-archive-env-entrypoint-exe": Way(kind="path"),
    }
    go_round(server, approver, index_url, default_rules, ways, works=(UVX_TOOL, SDIST), stays=(VENV,))


def test_a_rule_set_that_moves_folders(
    server: Server, approver: httpx.Client, index_url: str, default_rules: str, no_moved_folders: None
) -> None:
    """No rule at all: uv is told to keep Pythons and tools where only administrators write."""
    ways = {name: Way(kind="relocate") for name in ("managed-python-exe", "tool-env-python", "tool-env-entrypoint-exe")}
    variables: dict[str, str] = {}

    def install() -> None:
        install_tool(index_url, variables)

    tool = Command(name="uvx (an installed tool)", arguments=(UVX, TOOL), says="this way", prepare=install)
    package = go_round(
        server, approver, index_url, default_rules, ways, variables, install, works=(VENV, tool), stays=(SDIST,)
    )
    assert "rules.xml" not in package.files
    assert not on_disk(rf"{ROAMING_APPDATA}\uv\tools").exists()


def go_round(
    server: Server,
    approver: httpx.Client,
    index_url: str,
    default_rules: str,
    ways: Mapping[str, Way],
    variables: dict[str, str] | None = None,
    install: Callable[[], None] = lambda: None,
    *,
    works: Sequence[Command],
    stays: Sequence[Command],
) -> Package:
    """Refused, reported, drafted, simulated, approved, exported, put in force: `works` works then, `stays` does not.

    What the page of the simulation foretold is what the next report shows, pattern by pattern. `variables`: takes those
    that the package sets; `install`: what an administrator puts on the machine, before and after.
    """
    variables = {} if variables is None else variables
    enforce(default_rules)
    report(install=install)
    assert settled(server, set(ways), set(ways)) == set(ways)
    before = server.blocked_patterns()
    for command in (*works, *stays):
        finished = run_command(command, index_url)
        assert finished.code != 0, finished
        assert refused(), finished

    address = draft_rules(server, ways, default_rules)
    foretold = simulate(server, address)
    assert set(ways) <= set(foretold.opens)
    assert foretold.still == dict.fromkeys(foretold.still, 0)
    package = approve_and_export(server, approver, address)
    if "environment.xml" in package.files:
        variables |= package.variables()
        move_python(variables)
    enforce(package.files["whole-policy.xml"].decode() if "whole-policy.xml" in package.files else default_rules)

    report(variables, install)
    opens = {pattern for pattern, users in foretold.opens.items() if users} | foretold.beyond
    assert settled(server, before - opens, before) == before - opens
    assert opens <= server.open_patterns(), foretold
    for command in works:
        finished = run_command(command, index_url, variables)
        assert did_work(command, finished), finished
        assert refused() == [], finished
    for command in stays:
        finished = run_command(command, index_url, variables)
        assert finished.code != 0, finished
        assert {classify(path) for path in refused()} <= before - opens, finished
        assert refused(), finished
    return package


def made_on_a_trusted_machine(index_url: str, folder: Path) -> Path:
    """The program that uvx makes for a tool, which is the same on every machine."""
    forget_what_uv_made()
    use_uvx(index_url)
    (program,) = on_disk(rf"{LOCAL_APPDATA}\uv\cache\archive-v0").glob(f"*/Scripts/{TOOL}.exe")
    return Path(shutil.copy(program, folder))


def use_uvx(index_url: str) -> None:
    """Leaves uvx's cache as on a workstation on which it was used before, when no policy was in force."""
    used = run([UVX, "--python", PYTHON, TOOL], variables={"UV_DEFAULT_INDEX": index_url})
    assert used.code == 0, used


def move_python(variables: Mapping[str, str]) -> None:
    """What an administrator does with the variables set: a Python in its new place, with uv's link to it."""
    target = on_disk(variables["UV_PYTHON_INSTALL_DIR"]) / MANAGED_KEY
    shutil.copytree(on_disk(MANAGED_PYTHON).parent, target, copy_function=os.link)
    target.with_name(MANAGED_MINOR_KEY).symlink_to(MANAGED_KEY)


def install_tool(index_url: str, variables: Mapping[str, str]) -> None:
    """What an administrator does for everybody, whom no rule binds."""
    told = {"UV_DEFAULT_INDEX": index_url, **variables}
    installed = run([UV, "tool", "install", "--force", "--python", PYTHON, TOOL], variables=told)
    assert installed.code == 0, installed
