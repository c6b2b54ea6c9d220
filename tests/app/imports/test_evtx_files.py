"""The maker of event log files makes what `evtx` reads back, checksums included."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evtx import PyEvtxParser

from tests.app.imports.evtx_files import applocker_event, make_chunks, process_event, write_evtx, write_large

AT = datetime(2026, 11, 20, 8, 0, 0, 123_000, tzinfo=UTC)
UV = r"C:\Users\Jane & Co\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"


def read_back(path: Path) -> list[str]:
    return [record["data"] for record in PyEvtxParser(str(path), validate_checksums=True).records()]


def test_events_come_back_with_every_value(tmp_path: Path) -> None:
    file = tmp_path / "a.evtx"
    rule = "a61c8b2c-a319-4cd0-9690-d2177cad7b51"
    write_evtx(file, [applocker_event(UV, at=AT, sha256="ab" * 32, rule_id=rule), process_event(r"C:\x.exe", at=AT)])
    applocker, process = read_back(file)
    for words in (
        "<EventID>8004</EventID>",
        '<Provider Name="Microsoft-Windows-AppLocker"',
        'SystemTime="2026-11-20T08:00:00.123000Z"',
        "<EventRecordID>1</EventRecordID>",
        "<Channel>Microsoft-Windows-AppLocker/EXE and DLL</Channel>",
        "<Computer>PC-1.example.com</Computer>",
        "<TargetUser>S-1-5-21-1004336348-1177238915-682003330-1001</TargetUser>",
        f"<FileHash>{'AB' * 32}</FileHash>",
        f"<FullFilePath>{UV.replace('&', '&amp;')}</FullFilePath>",
        "<FileHashLength>32</FileHashLength>",
    ):
        assert words in applocker, words
    assert rule.upper() in applocker.upper()
    assert '<Data Name="NewProcessName">C:\\x.exe</Data>' in process
    assert "<EventRecordID>2</EventRecordID>" in process


def test_many_chunks_each_with_its_own_names_and_templates(tmp_path: Path) -> None:
    file = tmp_path / "a.evtx"
    events = [applocker_event(UV, at=AT + timedelta(seconds=n), computer=f"PC-{n}") for n in range(300)]
    assert write_evtx(file, events) > 3
    found = read_back(file)
    assert [re.findall(r"<Computer>(.*?)<", one)[0] for one in found] == [f"PC-{n}" for n in range(300)]


def test_a_large_file_repeats_chunks_under_new_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.evtx"
    chunks = make_chunks(applocker_event(UV, at=AT + timedelta(seconds=n)) for n in range(100))
    written = write_large(file, chunks, 1_000_000)
    assert 900_000 < file.stat().st_size < 1_100_000
    numbers = [int(re.findall(r"<EventRecordID>(\d+)<", one)[0]) for one in read_back(file)]
    assert numbers == list(range(1, written + 1))
