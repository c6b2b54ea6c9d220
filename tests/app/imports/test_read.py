"""Every kind of file is recognised and read from any place on; faults are told with their places, and passed over."""

from __future__ import annotations

import io
import json
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from app.imports.evtx_file import read_stretch
from app.imports.model import FileError, Given, Part, Seen
from app.imports.read import Format, read_beginning, read_parts, recognise
from app.imports.uv_files import UvFiles
from tests.app.imports.evtx_files import (
    CHUNK_BYTES,
    FILE_HEADER_BYTES,
    applocker_event,
    make_chunks,
    process_event,
    write_evtx,
    write_large,
)
from tests.app.imports.logs import mixed_events
from tests.app.imports.test_run import NOW, uv_event

SID = "S-1-5-21-1004336348-1177238915-682003330-1001"
UV = r"C:\Users\Jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
SHORT = r"%OSDRIVE%\USERS\JANE\APPDATA\LOCAL\UV\CACHE\BUILDS-V0\.TMPAB12CD\SCRIPTS\PYTHON.EXE"
AT_MS = 1_795_246_860_123
SYSTEM = (
    "<System><Provider Name='{provider}' Guid='{{cbda4dbf-8d5d-4f69-9578-be14aa540d22}}'/><EventID>{number}</EventID>"
    "<TimeCreated SystemTime='2026-11-21T07:41:00.1234567Z'/><EventRecordID>4711</EventRecordID>"
    "<Channel>{channel}</Channel><Computer>PC-1.example.com</Computer><Security UserID='{sid}'/></System>"
)
START = "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'>"
APPLOCKER_XML = (
    START
    + SYSTEM.format(
        provider="Microsoft-Windows-AppLocker",
        number=8004,
        channel="Microsoft-Windows-AppLocker/EXE and DLL",
        sid="S-1-5-18",
    )
    + "<UserData><RuleAndFileData xmlns='http://schemas.microsoft.com/schemas/event/Microsoft.Windows/1.0.0.0'>"
    f"<PolicyName>EXE</PolicyName><RuleId>{{00000000-0000-0000-0000-000000000000}}</RuleId><RuleSddl>-</RuleSddl>"
    f"<TargetUser>{SID}</TargetUser><FilePath>{SHORT}</FilePath><FileHash/><Fqbn>-</Fqbn></RuleAndFileData></UserData>"
    "</Event>"
)
CODE_INTEGRITY_XML = (
    START
    + SYSTEM.format(
        provider="Microsoft-Windows-CodeIntegrity",
        number=3077,
        channel="Microsoft-Windows-CodeIntegrity/Operational",
        sid=SID,
    )
    + r"<EventData><Data Name='File Name'>\Device\HarddiskVolume3"
    + UV[2:]
    + f"</Data><Data Name='SHA256 Hash'>{'AB' * 32}</Data></EventData></Event>"
)
SRP_XML = (
    START
    + SYSTEM.format(
        provider="Microsoft-Windows-SoftwareRestrictionPolicies", number=865, channel="Application", sid=SID
    )
    + f"<EventData><Data>{UV}</Data></EventData></Event>"
)


