"""What is wrong, in words, from what a machine said of itself; and that it is asked without changing anything."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from agent._platform import read_machine_id
from agent.channels import CHANNELS
from agent.cli import main
from agent.doctor import Condition, diagnose
from agent.examine import examine
from agent.options import Options
from agent.places import Orders, Places, write_orders
from agent.spool import Identity, Progress, hash_machine, locked, save_identity, save_progress
from agent.tasks import MACHINE_TASK, USER_TASK

APPLOCKER = CHANNELS[0].name
WELL = Condition(
    is_elevated=True,
    is_machine_wide=True,
    has_identity=True,
    tasks={USER_TASK: "ok", MACHINE_TASK: "ok"},
    channels={channel.name: 0 for channel in CHANNELS},
    server="https://wayleave.example.com",
    clock_s=2.0,
    cycle_age_s=600.0,
    sent_age_s=600.0,
    disk_free_bytes=1 << 35,
    base="C:\\ProgramData\\Wayleave",
    uvs=1,
)


def test_a_well_machine_has_nothing() -> None:
    assert diagnose(WELL) == ()


@pytest.mark.parametrize(
    ("change", "weight", "what", "command"),
    [
        ({"tasks": {USER_TASK: "missing"}}, "wrong", "\\Wayleave\\User is missing", "wayleave-agent install"),
        ({"tasks": {USER_TASK: "differs in Command"}}, "wrong", "it differs in Command", "wayleave-agent install"),
        ({"foreign_owner": "S-1-5-21-7"}, "wrong", "belongs to S-1-5-21-7", "Remove-Item"),
        ({"is_machine_wide": False}, "note", "unattested", "wayleave-agent install"),
        ({"has_identity": False}, "wrong", "not enrolled", "wayleave-agent install --server"),
        ({"has_identity": False, "is_machine_wide": False}, "wrong", "not enrolled", "wayleave-agent enrol --server"),
        ({"has_identity": None}, "note", "administrator alone", "Run as administrator"),
        ({"is_revoked": True}, "wrong", "revoked", "install --server"),
        ({"is_other_machine": True}, "wrong", "made from an enrolled one", "install --server"),
        ({"server_error": "ConnectError: refused"}, "wrong", "cannot be reached: ConnectError", "curl.exe"),
        ({"clock_s": 700.0}, "note", "11 minutes ahead of", "w32tm /resync"),
        ({"clock_s": -300_000.0}, "wrong", "3 days behind", "w32tm /resync"),
        ({"cycle_age_s": 9_000.0}, "wrong", "2 hours ago", "schtasks /Query"),
        ({"trouble": "503 busy"}, "wrong", "503 busy", ""),
        ({"waiting": 101, "oldest_waiting_s": 10.0}, "wrong", "101 reports wait", ""),
        ({"waiting": 1, "oldest_waiting_s": 200_000.0}, "wrong", "the oldest for 2 days", ""),
        ({"dropped": 3}, "note", "3 reports were dropped", ""),
        ({"disk_free_bytes": 1 << 20}, "wrong", "1 MB left", ""),
        ({"is_busy": True}, "note", "another agent", ""),
        ({"inbox": "x is not there yet"}, "wrong", "no note can be left", "schtasks /Run"),
        ({"refused_notes": ("S-1: it is a link",)}, "wrong", "not taken: S-1: it is a link", ""),
        ({"channels": {APPLOCKER: 5}}, "wrong", "may not be read", "none is needed"),
        ({"channels": {APPLOCKER: 5}, "is_machine_wide": False}, "wrong", "may not be read", "Event Log Readers"),
        ({"channels": {APPLOCKER: 1722}}, "wrong", "error 1722", "wevtutil gl"),
        ({"channels": dict.fromkeys(WELL.channels, 15007)}, "note", "no AppLocker logs", ""),
        ({"probing": False}, "note", "switched off on this machine", ""),
        ({"stopped_by_server": True}, "note", "an administrator has stopped probing", ""),
        ({"method": "policy", "other_controls": ("ThreatLocker",)}, "note", "because of ThreatLocker", ""),
        ({"uvs": 0}, "note", "no uv was found", "where.exe uv"),
    ],
)
def test_each_ailment_is_named_with_what_to_do(change: dict[str, object], weight: str, what: str, command: str) -> None:
    found = diagnose(replace(WELL, **change))
    matching = [one for one in found if what in one.what]
    assert len(matching) == 1, found
    assert matching[0].weight == weight
    assert command in matching[0].command
    assert bool(command) == bool(matching[0].command)


def test_what_stops_the_work_comes_first() -> None:
    found = diagnose(replace(WELL, dropped=1, trouble="refused", uvs=0))
    assert [one.weight for one in found] == ["wrong", "note", "note"]


needs_root = pytest.mark.skipif(
    sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root on Linux"
)


@needs_root
def test_a_machine_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    places = Places(base=tmp_path / "wayleave")
    for folder in (places.base, places.inbox, places.orders, places.machine):
        folder.mkdir()
    write_orders(places, Orders(probing=False))
    with locked(places.machine) as state_dir:
        save_identity(
            state_dir,
            Identity(
                server="https://wayleave.example.com",
                host_id="1",
                token="wl_1_x",
                machine=hash_machine(read_machine_id()),
            ),
        )
        save_progress(state_dir, Progress(cycle_at=time.time() - 90_000, trouble="503 busy", dropped=2))
    before = {path: path.stat().st_mtime_ns for path in places.base.rglob("*") if path.name != "lock"}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Date": formatdate(time.time() - 7_200, usegmt=True)})

    options = Options(state_dir=tmp_path / "state")
    condition = examine(options, {}, places, tmp_path, transport=httpx.MockTransport(answer))
    assert condition.has_identity
    assert condition.stopped_by_server
    assert condition.server_error is None
    assert condition.clock_s is not None
    assert 7_190 < condition.clock_s < 7_210
    assert condition.foreign_owner is None
    words = " ".join(one.what for one in diagnose(condition))
    for expected in ("2 hours ahead of", "25 hours ago", "503 busy", "2 reports were dropped", "stopped probing"):
        assert expected in words
    assert {path: path.stat().st_mtime_ns for path in places.base.rglob("*") if path.name != "lock"} == before
    with locked(places.machine):
        assert examine(options, {}, places, tmp_path, transport=httpx.MockTransport(answer)).is_busy


@needs_root
def test_a_server_that_is_not_there_is_told_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAYLEAVE_AGENT_MACHINE_DIR", str(tmp_path / "wayleave"))
    monkeypatch.setenv("WAYLEAVE_AGENT_STATE_DIR", str(tmp_path / "state"))
    with locked(tmp_path / "state") as state_dir:
        save_identity(
            state_dir,
            Identity(server="http://127.0.0.1:9", host_id="1", token="wl_1_x", machine=hash_machine(read_machine_id())),
        )
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "wrong: http://127.0.0.1:9 cannot be reached: ConnectError" in said
    assert "try: curl.exe" in said
    assert "unattested" in said
    assert main(["doctor", "--json"]) == 1
    assert '"weight": "wrong"' in capsys.readouterr().out
