"""Delivery: nothing acknowledged is lost, nothing counted twice, and every answer of the wire has its consequence."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from agent import delivery
from agent.client import open_client
from agent.contract.facts import HostFacts, UvSet
from agent.contract.messages import Newcomer, Report, Sighting
from agent.delivery import deliver
from agent.report import build_report, facts_of
from agent.schedule import spread, wait_after
from agent.spool import (
    Delivered,
    Identity,
    Progress,
    add_pending,
    load_identity,
    load_pending,
    load_progress,
    locked,
    next_number,
    save_identity,
    save_progress,
)
from tests.agent.server_double import ServerDouble, refusal

NOW = 1_800_000_000.0
IDENTITY = Identity(
    server="https://wayleave.example.com", host_id="1", token="wl_1_first", machine="m", secret="s3cret"
)


class Agent:
    """An agent's state on disk and what it does with a server."""

    def __init__(self, state_dir: Path, server: ServerDouble) -> None:
        self.state_dir, self.server = state_dir, server
        with locked(state_dir):
            save_identity(state_dir, IDENTITY)
            save_progress(state_dir, Progress(epoch=1000))

    def spool(self, name: str = "pc-1", *, report_id: str | None = None) -> Report:
        progress, pending = load_progress(self.state_dir), load_pending(self.state_dir)
        report = build_report(
            facts_of((UvSet(found=()), HostFacts(name=name, platform="linux", os="Debian"))),
            report_id=report_id or str(uuid.uuid4()),
            epoch=progress.epoch,
            sequence=next_number(progress, pending),
            now=NOW,
            subject="S-1-22-1-1000",
        )
        add_pending(self.state_dir, report, now=NOW)
        return report

    def deliver(self, *, now: float = NOW) -> Delivered:
        identity = load_identity(self.state_dir)
        assert identity is not None
        with open_client(identity.server, transport=self.server.transport()) as http:
            return deliver(
                self.state_dir,
                http,
                identity,
                load_progress(self.state_dir),
                now=now,
                host=Newcomer(name="pc-1", system="Debian"),
            )


@pytest.fixture
def server() -> ServerDouble:
    return ServerDouble()


@pytest.fixture
def agent(tmp_path: Path, server: ServerDouble) -> Agent:
    return Agent(tmp_path / "state", server)


def test_reports_go_oldest_first_and_only_once(agent: Agent, server: ServerDouble) -> None:
    reports = [agent.spool(f"pc-{number}") for number in range(3)]

    result = agent.deliver()

    assert [sent["report_id"] for sent in server.recorded] == [report.report_id for report in reports]
    assert [sent["sequence"] for sent in server.recorded] == [1, 2, 3]
    assert (result.sent, result.left, result.trouble) == (3, 0, "")
    assert load_pending(agent.state_dir) == ()
    assert agent.deliver().sent == 0
    assert len(server.requests) == 3


def test_bodies_are_sent_only_until_the_server_has_them(agent: Agent, server: ServerDouble) -> None:
    first, second = agent.spool(), agent.spool()
    agent.deliver()
    assert set(server.requests[0]["bodies"]) == set(first.bodies)
    assert server.requests[1]["bodies"] == {}
    assert second.sets == first.sets


def test_a_server_that_forgot_a_body_is_given_it(agent: Agent, server: ServerDouble) -> None:
    agent.spool()
    agent.deliver()
    server.bodies.clear()
    report = agent.spool()

    assert agent.deliver().sent == 1

    assert server.recorded[-1]["report_id"] == report.report_id
    assert set(server.requests[-1]["bodies"]) == set(report.bodies)


def test_a_server_that_asks_for_ever_is_not_answered_for_ever(agent: Agent, server: ServerDouble) -> None:
    report = agent.spool()
    server.answers = [refusal(409, "missing", missing=list(report.bodies)) for _ in range(50)]
    result = agent.deliver()
    assert (result.sent, result.left) == (0, 1)
    assert len(server.requests) == delivery.MAX_TURNS
    assert result.wait_s > 0


def test_a_lost_answer_counts_once(agent: Agent, server: ServerDouble) -> None:
    report = agent.spool()
    server.lose_answers = 1
    assert agent.deliver().left == 1
    assert len(server.recorded) == 1

    assert agent.deliver().sent == 1

    assert [sent["report_id"] for sent in server.recorded] == [report.report_id]
    assert load_pending(agent.state_dir) == ()


@pytest.mark.parametrize("error", ["sequence_reused", "sequence_too_old"])
def test_a_clone_begins_a_new_epoch_and_loses_nothing(agent: Agent, server: ServerDouble, error: str) -> None:
    server.epoch, server.sequence = 1000, 1 if error == "sequence_reused" else 40
    reports = [agent.spool(f"pc-{number}") for number in range(3)]

    assert agent.deliver().sent == 3

    assert [sent["report_id"] for sent in server.recorded] == [report.report_id for report in reports]
    assert {sent["epoch"] for sent in server.recorded} == {int(NOW * 1000)}
    assert [sent["sequence"] for sent in server.recorded] == [1, 2, 3]
    progress = load_progress(agent.state_dir)
    assert (progress.epoch, progress.sequence) == (int(NOW * 1000), 3)


def test_a_clock_that_went_back_still_begins_a_later_epoch(agent: Agent, server: ServerDouble) -> None:
    save_progress(agent.state_dir, Progress(epoch=9_000_000_000_000))
    server.epoch, server.sequence = 9_000_000_000_000, 5
    agent.spool()
    assert agent.deliver().sent == 1
    assert server.recorded[0]["epoch"] == 9_000_000_000_001


