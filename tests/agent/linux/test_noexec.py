"""The agent against the real uv whose directories lie on a noexec mount: what it names as blocked is what uv meets."""

from __future__ import annotations

import pytest

from tests.agent.linux.workstation import EXEC, Workstation, listing, remount, use_uv

CANARIES = {
    "cache-builds-venv-python",
    "cache-builds-venv-entrypoint-exe",
    "cache-script-env-python",
    "cache-script-env-entrypoint-exe",
}
REAL = {"venv-entrypoint-exe", "tool-env-entrypoint-exe"}

pytestmark = pytest.mark.root


def test_patterns_are_blocked_by_errno_and_open_after_remounting(closed_workstation: Workstation) -> None:
    use_uv(closed_workstation)

    closed = closed_workstation.probe()
    for pattern in CANARIES | REAL:
        told = {name: closed[pattern][name] for name in ("outcome", "engine", "error", "specimen")}
        specimen = "real" if pattern in REAL else "canary"
        assert told == {"outcome": "blocked", "engine": "other", "error": 13, "specimen": specimen}, pattern
    # uv itself lies outside the mount.
    assert closed["uv-exe-standalone"]["outcome"] == "absent"

    remount(closed_workstation.home, EXEC)
    opened = closed_workstation.probe()
    for pattern in CANARIES | REAL:
        assert (opened[pattern]["outcome"], opened[pattern]["error"]) == ("allowed", 0), pattern


def test_uv_fails_at_the_pattern_named_and_works_when_it_is_open(closed_workstation: Workstation) -> None:
    use_uv(closed_workstation)

    assert closed_workstation.probe()["venv-entrypoint-exe"]["outcome"] == "blocked"
    refused = closed_workstation.run_uv("run", "--no-sync", "greet")
    assert refused.returncode != 0
    assert "(os error 13)" in refused.stderr

    remount(closed_workstation.home, EXEC)
    assert closed_workstation.probe()["venv-entrypoint-exe"]["outcome"] == "allowed"
    assert closed_workstation.run_uv("run", "--no-sync", "greet").stdout == "hello\n"


def test_nothing_is_left_where_no_uv_was_used_yet(closed_workstation: Workstation) -> None:
    before = listing(closed_workstation.home)

    probes = closed_workstation.probe()

    assert probes["cache-builds-venv-python"]["outcome"] == "blocked"
    assert probes["venv-entrypoint-exe"]["outcome"] == "blocked"
    assert listing(closed_workstation.home) == before
