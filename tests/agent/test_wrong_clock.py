"""A clock that is wrong by days: the real server refuses what lies in the future, and the agent finds its way back."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.contract.facts import HostFacts, UvSet
from agent.contract.messages import Newcomer
from agent.delivery import deliver, open_for
from agent.report import build_report, facts_of
from agent.spool import Delivered, Identity, Progress, add_pending, load_pending, load_progress, locked, next_number
from agent.spool import save_progress as keep
from tests.agent.server_double import ServerDouble, refusal

NOW = 1_800_000_000.0
DAY_S = 86_400.0


class Server(ServerDouble):
    """Its clock is right, and it takes no epoch of more than a day ahead, as the real one."""

    now: float = NOW
    tells_time: bool = True

    def _record(self, message: dict[str, Any], authorization: str) -> httpx.Response:
        if message["epoch"] > (self.now + DAY_S) * 1000:
            answer = refusal(422, "invalid", field="epoch")
        else:
            answer = super()._record(message, authorization)
        if self.tells_time:
            answer.headers["Date"] = "Fri, 15 Jan 2027 08:00:00 GMT"
        return answer


@pytest.fixture
def server() -> Server:
    return Server()


def send(folder: Path, server: Server, *, clock: float) -> Delivered:
    identity = Identity(server="https://wayleave.example.com", host_id="1", token=server.token, machine="m")
    with locked(folder) as state_dir:
        progress = load_progress(state_dir)
        if progress.epoch == 0:
            progress = Progress(epoch=int(clock * 1000))
        number = next_number(progress, load_pending(state_dir))
        report = build_report(
            facts_of((UvSet(found=()), HostFacts(name="pc", platform="linux", os="Debian"))),
            report_id=str(uuid.uuid4()),
            epoch=progress.epoch,
            sequence=number,
            now=clock,
            subject="S-1-22-1-1000",
        )
        add_pending(state_dir, report, now=clock)
        keep(state_dir, progress)
        with open_for(identity, transport=server.transport()) as http:
            return deliver(state_dir, http, identity, progress, now=clock, host=Newcomer(name="pc", system="Debian"))


def test_a_clock_ahead_by_days_loses_nothing(tmp_path: Path, server: Server) -> None:
    result = send(tmp_path, server, clock=NOW + 9 * DAY_S)
    assert (result.sent, result.left, result.refused) == (1, 0, 0)
    assert load_progress(tmp_path).epoch == int(NOW * 1000)
    # Also the next ones, and after the clock was put right.
    assert send(tmp_path, server, clock=NOW + 10 * DAY_S).sent == 1
    assert send(tmp_path, server, clock=NOW).sent == 1
    assert [report["sequence"] for report in server.recorded] == [1, 2, 3]


def test_an_epoch_that_was_taken_is_never_gone_behind(tmp_path: Path, server: Server) -> None:
    """Ahead by hours, then by days: the second epoch begins after the first, though the server's clock is behind it."""
    first = NOW + 20 * 3600
    assert send(tmp_path, server, clock=first).sent == 1
    server.sequence += 5  # somebody restored an older snapshot of this disk
    assert send(tmp_path, server, clock=NOW + 9 * DAY_S).sent == 1
    assert load_progress(tmp_path).epoch == int(first * 1000) + 1


def test_without_a_clock_in_the_answer_the_report_waits(tmp_path: Path, server: Server) -> None:
    server.tells_time = False
    result = send(tmp_path, server, clock=NOW + 9 * DAY_S)
    assert (result.sent, result.left, result.refused) == (0, 1, 0)


def test_a_clock_behind_by_years_is_taken(tmp_path: Path, server: Server) -> None:
    assert send(tmp_path, server, clock=1_000_000.0).sent == 1
    assert send(tmp_path, server, clock=NOW).sent == 1
