"""The state on disk: whole or not there, bounded, and of one agent at a time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent import spool
from agent.contract.messages import Report, Sighting
from agent.spool import (
    AgentBusy,
    Identity,
    Pending,
    Progress,
    add_pending,
    cap_spool,
    hash_machine,
    load_identity,
    load_pending,
    load_progress,
    locked,
    next_number,
    save_identity,
    save_progress,
)

NOW = 1_800_000_000.0
SIGHTING = Sighting(channel="c", record=1, event_id=8004, at="2025-11-21T00:00:00Z", pattern="venv-python", path="p")


def report(sequence: int, **more: object) -> Report:
    values: dict[str, object] = {
        "report_id": f"id-{sequence}",
        "epoch": 5,
        "sequence": sequence,
        "sent_at": "2025-11-21T00:00:00Z",
        "subject": "S-1-22-1-0",
        "sets": {"uv": "sha256:" + "0" * 64},
        "bodies": {"sha256:" + "0" * 64: "{}"},
    }
    return Report(**(values | more))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    with locked(tmp_path / "state") as made:
        return made


def test_values_come_back_as_they_went(state_dir: Path) -> None:
    identity = Identity(server="https://a", host_id="1", token="t", machine="m", secret="s", ca_file=None)
    progress = Progress(epoch=5, sequence=3, known=("a", "b"), sets={"uv": "d"}, probes=({"pattern": "x"},), failures=2)
    save_identity(state_dir, identity)
    save_progress(state_dir, progress)
    assert load_identity(state_dir) == identity
    assert load_progress(state_dir) == progress


def test_reports_come_back_oldest_first_with_their_sightings(state_dir: Path) -> None:
    reports = [report(2, sightings=(SIGHTING,)), report(10), report(1)]
    for item in reports:
        add_pending(state_dir, item, now=NOW)
    assert [item.report for item in load_pending(state_dir)] == [reports[2], reports[0], reports[1]]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX modes")
def test_only_the_owner_reads_the_token(state_dir: Path) -> None:
    save_identity(state_dir, Identity(server="https://a", host_id="1", token="t", machine="m"))
    assert stat.S_IMODE((state_dir / "identity.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"epoch": "five", "sequence": -1.5}', b"\x00" * 10])
def test_broken_progress_begins_anew(state_dir: Path, content: bytes) -> None:
    (state_dir / "progress.json").write_bytes(content)
    assert load_progress(state_dir).epoch == 0


@pytest.mark.parametrize("content", [b"{}", b'{"server": "https://a"}', b'{"server": 1, "host_id": 2}', b"null"])
def test_a_broken_identity_is_none(state_dir: Path, content: bytes) -> None:
    (state_dir / "identity.json").write_bytes(content)
    assert load_identity(state_dir) is None


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"report": {}}', b'{"report": {"report_id": 1}}', b'{"report": [], "made_at": "x"}']
)
def test_a_broken_report_is_removed_and_stops_no_other(state_dir: Path, content: bytes) -> None:
    add_pending(state_dir, report(2), now=NOW)
    broken = state_dir / "spool" / "0000000000000005-000000000001.json"
    broken.write_bytes(content)
    assert [item.report.sequence for item in load_pending(state_dir)] == [2]
    assert not broken.exists()


def test_a_number_is_never_given_twice(state_dir: Path) -> None:
    assert next_number(Progress(epoch=5, sequence=7), ()) == 8
    add_pending(state_dir, report(9), now=NOW)  # spooled, and killed before the progress was kept
    assert next_number(Progress(epoch=5, sequence=7), load_pending(state_dir)) == 10


def test_two_agents_at_once_are_one_too_many(state_dir: Path) -> None:
    with locked(state_dir):
        code = f"from agent.spool import locked; from pathlib import Path\nwith locked(Path({str(state_dir)!r})): pass"
        finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert AgentBusy.__name__ in finished.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_half_written_is_cleared_away(state_dir: Path) -> None:
    for folder in (state_dir, state_dir / "spool"):
        (folder / "progress.json.123.new").write_bytes(b"{")
    with locked(state_dir):
        assert list(state_dir.rglob("*.new")) == []


def pendings(state_dir: Path, count: int) -> tuple[Pending, ...]:
    return tuple(add_pending(state_dir, report(number), now=NOW) for number in range(1, count + 1))


def test_old_reports_are_dropped(state_dir: Path) -> None:
    items = pendings(state_dir, 3)
    aged = (replace(items[0], made_at=NOW - spool.MAX_SPOOL_AGE_S - 1), *items[1:])
    kept, dropped = cap_spool(aged, now=NOW)
    assert ([item.report.sequence for item in kept], dropped) == ([2, 3], 1)
    assert [item.report.sequence for item in load_pending(state_dir)] == [2, 3]


def test_a_clock_that_jumped_ahead_drops_nothing_new(state_dir: Path) -> None:
    future = tuple(replace(item, made_at=NOW + 9e8) for item in pendings(state_dir, 2))
    assert cap_spool(future, now=NOW) == (future, 0)


def test_a_full_spool_drops_the_oldest_without_sightings_and_never_the_newest(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pending(state_dir, report(1, sightings=(SIGHTING,)), now=NOW)
    for number in range(2, 6):
        add_pending(state_dir, report(number), now=NOW)
    items = load_pending(state_dir)
    size = max(item.path.stat().st_size for item in items)
    monkeypatch.setattr(spool, "MAX_SPOOL_BYTES", 3 * size)
    kept, dropped = cap_spool(items, now=NOW)
    assert [item.report.sequence for item in kept] == [1, 4, 5]
    assert dropped == 2


def test_a_full_disk_leaves_the_old_state(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_progress(state_dir, Progress(epoch=5, sequence=1))

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        save_progress(state_dir, Progress(epoch=5, sequence=2))
    assert load_progress(state_dir).sequence == 1
    assert list(state_dir.glob("*.new")) == []


def test_the_machines_id_is_kept_only_as_a_digest() -> None:
    assert hash_machine("some-guid\npc-1") != hash_machine("some-guid\npc-2")
    assert "some-guid" not in hash_machine("some-guid\npc-1")