def test_an_unknown_agent_enrols_again_once(agent: Agent, server: ServerDouble) -> None:
    agent.spool()
    agent.deliver()
    server.token, server.bodies, server.epoch, server.sequence = "another", {}, 0, 0  # the server was replaced
    report = agent.spool()

    assert agent.deliver().sent == 1

    assert server.recorded[-1]["report_id"] == report.report_id
    identity = load_identity(agent.state_dir)
    assert identity is not None
    assert (identity.host_id, identity.token) == ("9", server.token)
    assert [request["path"].rsplit("/")[-1] for request in server.requests[-3:]] == ["reports", "enrol", "reports"]


def test_an_agent_that_stays_unknown_waits(agent: Agent, server: ServerDouble) -> None:
    agent.spool()
    server.token, server.secrets = "another", set()
    result = agent.deliver()
    assert (result.sent, result.left) == (0, 1)
    assert "401" in result.trouble
    assert sum(request["path"].endswith("/enrol") for request in server.requests) == 1


def test_a_revoked_agent_stops_until_it_is_enrolled_again(agent: Agent, server: ServerDouble) -> None:
    agent.spool()
    server.answers = [refusal(403, "revoked")]
    assert agent.deliver().progress.revoked

    result = agent.deliver()

    assert result.progress.revoked
    assert len(server.requests) == 1
    assert len(load_pending(agent.state_dir)) == 1


@pytest.mark.parametrize(("status", "error"), [(400, "malformed"), (413, "too_large"), (422, "invalid")])
def test_a_report_that_will_never_be_taken_blocks_no_other(
    agent: Agent, server: ServerDouble, status: int, error: str
) -> None:
    agent.spool("pc-1")
    good = agent.spool("pc-2")
    server.answers = [refusal(status, error)]

    result = agent.deliver()

    assert (result.sent, result.refused, result.left) == (1, 1, 0)
    assert [sent["report_id"] for sent in server.recorded] == [good.report_id]
    assert load_progress(agent.state_dir).dropped == 1


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, "quota", retry_after=120),
        refusal(503, "busy", retry_after=120),
    ],
    ids=["429", "503"],
)
def test_retry_after_is_kept_and_spread(agent: Agent, server: ServerDouble, answer: httpx.Response) -> None:
    agent.spool()
    server.answers = [answer]
    result = agent.deliver()
    assert 120 <= result.wait_s <= 240
    assert result.progress.next_report_at == NOW + result.wait_s
    assert result.left == 1


def test_waits_double_to_an_hour_and_differ_by_host() -> None:
    waits = [wait_after(failures, None, "1") for failures in range(1, 20)]
    assert waits == sorted(waits)
    assert 15 <= waits[0] <= 30
    assert 1800 <= waits[-1] <= 3600
    many = {wait_after(8, None, str(host)) for host in range(200)}
    assert len(many) > 150
    assert len({wait_after(1, 300, str(host)) for host in range(200)}) > 100
    shares = [spread(str(host)) for host in range(2000)]
    assert 0.45 < sum(shares) / 2000 < 0.55


def test_failures_count_up_and_are_forgotten_by_a_success(agent: Agent, server: ServerDouble) -> None:
    agent.spool()
    server.answers = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")]
    assert agent.deliver().progress.failures == 1
    assert agent.deliver().progress.failures == 2
    assert agent.deliver().progress.failures == 0


def test_killed_between_acknowledgement_and_removal_counts_once(agent: Agent, server: ServerDouble) -> None:
    report = agent.spool()
    (pending,) = load_pending(agent.state_dir)
    content = pending.path.read_bytes()
    agent.deliver()
    pending.path.write_bytes(content)  # as if it had not been removed

    assert agent.deliver().sent == 1

    assert [sent["report_id"] for sent in server.recorded] == [report.report_id]
    assert next_number(load_progress(agent.state_dir), ()) == 2


def test_killed_while_numbering_anew_counts_once(agent: Agent, server: ServerDouble) -> None:
    report = agent.spool()
    renumbered = replace(report, epoch=2000, sequence=1)
    add_pending(agent.state_dir, renumbered, now=NOW)  # and the old file is still there

    agent.deliver()

    assert [(sent["report_id"], sent["epoch"]) for sent in server.recorded] == [(report.report_id, 2000)]


@pytest.mark.parametrize(
    "refused",
    [
        httpx.Response(422, json={"error": "invalid", "message": "in the future", "field": "sightings.0.at"}),
        httpx.Response(
            429,
            json={"error": "quota", "message": "more than 5000 events of this host today", "field": "sightings"},
            headers={"Retry-After": "80000"},
        ),
    ],
    ids=["422", "429"],
)
def test_an_event_that_is_refused_does_not_cost_the_state(
    agent: Agent, server: ServerDouble, refused: httpx.Response
) -> None:
    report = agent.spool()
    (pending,) = load_pending(agent.state_dir)
    sighting = Sighting(channel="c", record=1, event_id=8004, at="2099-01-01T00:00:00Z", pattern="p", path="p")
    add_pending(agent.state_dir, replace(report, sightings=(sighting,)), now=NOW)
    server.answers = [refused]

    assert agent.deliver().sent == 1

    assert [(sent["report_id"], sent["sightings"]) for sent in server.recorded] == [(report.report_id, [])]
    assert load_progress(agent.state_dir).dropped == 1
    assert not pending.path.exists()