def read_all(path: Path, given: Given | None = None, **options: int) -> Part:
    """A whole file as one part."""
    whole = Part(after={})
    for part in read_parts(path, recognise(read_beginning(path)), {}, given or Given(), **options):
        whole.after = part.after
        whole.read += part.read
        whole.seen += part.seen
        whole.left_out += part.left_out
        whole.problems += part.problems
    return whole


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(content: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return make


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("root", ["{}", "<?xml version='1.0'?>\n<Events>\n{}\n</Events>\n"])
def test_event_xml(write: Callable[..., Path], encoding: str, root: str) -> None:
    events = [APPLOCKER_XML, CODE_INTEGRITY_XML, SRP_XML, APPLOCKER_XML.replace("8004", "8002")]
    path = write(root.format("\r\n".join(events)), encoding)
    assert recognise(read_beginning(path)).format is Format.EVENT_XML
    part = read_all(path)
    assert (part.read, part.problems) == (4, [])
    assert part.left_out == {"allowed: neither blocked nor audited": 1}
    assert [(one.event_id, one.channel, one.sid) for one in part.seen] == [
        (8004, "Microsoft-Windows-AppLocker/EXE and DLL", SID),
        (3077, "Microsoft-Windows-CodeIntegrity/Operational", SID),
        (865, "Application", SID),
    ]
    assert {(one.at, one.record, one.pattern) for one in part.seen} == {(AT_MS, 4711, "cache-builds-venv-python")}
    assert {one.path for one in part.seen} == {r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe"}
    assert part.seen[1].sha256 == "ab" * 32


def test_a_bad_event_is_told_with_its_line_and_the_next_is_read(write: Callable[..., Path]) -> None:
    unescaped = APPLOCKER_XML.replace("<RuleSddl>-<", "<RuleSddl>(XA;;FX;;;S-1-1-0;(a && b))<")
    path = write(
        "\n".join(
            [
                APPLOCKER_XML,
                APPLOCKER_XML.replace("</TargetUser>", ""),
                unescaped,
                f"<!DOCTYPE x [<!ENTITY e 'x'>]>{APPLOCKER_XML}",
                APPLOCKER_XML.replace("<Fqbn>-", "<!DOCTYPE x [<!ENTITY e 'x'>]><Fqbn>&e;"),
                APPLOCKER_XML.replace("2026-11-21T07", "yesterday"),
                APPLOCKER_XML[:300],
            ]
        )
    )
    part = read_all(path)
    assert len(part.seen) == 3
    assert [problem.place for problem in part.problems] == ["line 2", "line 5", "line 6", "line 7"]
    assert "well-formed" in part.problems[0].message
    assert "ends within an event" in part.problems[3].message


ROWS = {
    "sentinel": "TimeGenerated [UTC],Computer,EventID,EventData\n"
    '"11/21/2026, 7:41:00.123 AM",PC-1.example.com,8004,'
    f'"<DataItem><UserData><RuleAndFileData><TargetUser>{SID}</TargetUser><FilePath>{SHORT}</FilePath>'
    '</RuleAndFileData></UserData></DataItem>"\n',
    "defender": "Timestamp,DeviceName,ActionType,FileName,FolderPath,SHA256,InitiatingProcessAccountSid\n"
    "2026-11-21T07:41:00.1234567Z,PC-1.example.com,AppControlExecutableBlocked,PYTHON.EXE,"
    f"{SHORT[:-11]},{'CD' * 32},{SID}\n",
    "splunk raw": f'_time,host,_raw\n2026-11-21T07:41:00.123+0000,collector,"{APPLOCKER_XML}"\n',
    "splunk fields": "_time;ComputerName;EventCode;SourceName;FullFilePath;TargetUser\n"
    f"1795246860.123;PC-1.example.com;8004;Microsoft-Windows-AppLocker;{UV};{SID}\n",
}
DOCUMENTS = {
    "elastic": {
        "@timestamp": "2026-11-21T07:41:00.123Z",
        "host": {"name": "pc-1.example.com"},
        "winlog": {
            "event_id": "8004",
            "record_id": 4711,
            "computer_name": "PC-1.example.com",
            "provider_name": "Microsoft-Windows-AppLocker",
            "user_data": {"FullFilePath": UV, "TargetUser": SID, "FileHash": "AB" * 32},
        },
    },
    "splunk": {"preview": False, "result": {"_raw": APPLOCKER_XML, "host": "collector"}},
    "sentinel": {
        "TimeGenerated": "2026-11-21T07:41:00.123Z",
        "Computer": "PC-1.example.com",
        "EventID": 8004,
        "EventData": json.dumps({"FullFilePath": UV, "TargetUser": SID}),
    },
    "dump": {
        "Event": {
            "System": {
                "EventID": 8004,
                "TimeCreated": {"#attributes": {"SystemTime": "2026-11-21T07:41:00.123Z"}},
                "Computer": "PC-1.example.com",
                "EventRecordID": 4711,
            },
            "UserData": {"RuleAndFileData": {"FullFilePath": UV, "TargetUser": SID}},
        }
    },
}


def check_one(part: Part) -> Seen:
    assert part.problems == []
    [seen] = part.seen
    assert (seen.computer, seen.at, seen.event_id, seen.sid) == ("PC-1.example.com", AT_MS, 8004, SID)
    assert seen.pattern == "cache-builds-venv-python"
    return seen


@pytest.mark.parametrize("name", ROWS)
def test_csv_of_other_products(write: Callable[..., Path], name: str) -> None:
    path = write(ROWS[name])
    assert recognise(read_beginning(path)).format is Format.CSV
    seen = check_one(read_all(path))
    assert seen.sha256 is None  # Defender's is of the whole file, which no rule knows


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("shape", ["lines", "array", "indented", "wrapped"])
def test_json_of_other_products(write: Callable[..., Path], name: str, shape: str) -> None:
    other = {"EventID": 4624, "Computer": "x"}
    both = [other, DOCUMENTS[name]]
    text = {
        "lines": "\n".join(json.dumps(one) for one in both),
        "array": json.dumps(both),
        "indented": json.dumps(both, indent=2),
        "wrapped": json.dumps({"Stats": {}, "Schema": [{"Name": "x"}], "Results": both}, indent=1),
    }[shape]
    path = write(text)
    assert recognise(read_beginning(path)).format is (Format.JSON_LINES if shape == "lines" else Format.JSON)
    part = read_all(path)
    assert part.read == 2
    check_one(part)


def test_file_information_as_csv_and_json(write: Callable[..., Path]) -> None:
    given = Given(computer="PC-1", event_type="audited", at=AT_MS)
    csv = write(f'#TYPE x\n"Path","Publisher","Hash","AppX"\n"{SHORT}","","SHA256 0x{"AB" * 32}","False"\n')
    [seen] = read_all(csv, given).seen
    assert (seen.event_id, seen.sha256, seen.computer, seen.at) == (8003, "ab" * 32, "PC-1", AT_MS)
    value = {
        "Path": {"Path": SHORT},
        "Publisher": {"PublisherName": "O=X"},
        "Hash": {"HashDataString": "0x" + "AB" * 32},
    }
    [again] = read_all(write(json.dumps([value])), given).seen
    assert (again.pattern, again.sha256) == (seen.pattern, seen.sha256)
    with pytest.raises(FileError, match="name the host"):
        read_all(write(json.dumps([value])))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"PK\x03\x04", "unpack it first"),
        (b"<html><body>", "XML, but of no events"),
        (b"just a text\nof some lines", "neither an event log"),
        (b"ElfFile\0" + bytes(100), "only the beginning"),
    ],
)
def test_what_is_nothing_of_this_is_refused_in_words(write: Callable[..., Path], content: bytes, words: str) -> None:
    path = write(content)
    with pytest.raises(FileError, match=words):
        read_all(path)


