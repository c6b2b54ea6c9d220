"""The agent and the real server: enrolled, closed doors shown on the host's page, opened, shown open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.linux.workstation import EXEC, Workstation, remount, use_uv
from tests.windows.bench.server import Server, running_server

pytestmark = [pytest.mark.root, pytest.mark.slow]

SHOWN = ("cache-builds-venv-python", "venv-entrypoint-exe", "tool-env-entrypoint-exe")


def cycle(workstation: Workstation) -> None:
    finished = workstation.run_agent("once", "--force", "--project-root", str(workstation.project))
    assert finished.returncode == 0, (finished.stdout, finished.stderr)
    assert "1 sent, 0 waiting" in finished.stdout


def shown(server: Server) -> dict[str, tuple[str, str]]:
    rows = server.probes_of_only_host()
    return {pattern: (rows[pattern].outcome, rows[pattern].error) for pattern in SHOWN}


def test_what_the_agent_meets_is_what_the_page_shows(closed_workstation: Workstation, tmp_path: Path) -> None:
    use_uv(closed_workstation)
    with running_server(tmp_path / "server") as server:
        not_yet = closed_workstation.run_agent("once")
        assert (not_yet.returncode, not_yet.stdout) == (3, "")
        secret = tmp_path / "secret"
        secret.write_text(server.enrolment_secret() + "\n")
        wrong = closed_workstation.run_agent("enrol", "--server", server.url, "--secret", "wle_1_wrong")
        assert wrong.returncode == 1
        assert "401" in wrong.stderr
        enrolled = closed_workstation.run_agent("enrol", "--server", server.url, "--secret-file", str(secret))
        assert enrolled.returncode == 0, enrolled.stderr

        cycle(closed_workstation)
        assert shown(server) == dict.fromkeys(SHOWN, ("blocked", "13"))

        remount(closed_workstation.home, EXEC)
        cycle(closed_workstation)
        assert {outcome for outcome, _ in shown(server).values()} == {"allowed"}

    away = closed_workstation.run_agent("once", "--force", "--project-root", str(closed_workstation.project))
    assert away.returncode == 5
    assert "1 waiting" in away.stdout
    told = closed_workstation.run_agent("status", "--json")
    assert told.returncode == 0
    assert '"waiting": 1' in told.stdout
    assert "ConnectError" in told.stdout
