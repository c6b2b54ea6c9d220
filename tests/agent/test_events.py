"""AppLocker's events: read by local names, told only of uv's patterns and of this user, never of our own probes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from agent.catalogue import Machine
from agent.events import (
    ChannelRead,
    Window,
    explain_error,
    first_record,
    parse_event,
    path_digest,
    sort_events,
)
from agent.watch import read_events

EXE, SCRIPT = "Microsoft-Windows-AppLocker/EXE and DLL", "Microsoft-Windows-AppLocker/MSI and Script"
SID = "S-1-5-21-1-2-3-1001"
AT = 1_795_000_000.5
PYTHON = r"%OSDRIVE%\USERS\JANE\APPDATA\LOCAL\UV\CACHE\BUILDS-V0\.TMPAB12CD\SCRIPTS\PYTHON.EXE"
FULL = r"C:\Users\jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
HASH = "AB" * 32
MACHINE = Machine(
    env={
        "USERPROFILE": r"C:\Users\jane",
        "LOCALAPPDATA": r"C:\Users\jane\AppData\Local",
        "APPDATA": r"C:\Users\jane\AppData\Roaming",
    },
    platform="windows",
)


def event(record: int = 7, *, event_id: int = 8004, at: str = "2026-11-18T11:06:40.5000000Z", **values: str) -> str:
    fields = {
        "PolicyName": "EXE",
        "RuleId": "{00000000-0000-0000-0000-000000000000}",
        "RuleName": "-",
        "TargetUser": SID,
        "TargetProcessId": "4321",
        "FilePath": PYTHON,
        "FileHash": "",
        "Fqbn": "-",
        "FullFilePath": FULL,
        **values,
    }
    data = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items() if value is not None)
    return (
        '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
        f"<Provider Name='Microsoft-Windows-AppLocker'/><EventID>{event_id}</EventID>"
        f"<TimeCreated SystemTime='{at}'/><EventRecordID>{record}</EventRecordID><Security UserID='S-1-5-18'/></System>"
        '<UserData><RuleAndFileData xmlns="http://schemas.microsoft.com/schemas/event/Microsoft.Windows/1.0.0.0">'
        f"{data}</RuleAndFileData></UserData></Event>"
    )


def test_an_event_is_read() -> None:
    rule = "{1BF9BCE2-618C-59B0-AEFB-D92F48E15CF1}"
    found = parse_event(event(RuleId=rule, FileHash=HASH, Fqbn=r"O=A, L=B\PRODUCT\PYTHON.EXE\3.13.0.0"))
    assert found is not None
    assert (found.record, found.event_id, found.at, found.seconds) == (7, 8004, "2026-11-18T11:06:40.500Z", AT)
    assert (found.path, found.collection, found.process_id, found.user) == (FULL, "Exe", 4321, SID)
    assert (found.rule_id, found.sha256) == (rule.strip("{}").lower(), HASH.lower())
    assert found.fqbn == r"O=A, L=B\PRODUCT\PYTHON.EXE\3.13.0.0"


def test_what_older_windows_leaves_out_is_unknown() -> None:
    text = (
        event()
        .replace(f"<FullFilePath>{FULL}</FullFilePath>", "")
        .replace("<TargetProcessId>4321</TargetProcessId>", "")
    )
    found = parse_event(text)
    assert found is not None
    assert (found.path, found.process_id) == (PYTHON, None)
    assert (found.rule_id, found.sha256, found.fqbn) == (None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<Event",
        "<Event/>",
        '<!DOCTYPE Event [<!ENTITY a "b">]>' + event(),
        event(at="yesterday"),
        event().replace("<EventRecordID>7</EventRecordID>", "<EventRecordID>seven</EventRecordID>"),
        event(FilePath="", FullFilePath=""),
        event(FilePath="-", FullFilePath="-"),
        event(FullFilePath="x" * 300_000),
    ],
    ids=["empty", "cut", "bare", "doctype", "time", "record", "no path", "dash", "huge"],
)
def test_what_is_no_event_is_none(text: str) -> None:
    assert parse_event(text) is None


def sorted_out(*texts: str, windows: Sequence[Window] = ()) -> tuple[list[str], dict[str, int]]:
    events = [found for text in texts if (found := parse_event(text))]
    assert len(events) == len(texts)
    found = sort_events(EXE, events, machine=MACHINE, sid=SID, windows=windows)
    return [sighting.pattern for sighting in found.sightings], dict(found.left_out)


def test_a_sighting_names_neither_user_nor_random_part() -> None:
    for text in (event(FileHash=HASH), event().replace(f"<FullFilePath>{FULL}</FullFilePath>", "")):
        found = parse_event(text)
        assert found is not None
        (sighting,) = sort_events(EXE, [found], machine=MACHINE, sid=SID).sightings
        assert sighting.path == r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe"
        assert (sighting.pattern, sighting.channel, sighting.record) == ("cache-builds-venv-python", EXE, 7)
        assert "jane" not in str(sighting.to_json()).lower()


def test_only_events_of_uv_and_of_this_user_are_told() -> None:
    told, left_out = sorted_out(
        event(1),
        event(2, FullFilePath=r"C:\Users\jane\Downloads\game.exe", FilePath=r"%OSDRIVE%\USERS\JANE\DOWNLOADS\GAME.EXE"),
        event(3, TargetUser="S-1-5-21-1-2-3-1002"),
        event(4, FullFilePath=r"C:\Users\jane\AppData\Local\Temp\__PSScriptPolicyTest_abc.ps1"),
    )
    assert told == ["cache-builds-venv-python"]
    assert left_out == {"not of uv": 1, "of another user": 1, "PowerShell's own test": 1}


OURS = Window(begun=AT - 1, ended=AT + 1, process_id=99, paths=frozenset({path_digest(FULL)}))
MARKED = FULL.replace(".tmpAb12Cd", ".tmpWLVabc")


@pytest.mark.parametrize(
    ("text", "windows", "is_own"),
    [
        (event(FileHash=WINDOWS_AUTHENTICODE_SHA256.upper()), (), True),
        (event(FullFilePath=MARKED), (OURS,), True),
        (event(FullFilePath="", FilePath=PYTHON.replace(".TMPAB12CD", ".TMPWLVABC")), (OURS,), True),
        (event(TargetProcessId="99"), (OURS,), True),
        (event(), (OURS,), True),  # a real file that we tried at that time
        (event(), (), False),
        # Somebody who takes our marker cannot hide by it: outside our time, or with another content.
        (event(FullFilePath=MARKED), (), False),
        (event(FullFilePath=MARKED, at="2026-11-18T12:06:40.5Z"), (OURS,), False),
        (event(FullFilePath=MARKED, FileHash=HASH), (OURS,), False),
        (event(TargetProcessId="99", at="2026-11-18T12:06:40.5Z"), (OURS,), False),
    ],
)
def test_our_own_probes_are_no_sightings(text: str, windows: Sequence[Window], is_own: bool) -> None:
    told, left_out = sorted_out(text, windows=windows)
    assert left_out == ({"own probe": 1} if is_own else {})
    assert len(told) == (0 if is_own else 1)


class Log:
    """A channel that holds some events, as Windows would answer."""

    def __init__(self, *records: int, oldest: int | None = None, error: int = 0) -> None:
        self.records, self.error = records, error
        self.oldest = oldest if oldest is not None else (records[0] if records else 0)

    def __call__(self, channel: str, _wanted: tuple[int, ...], after: int, limit: int) -> ChannelRead:
        if channel != EXE:
            return ChannelRead(error=15007)
        if self.error:
            return ChannelRead(error=self.error)
        events = tuple(event(record) for record in self.records if record > after)[:limit]
        newest = self.records[-1] if self.records else 0
        return ChannelRead(events=events, oldest=self.oldest, newest=newest)


def test_reading_goes_on_where_it_ended() -> None:
    log = Log(3, 4, 9)
    first = read_events(log, {}, machine=MACHINE, sid=SID)
    assert [sighting.record for sighting in first.sightings] == [3, 4, 9]
    assert first.records == {EXE: 9}
    assert first.findings == ()
    again = read_events(log, first.records, machine=MACHINE, sid=SID)
    assert (again.sightings, again.records) == ((), {EXE: 9})


def test_what_is_too_much_for_one_cycle_is_read_in_the_next() -> None:
    log = Log(*range(1, 451))
    records: dict[str, int] = {}
    batches = []
    while found := read_events(log, records, machine=MACHINE, sid=SID):
        records = dict(found.records)
        if not found.sightings:
            break
        batches.append([sighting.record for sighting in found.sightings])
    assert [len(batch) for batch in batches] == [200, 200, 50]
    assert [record for batch in batches for record in batch] == list(range(1, 451))


def test_a_log_that_wrapped_is_a_finding_and_no_silence() -> None:
    found = read_events(Log(50, 51), {EXE: 9}, machine=MACHINE, sid=SID)
    assert [sighting.record for sighting in found.sightings] == [50, 51]
    assert "40 records were overwritten" in found.findings[0]


def test_a_log_that_was_cleared_is_read_from_its_beginning() -> None:
    found = read_events(Log(1, 2), {EXE: 900}, machine=MACHINE, sid=SID)
    assert [sighting.record for sighting in found.sightings] == [1, 2]
    assert found.records == {EXE: 2}
    assert "cleared" in found.findings[0]


def test_an_empty_log_is_nothing_at_all() -> None:
    assert read_events(Log(), {EXE: 9}, machine=MACHINE, sid=SID).findings == ()
    assert first_record(9, ChannelRead()) == (9, None)


def test_a_missing_right_is_a_finding_with_its_cure() -> None:
    found = read_events(Log(error=5), {EXE: 9}, machine=MACHINE, sid=SID)
    assert found.records == {EXE: 9}
    assert "S-1-5-32-573" in found.findings[0]
    assert explain_error(SCRIPT, 15007) is None
    assert explain_error(SCRIPT, 1734) == f"{SCRIPT}: error 1734"


def test_events_that_cannot_be_read_are_counted() -> None:
    def broken(channel: str, _wanted: tuple[int, ...], _after: int, _limit: int) -> ChannelRead:
        return ChannelRead(events=("<Event", event(8)), oldest=7, newest=8) if channel == EXE else ChannelRead()

    found = read_events(broken, {}, machine=MACHINE, sid=SID)
    assert found.left_out == {"unreadable": 1}
    assert found.records == {EXE: 8}


def test_events_that_cannot_be_read_do_not_stop_the_reading() -> None:
    cut = "<Event><System><EventRecordID>41</EventRecordID>"

    def broken(channel: str, _wanted: tuple[int, ...], _after: int, _limit: int) -> ChannelRead:
        return ChannelRead(events=(cut,), oldest=41, newest=41) if channel == EXE else ChannelRead()

    assert read_events(broken, {}, machine=MACHINE, sid=SID).records == {EXE: 41}
