"""The whole circle: refused by a policy, seen by the agent, shown by the server, opened by its export, seen to be open.

The agent runs as an ordinary user under AppLocker's default rules and reports to a real server. What its pages show as
blocked is what uv meets; the file that the export page gives is all that the bench's next policy is made of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agent.catalogue import classify
from tests.windows.bench.agent import forget_state, install_agent, run_agent
from tests.windows.bench.commands import COMMANDS, did_work, forget_what_uv_made, refused, run_command
from tests.windows.bench.policy import enforce
from tests.windows.bench.server import Server, running_server

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


def report() -> None:
    """One cycle of the agent, with uv never used before."""
    forget_what_uv_made()
    finished = run_agent("once", "--force")
    assert finished.code == 0, finished
    assert "1 sent" in finished.output, finished


def settled(server: Server, expected: set[str], among: set[str]) -> set[str]:
    """The patterns of `among` that are shown as blocked, once those are as expected or ten seconds have passed."""
    deadline = time.monotonic() + 10
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
    assert {(found.engine, found.error) for found in places.values()} == {("applocker", "1260")}
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
