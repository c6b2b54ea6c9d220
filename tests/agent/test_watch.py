"""Reading event logs cycle by cycle: everything once, no gap in silence, never more than a report can hold."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import cli, observe
from agent.catalogue import Machine
from agent.channels import CHANNELS, Channel, ChannelRead, explain_error, find_loss, query_of
from agent.spool import load_progress
from agent.watch import MAX_EVENTS, Reading, read_events
from app.ingest.decode import MAX_SIGHTINGS

EXE, SCRIPT, INTEGRITY, SRP = CHANNELS
SID = "S-1-5-21-1-2-3-1001"
MACHINE = Machine(
    env={"USERPROFILE": r"C:\Users\jane", "LOCALAPPDATA": r"C:\Users\jane\AppData\Local"}, platform="windows"
)
OF_UV = r"C:\Users\jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
OTHER = r"C:\Users\jane\Downloads\game.exe"


def event(record: int, path: str = OF_UV, event_id: int = 8004) -> str:
    return (
        f"<Event><System><EventID>{event_id}</EventID><TimeCreated SystemTime='2026-11-18T11:06:40Z'/>"
        f"<EventRecordID>{record}</EventRecordID></System><UserData><RuleAndFileData><TargetUser>{SID}</TargetUser>"
        f"<FullFilePath>{path}</FullFilePath></RuleAndFileData></UserData></Event>"
    )


class Log:
    """One channel that holds events of several kinds, and answers as Windows would."""

    def __init__(self, records: Mapping[int, str], *, channel: Channel = EXE, error: int = 0) -> None:
        self.records, self.channel, self.error = dict(records), channel, error
        self.asked = 0

    def __call__(self, channel: str, query: str, limit: int) -> ChannelRead:
        if channel != self.channel.name:
            return ChannelRead(error=15007)
        self.asked += 1
        if self.error:
            return ChannelRead(error=self.error)
        assert limit > 0
        after = re.search(r"EventRecordID > (\d+)", query)
        assert after is not None
        ids = {int(number) for number in re.findall(r"EventID=(\d+)", query)}
        found = [
            text
            for record, text in sorted(self.records.items())
            if record > int(after[1]) and (not ids or any(f"<EventID>{number}</EventID>" in text for number in ids))
        ]
        held = self.records or {0: ""}
        return ChannelRead(events=tuple(found[:limit]), oldest=min(held), newest=max(held), is_end=len(found) < limit)


def read(log: Log, records: Mapping[str, int] | None = None) -> Reading:
    return read_events(log, records or {}, machine=MACHINE, sid=SID)


def told(reading: Reading) -> list[int]:
    return [sighting.record for sighting in reading.sightings]


def places(reading: Reading) -> dict[str, int]:
    """How far each channel was read, without when its last record was written."""
    return {name: record for name, record in reading.records.items() if name == EXE.name}


def blocked(*records: int) -> dict[int, str]:
    return {record: event(record) for record in records}


def test_reading_goes_on_where_it_ended() -> None:
    log = Log(blocked(3, 4, 9))
    first = read(log)
    assert (told(first), places(first), first.findings) == ([3, 4, 9], {EXE.name: 9}, ())
    assert first.states == {"applocker-exe": "read"}
    again = read(log, first.records)
    assert (again.sightings, places(again)) == ((), {EXE.name: 9})
    log.records[10] = event(10)
    assert told(read(log, again.records)) == [10]


def test_what_is_too_much_for_one_report_is_told_by_the_next_ones() -> None:
    log = Log(blocked(*range(1, 451)))
    records: Mapping[str, int] = {}
    batches, states = [], []
    for _ in range(4):
        found = read(log, records)
        records = found.records
        batches.append(told(found))
        states.append(found.states["applocker-exe"])
    assert [len(batch) for batch in batches] == [200, 200, 50, 0]
    assert [record for batch in batches for record in batch] == list(range(1, 451))
    assert states == ["behind", "behind", "read", "read"]


def test_noise_does_not_keep_the_agent_behind() -> None:
    log = Log({record: event(record, OTHER) for record in range(1, 1001)} | blocked(1001))
    found = read(log)
    assert told(found) == [1001]
    assert found.left_out == {"not of uv": 1000}
    assert found.states == {"applocker-exe": "read"}


def test_noise_among_them_lets_no_more_be_told_than_a_report_may_hold() -> None:
    log = Log({record: event(record, OTHER) for record in range(1, 51)} | blocked(*range(51, 351)))
    first = read(log)
    assert told(first) == list(range(51, 251))
    assert told(read(log, first.records)) == list(range(251, 351))


def test_a_cycle_looks_at_a_bounded_number_of_events() -> None:
    log = Log({record: event(record, OTHER) for record in range(1, MAX_EVENTS + 500)})
    found = read(log)
    assert places(found) == {EXE.name: MAX_EVENTS}
    assert found.states == {"applocker-exe": "behind"}
    assert read(log, found.records).states == {"applocker-exe": "read"}


def test_a_report_can_hold_what_all_channels_tell() -> None:
    assert sum(channel.most for channel in CHANNELS) <= MAX_SIGHTINGS


def test_a_log_that_wrapped_is_told_once_and_counted() -> None:
    log = Log(blocked(50, 51))
    found = read(log, {EXE.name: 9})
    assert told(found) == [50, 51]
    assert "40 records were overwritten" in found.findings[0]
    assert found.left_out == {"overwritten before they were read": 40}
    assert found.states == {"applocker-exe": "overwritten"}
    again = read(log, found.records)
    assert (again.findings, again.states) == ((), {"applocker-exe": "read"})


def test_allowed_starts_that_wrap_the_log_between_two_cycles_are_no_loss() -> None:
    log = Log(blocked(1) | {record: event(record, event_id=8002) for record in range(2, 80)})
    found = read(log)
    assert (told(found), places(found)) == ([1], {EXE.name: 79})
    log.records = {record: event(record, event_id=8002) for record in range(60, 140)}
    again = read(log, found.records)
    assert (again.findings, places(again)) == ((), {EXE.name: 139})


def test_a_log_that_was_cleared_is_read_from_its_beginning() -> None:
    found = read(Log(blocked(1, 2)), {EXE.name: 900})
    assert (told(found), places(found)) == ([1, 2], {EXE.name: 2})
    assert "cleared" in found.findings[0]
    assert found.states == {"applocker-exe": "cleared"}


def at(hour: int, *records: int) -> dict[int, str]:
    return {record: event(record).replace("T11:", f"T{hour:02}:") for record in records}


def test_a_log_that_was_cleared_and_has_grown_past_where_reading_ended_is_a_gap_too() -> None:
    """Windows begins again with record 1: only when the last one was written tells it."""
    first = read(Log(at(11, 1, 2, 3)))
    assert (told(first), first.records[EXE.name]) == ([1, 2, 3], 3)
    anew = read(Log(at(14, 1, 2, 3, 4)), first.records)
    assert told(anew) == [1, 2, 3, 4]
    assert "cleared" in anew.findings[0]
    assert anew.states == {"applocker-exe": "cleared"}
    same = read(Log(at(14, 1, 2, 3, 4)), anew.records)
    assert (told(same), same.findings, same.records) == ([], (), anew.records)
    exactly = read(Log(at(16, 1, 2, 3, 4)), same.records)
    assert told(exactly) == [1, 2, 3, 4]
    assert told(read(Log(at(16, 1, 2, 3, 4)), exactly.records)) == []


def test_without_a_time_to_compare_reading_goes_on_by_number() -> None:
    again = read(Log(at(11, 1, 2, 3)), {EXE.name: 2})
    assert (told(again), again.findings) == ([3], ())
    wrapped = read(Log(at(11, 3, 4)), read(Log(at(11, 1, 2))).records)
    assert (told(wrapped), wrapped.findings) == ([3, 4], ())


def test_an_empty_log_is_nothing_at_all() -> None:
    found = read(Log({}), {EXE.name: 9})
    assert (found.findings, found.sightings, places(found)) == ((), (), {EXE.name: 9})
    assert find_loss(9, ChannelRead()) == (9, None)


def test_a_missing_right_is_a_finding_with_its_cure() -> None:
    log = Log({}, error=5)
    found = read(log, {EXE.name: 9})
    assert (places(found), log.asked) == ({EXE.name: 9}, 1)
    assert "Add-LocalGroupMember -SID S-1-5-32-573" in found.findings[0]
    assert found.states == {"applocker-exe": "denied"}


def test_a_log_that_the_machine_does_not_have_is_not_told() -> None:
    found = read(Log({}, error=15007))
    assert (found.findings, found.states, found.records) == ((), {}, {})
    assert explain_error(EXE, 1734) == f"{EXE.name}: error 1734"
    assert read(Log({}, error=1734)).states == {"applocker-exe": "error 1734"}


def test_an_error_in_the_middle_keeps_what_was_read() -> None:
    log = Log(blocked(*range(1, 151)))

    def breaking(channel: str, query: str, limit: int) -> ChannelRead:
        log.error = 1734 if log.asked else 0
        return log(channel, query, limit)

    found = read_events(breaking, {}, machine=MACHINE, sid=SID)
    assert (len(found.sightings), places(found)) == (100, {EXE.name: 100})
    log.asked = 0
    log.error = 0
    assert told(read(log, found.records)) == list(range(101, 151))


def test_events_that_cannot_be_read_are_counted_and_passed() -> None:
    cut = "<Event><System><EventID>8004</EventID><EventRecordID>41</EventRecordID>"
    found = read(Log({41: cut, 42: event(42)}))
    assert (told(found), found.left_out, places(found)) == ([42], {"unreadable": 1}, {EXE.name: 42})

    def unrendered(channel: str, _query: str, _limit: int) -> ChannelRead:
        if channel != EXE.name:
            return ChannelRead(error=15007)
        return ChannelRead(oldest=7, newest=8, unreadable=2)

    found = read_events(unrendered, {}, machine=MACHINE, sid=SID)
    assert (found.left_out, places(found)) == ({"unreadable": 2}, {EXE.name: 8})


def test_a_channel_that_never_ends_does_not_hold_the_agent() -> None:
    def endless(channel: str, _query: str, _limit: int) -> ChannelRead:
        return ChannelRead(oldest=1, newest=9, unreadable=1, is_end=False)

    assert set(read_events(endless, {}, machine=MACHINE, sid=SID).states.values()) == {"behind"}


@pytest.mark.parametrize("channel", CHANNELS)
def test_allowed_starts_are_never_asked_for(channel: Channel) -> None:
    query = query_of(channel, 7)
    assert not {8002, 8005} & {int(number) for number in re.findall(r"EventID=(\d+)", query)}
    assert ("Provider[@Name='Microsoft-Windows-SoftwareRestrictionPolicies']" in query) == (channel is SRP)


@given(
    kinds=st.lists(st.sampled_from([OF_UV, OTHER, "8002"]), max_size=400),
    cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=6),
)
def test_every_event_is_told_once_however_the_log_grows(kinds: list[str], cuts: list[int]) -> None:
    every = {
        number: event(number, event_id=8002) if kind == "8002" else event(number, kind)
        for number, kind in enumerate(kinds, start=1)
    }
    log, records, found = Log({}), dict[str, int](), list[int]()
    for cut in (*sorted(cuts), len(every), len(every), len(every)):
        log.records = {number: text for number, text in every.items() if number <= cut}
        reading = read(log, records)
        records = dict(reading.records)
        assert not reading.findings
        found += told(reading)
    assert found == [number for number, kind in enumerate(kinds, start=1) if kind == OF_UV]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")
def test_probe_shows_what_stays_and_remembers_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading(left_out={"not of uv": 3, "own probe": 2}, findings=("no right to read it",))
    monkeypatch.setattr(observe, "read_events", lambda *_arguments, **_named: reading)
    for name in [name for name in os.environ if name.startswith(("UV_", "WAYLEAVE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WAYLEAVE_AGENT_SEARCH_PROJECTS", "false")
    assert cli.main(["probe", "--state-dir", str(tmp_path / "state")]) == cli.DONE
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["no right to read it", "events that stay here: 3 not of uv, 2 own probe"]
    assert json.loads(printed.out)["sightings"] == []
    progress = load_progress(tmp_path / "state")
    assert len(progress.windows) == 2  # asking uv, and trying the patterns
    assert progress.records == {}
    assert all(window["process_id"] == os.getpid() for window in progress.windows)
