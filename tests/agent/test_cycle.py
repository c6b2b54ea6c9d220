"""Whole cycles on this machine, against a server that keeps the wire's rules."""

from __future__ import annotations

import base64
import functools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import cycle as cycle_module
from agent._platform import read_machine_id
from agent.catalogue.adopt import use
from agent.catalogue.load import FILE, etag_of
from agent.contract.facts import ProbeSet
from agent.contract.messages import Sighting
from agent.cycle import CycleResult, NotEnrolled, Revoked, has_come, is_due, may_deliver, next_cycle_s, run_cycle
from agent.delivery import deliver_over_network
from agent.observe import preview
from agent.options import Options
from agent.report import facts_of
from agent.spool import (
    Identity,
    Progress,
    hash_machine,
    load_identity,
    load_pending,
    load_progress,
    locked,
    save_identity,
    save_progress,
)
from agent.watch import Reading
from tests.agent.server_double import ServerDouble, refusal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")

NOW = 1_800_000_000.0


class Here:
    """One enrolled agent in a folder, its clock and its server."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.options = Options(state_dir=folder / "state", search_projects=False)
        self.environment = {"HOME": str(self.home), "PATH": "/usr/bin", "TMPDIR": str(self.home)}
        self.server = ServerDouble()
        self.now = NOW
        with locked(self.options.state_dir) as state_dir:
            save_identity(
                state_dir,
                Identity(
                    server="https://wayleave.example.com",
                    host_id="1",
                    token=self.server.token,
                    machine=hash_machine(read_machine_id()),
                    secret="s3cret",
                ),
            )

    def cycle(self, *, after_s: float = 0.0, force: bool = False) -> CycleResult:
        self.now += after_s
        return run_cycle(
            self.options,
            self.environment,
            deliver=functools.partial(deliver_over_network, transport=self.server.transport()),
            clock=lambda: self.now,
            force=force,
        )

    def progress(self) -> Progress:
        return load_progress(self.options.state_dir)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def probes_in(report: dict[str, Any], server: ServerDouble) -> dict[str, Any]:
    body = json.loads(server.bodies[report["sets"]["probes"]])
    return {probe["pattern"]: probe for probe in body["probes"]}


def test_the_first_cycle_reports_and_the_next_has_no_news(here: Here) -> None:
    first = here.cycle()
    assert first.report is not None
    assert first.delivered.sent == 1
    (report,) = here.server.recorded
    assert set(report["sets"]) == {"probes", "uv", "environment", "policy", "token", "host"}
    assert probes_in(report, here.server)["cache-builds-venv-python"]["outcome"] == "allowed"

    second = here.cycle(after_s=100)
    assert second.report is None
    assert len(here.server.requests) == 1


def test_an_unchanged_agent_is_heard_of_when_asked_for_with_no_bodies(here: Here) -> None:
    here.cycle()
    here.cycle(after_s=700)
    assert [report["sequence"] for report in here.server.recorded] == [1, 2]
    assert here.server.recorded[1]["bodies"] == {}
    assert here.server.recorded[1]["sets"] == here.server.recorded[0]["sets"]


def test_a_change_is_reported_at_once(here: Here) -> None:
    here.cycle()
    # A folder that cannot hold the cache: the outcome of its patterns changes.
    here.environment["UV_CACHE_DIR"] = "/proc/1/uv"
    here.cycle(after_s=1)
    assert len(here.server.recorded) == 2
    changed = probes_in(here.server.recorded[1], here.server)["cache-builds-venv-python"]
    assert changed["outcome"] in ("denied", "error")


def test_without_a_server_one_report_waits_and_no_heap_grows(here: Here) -> None:
    here.server.answers = [refusal(503, "busy")] * 40
    for _ in range(6):
        here.cycle(after_s=4000)
    assert len(load_pending(here.options.state_dir)) == 1
    assert here.progress().failures == 6
    here.server.answers.clear()
    assert here.cycle(after_s=4000).delivered.sent == 1
    assert here.progress().failures == 0


def test_patience_is_kept_unless_forced(here: Here) -> None:
    here.server.answers = [refusal(503, "busy", retry_after=500)]
    here.cycle()
    assert here.cycle(after_s=60).delivered.sent == 0
    assert len(here.server.requests) == 1
    assert here.cycle(force=True).delivered.sent == 1


def test_a_revoked_agent_looks_at_nothing(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.server.answers = [refusal(403, "revoked")]
    here.cycle()
    monkeypatch.setattr(cycle_module, "observe", pytest.fail)
    with pytest.raises(Revoked):
        here.cycle(after_s=90_000)


def test_the_kill_switch_starts_and_places_nothing(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.options = replace(here.options, probing=False)
    for name in ("run_trials", "plan_trials", "start_suspended"):
        monkeypatch.setattr(f"agent.observe.{name}", pytest.fail)
    here.cycle()
    assert probes_in(here.server.recorded[0], here.server) == {}


def test_an_image_of_this_machine_becomes_a_host_of_its_own(here: Here) -> None:
    here.cycle()
    here.server.answers = [refusal(503, "busy")]
    here.environment["UV_CACHE_DIR"] = "/proc/1/uv"
    here.cycle(after_s=1)
    state_dir = here.options.state_dir
    identity = load_identity(state_dir)
    assert identity is not None
    save_identity(state_dir, replace(identity, machine=hash_machine("the machine of the image")))
    waiting = {item.report.report_id for item in load_pending(state_dir)}
    assert len(waiting) == 1

    here.cycle(after_s=4000)

    renewed = load_identity(state_dir)
    assert renewed is not None
    assert renewed.host_id == "9"
    assert renewed.machine == hash_machine(read_machine_id())
    assert here.server.recorded[-1]["report_id"] not in waiting
    assert {request["at"] for request in here.server.requests[-1:]} == {f"Bearer {renewed.token}"}


def test_an_image_without_a_secret_stays_silent(here: Here) -> None:
    identity = load_identity(here.options.state_dir)
    assert identity is not None
    save_identity(here.options.state_dir, replace(identity, machine="another", secret=None))
    with pytest.raises(NotEnrolled):
        here.cycle()
    assert here.server.requests == []


def test_a_preview_sends_nothing_and_leaves_nothing(here: Here) -> None:
    report, observation = preview(here.options, here.environment)
    assert set(report.bodies) == set(report.sets.values())
    assert observation.left_behind == ()
    assert here.server.requests == []
    assert load_pending(here.options.state_dir) == ()
    assert list(here.home.iterdir()) == []


def test_what_the_moment_hid_keeps_its_last_outcome(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.cycle()
    before = probes_in(here.server.recorded[0], here.server)
    monkeypatch.setattr("agent.observe.start_suspended", lambda _path: 26)  # ETXTBSY
    here.cycle(after_s=90_000)
    assert here.server.recorded[-1]["sets"]["probes"] == here.server.recorded[0]["sets"]["probes"]
    assert before["cache-builds-venv-python"]["outcome"] == "allowed"


def test_nothing_is_started_before_something_changes_or_a_day_has_passed(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(path: str) -> int:
        started.append(path)
        return 0

    monkeypatch.setattr("agent.observe.start_suspended", start)
    here.cycle()
    first = len(started)
    assert first >= 8
    for _ in range(20):
        assert not here.cycle(after_s=3600).observation.probed
    assert len(started) == first
    assert probes_in(here.server.recorded[-1], here.server)["tool-bin-exe"]["outcome"] == "allowed"

    assert here.cycle(after_s=4 * 3600).observation.probed
    tool = here.home / ".local" / "share" / "uv" / "tools" / "x" / "bin" / "x"
    tool.parent.mkdir(parents=True)
    tool.write_bytes(b"")
    tool.chmod(0o755)
    assert here.cycle(after_s=3600).observation.probed
    assert started[-1] != str(tool)
    assert str(tool) in started
    tool.write_bytes(b"changed")
    assert here.cycle(after_s=3600).observation.probed
    assert not here.cycle(after_s=3600).observation.probed
    assert here.cycle(force=True).observation.probed


def test_times_that_a_wrong_clock_set_are_not_believed() -> None:
    facts = facts_of((ProbeSet(catalogue="e", probes=()),))
    known = Progress(sets=facts.digests(), sent_at=NOW, next_report_at=NOW + 600)
    assert not is_due(known, facts, now=NOW + 599)
    assert is_due(known, facts, now=NOW + 600)
    assert is_due(known, facts, now=NOW - 10 * 86_400)
    assert not may_deliver(replace(known, failures=1), now=NOW)
    assert may_deliver(replace(known, failures=1), now=NOW - 10 * 86_400)
    assert has_come(NOW, NOW)


def test_waits_between_cycles_are_spread_and_shorter_after_a_failure() -> None:
    options = Options(state_dir=Path("/nowhere"), cycle_s=3600)
    waits = {next_cycle_s(options, Progress(), str(host), now=NOW) for host in range(100)}
    assert len(waits) > 90
    assert all(3240 <= wait <= 3960 for wait in waits)
    failed = Progress(failures=2, next_report_at=NOW + 45)
    assert next_cycle_s(options, failed, "1", now=NOW) == 45


def test_a_broken_memory_of_outcomes_is_forgotten(here: Here) -> None:
    here.cycle()
    with locked(here.options.state_dir) as state_dir:
        save_progress(state_dir, replace(here.progress(), probes=({"pattern": 1}, {}, 7, None)))
    assert here.cycle(after_s=1).report is None


def test_events_are_told_once_and_also_without_other_news(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    sighting = Sighting(
        channel="c", record=5, event_id=8004, at="2025-11-21T00:00:00Z", pattern="venv-python", path="p"
    )
    read: list[dict[str, int]] = []

    def events(_read: object, records: dict[str, int], **_more: object) -> Reading:
        read.append(dict(records))
        if records:
            return Reading(records=records)
        return Reading(sightings=(sighting,), records={"c": 5}, left_out={"not of uv": 3}, findings=("a finding",))

    here.cycle()
    monkeypatch.setattr("agent.observe.read_events", events)
    here.cycle(after_s=1)
    assert [report["sightings"] for report in here.server.recorded] == [[], [sighting.to_json()]]
    assert here.progress().left_out == {"not of uv": 3}
    assert here.progress().findings == ("a finding",)

    here.cycle(after_s=1)
    assert read == [{}, {"c": 5}]
    assert len(here.server.recorded) == 2


def test_the_servers_catalogue_is_used_from_the_next_cycle_on_and_a_forged_one_is_told(here: Here) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    identity = load_identity(here.options.state_dir)
    assert identity is not None
    save_identity(here.options.state_dir, replace(identity, catalogue_key=key))
    newer = FILE.read_bytes().replace(b"title = '", b"title = 'Newer: ")
    here.server.catalogue = (newer, base64.b64encode(private.sign(newer)).decode())
    here.server.etag = etag_of(newer)
    try:
        here.cycle()
        here.cycle(after_s=7_200)
        assert _told_probes(here)["catalogue"] == etag_of(newer)
        assert "refused" not in _told_probes(here)
        forged = newer + b"# more\n"
        here.server.catalogue = (forged, here.server.catalogue[1])
        here.server.etag = etag_of(forged)
        here.cycle(after_s=7_200)
        here.cycle(after_s=7_200)
        assert _told_probes(here)["catalogue"] == etag_of(newer)
        assert _told_probes(here)["refused"] == "signature"
    finally:
        use(None)


def _told_probes(here: Here) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(here.server.bodies[here.server.recorded[-1]["sets"]["probes"]])
    return body