def test_faults_in_rows_are_told_with_their_lines(write: Callable[..., Path]) -> None:
    row = f"2026-11-21T07:41:00Z,PC-1,8004,{UV}\n"
    csv = read_all(
        write("TimeGenerated,Computer,EventID,FilePath\n" + row + f"x,PC-1,8004,{UV}\n" + "y" * 2_000_000 + "\n" + row)
    )
    assert len(csv.seen) == 2
    assert [problem.place for problem in csv.problems] == ["line 3", "line 4"]
    good = json.dumps(DOCUMENTS["sentinel"])
    lines = read_all(write(f"{good}\n{{broken\n[1]\n{good}\n"))
    assert len(lines.seen) == 2
    assert [problem.place for problem in lines.problems] == ["line 2", "line 3"]
    deep = read_all(write("[" + '{"a":' * 100_000))
    assert [problem.place for problem in deep.problems] == ["row 1"]
    array = read_all(write(f"[{good}, 7, {good}, {{broken"))
    assert len(array.seen) == 2
    assert [problem.place for problem in array.problems] == ["row 2", "row 4"]


@pytest.mark.parametrize("kind", ["csv", "lines", "array", "xml", "list"])
def test_reading_goes_on_from_any_part(write: Callable[..., Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tables_of_text", "file_information"):
        monkeypatch.setattr(f"app.imports.{module}.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("app.imports.event_xml.BLOCK_BYTES", 3_000)
    monkeypatch.setattr("app.imports.tables_of_text._BLOCK_BYTES", 1_000)
    count = 40
    row = {"TimeGenerated": "2026-11-21T07:41:00Z", "Computer": "PC-ä", "EventID": 8004, "FilePath": UV}
    text = {
        "csv": "TimeGenerated,Computer,EventID,FilePath,Note\n"
        + "".join(f'2026-11-21T07:41:00Z,PC-ä{n},8004,{UV},"two\nlines"\n' for n in range(count)),
        "lines": "\n".join(json.dumps({**row, "Computer": f"PC-ä{n}"}, ensure_ascii=False) for n in range(count)),
        "array": json.dumps([{**row, "Computer": f"PC-ä{n}"} for n in range(count)], ensure_ascii=False, indent=1),
        "xml": "\n".join(APPLOCKER_XML.replace("PC-1.example.com", f"PC-ä{n}") for n in range(count)),
        "list": "".join(f"Path : {UV}\nHash : SHA256 0x{n:064x}\n\n" for n in range(count)),
    }[kind]
    path = write(text, "utf-16" if kind in ("xml", "list") else "utf-8")
    given = Given(computer="PC-1", event_type="denied", at=AT_MS)
    file_kind = recognise(read_beginning(path))
    parts = list(read_parts(path, file_kind, {}, given))
    assert len(parts) > 3
    whole = [seen for part in parts for seen in part.seen]
    assert len(set(whole)) == count
    for number, part in enumerate(parts):
        rest = [seen for one in read_parts(path, file_kind, part.after, given) for seen in one.seen]
        assert [seen for one in parts[: number + 1] for seen in one.seen] + rest == whole


def test_two_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.imports.workers.ALONE_BELOW_BYTES", 0)
    path = tmp_path / "a.evtx"
    written = write_large(path, make_chunks(mixed_events(3000)), 30_000_000)
    alone, together = read_all(path, processes=1), read_all(path, processes=2)
    assert alone.read == together.read == written
    assert alone.seen == together.seen
    assert alone.left_out == together.left_out


def test_variables_that_moved_directories_are_heeded(tmp_path: Path) -> None:
    path = tmp_path / "a.evtx"
    write_evtx(path, [applocker_event(r"D:\fast\bin\mypy.exe", at=NOW), uv_event()])
    assert len(read_all(path).seen) == 1
    moved = read_all(path, Given(env={"UV_TOOL_BIN_DIR": r"D:\fast\bin"}))
    assert {one.pattern for one in moved.seen} == {"tool-bin-exe", "cache-builds-venv-python"}
    assert len(moved.seen) == 2


def test_no_name_of_a_person_or_project_is_in_a_template() -> None:
    files = UvFiles()
    for path in (
        UV,
        UV.upper(),
        r"C:\src\Secret\.venv\Scripts\python.exe",
        r"D:\Users\Jane\.local\bin\tool-of-jane.exe",
    ):
        found = files.find(path)
        assert found is not None, path
        assert not any(word in found.path.lower() for word in ("jane", "secret")), found


@pytest.mark.parametrize("seed", range(3))
def test_hostile_text_never_makes_reading_fail(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    seeds = [
        *ROWS.values(),
        *(json.dumps([one]) for one in DOCUMENTS.values()),
        APPLOCKER_XML * 3,
        f"Path : {UV}\nHash :\n",
    ]
    seeds += ["\n".join(json.dumps(one) for one in DOCUMENTS.values())]
    reasons: Counter[str] = Counter()
    path = tmp_path / "file"
    for _ in range(300):
        data = bytearray(chance.choice(seeds).encode(chance.choice(("utf-8", "utf-16", "utf-8-sig"))))
        for _ in range(chance.choice((1, 3, 20))):
            place = chance.randrange(len(data))
            data[place : place + chance.choice((0, 1, 5))] = chance.choice(
                (b"\0", b"\xff", b'"', b"<", b"]]>", b"&#x0;", b"{" * 50, b"\n", b",", bytes([chance.randrange(256)]))
            )
        path.write_bytes(data[: chance.choice((len(data), chance.randrange(len(data)) + 1))])
        try:
            part = read_all(path, Given(computer="PC-1", event_type="denied", at=AT_MS))
        except FileError as error:
            reasons[error.message] += 1
        else:
            reasons.update(part.left_out)
            assert all(seen.path.isprintable() and seen.computer.isprintable() for seen in part.seen)
    assert len(reasons) > 5


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_makes_reading_an_event_log_fail(seed: int) -> None:
    chance = random.Random(seed)
    events = [uv_event(n) if n % 2 else process_event(r"C:\x\y.exe", at=NOW) for n in range(60)]
    [chunk, *_] = make_chunks(events)
    (end,) = struct.unpack_from("<I", chunk.data, 48)
    files = UvFiles()
    for _ in range(150):
        data = bytearray(chunk.data)
        for _ in range(chance.choice((1, 2, 5, 30))):
            place = chance.randrange(512, end) if chance.random() < 0.8 else chance.randrange(512)
            data[place] ^= 1 << chance.randrange(8)
        content = bytes(FILE_HEADER_BYTES) + bytes(
            data[: chance.choice((CHUNK_BYTES, chance.randrange(CHUNK_BYTES))) or 1]
        )
        part = read_stretch(io.BytesIO(content), FILE_HEADER_BYTES, files, is_open=True)
        assert part.read >= len(part.seen)
