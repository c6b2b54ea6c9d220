"""Events are read by local names, and told only of uv's patterns and of this user, never of our own probes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from agent.catalogue import Machine
from agent.channels import CHANNELS
from agent.events import Window, parse_event, path_digest, sort_events

EXE, SCRIPT, INTEGRITY, SRP = (channel.name for channel in CHANNELS)
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


CODE_INTEGRITY = (
    '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
    "<Provider Name='Microsoft-Windows-CodeIntegrity' Guid='{4ee76bd8-3cf4-44a0-a0ac-3937643e37a3}'/>"
    "<EventID>3077</EventID><TimeCreated SystemTime='2026-11-18T11:06:40.123456700Z'/>"
    "<EventRecordID>512</EventRecordID><Security UserID='%(user)s'/></System><EventData>"
    "<Data Name='FileNameLength'>96</Data><Data Name='File Name'>%(path)s</Data>"
    "<Data Name='Process Name'>\\Device\\HarddiskVolume3\\Windows\\explorer.exe</Data>"
    "<Data Name='Requested Signing Level'>2</Data><Data Name='Status'>0xc0e90002</Data>"
    "<Data Name='SHA256 Hash Size'>32</Data><Data Name='SHA256 Hash'>%(hash)s</Data>"
    "<Data Name='SHA256 Flat Hash'>%(flat)s</Data><Data Name='PolicyGUID'>{a244370e-44c9-4c06-b551-f6016e563076}</Data>"
    "<Data Name='PolicyName'>VerifiedAndReputableDesktop</Data></EventData></Event>"
)
DEVICE = r"\Device\HarddiskVolume3\Users\jane\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"


def code_integrity(path: str = DEVICE, user: str = SID, sha256: str = HASH) -> str:
    return CODE_INTEGRITY % {"path": path, "user": user, "hash": sha256, "flat": "CD" * 32}


def srp(
    event_id: int, *data: str, provider: str = "Microsoft-Windows-SoftwareRestrictionPolicies", user: str = SID
) -> str:
    values = "".join(f"<Data>{value}</Data>" for value in data)
    return (
        f"<Event><System><Provider Name='{provider}'/><EventID Qualifiers='0'>{event_id}</EventID>"
        f"<TimeCreated SystemTime='2026-11-18T11:06:40Z'/><EventRecordID>9</EventRecordID><Security UserID='{user}'/>"
        f"</System><EventData>{values}</EventData></Event>"
    )


def one_of(channel: str, text: str) -> tuple[list[str], dict[str, int]]:
    found = parse_event(text)
    assert found is not None
    sorted_ = sort_events(channel, [found], machine=MACHINE, sid=SID)
    return [sighting.pattern for sighting in sorted_.sightings], dict(sorted_.left_out)


def test_an_event_of_app_control_is_read() -> None:
    found = parse_event(code_integrity())
    assert found is not None
    assert (found.record, found.event_id, found.at, found.path) == (512, 3077, "2026-11-18T11:06:40.123Z", DEVICE)
    assert (found.sha256, found.user, found.collection, found.rule_id) == (HASH.lower(), SID, None, None)
    (sighting,) = sort_events(INTEGRITY, [found], machine=MACHINE, sid=SID).sightings
    assert (sighting.pattern, sighting.channel) == ("cache-builds-venv-python", INTEGRITY)
    assert "jane" not in str(sighting.to_json()).lower()


def test_the_canary_is_known_to_app_control_by_its_hash() -> None:
    assert one_of(INTEGRITY, code_integrity(sha256=WINDOWS_AUTHENTICODE_SHA256.upper())) == ([], {"own probe": 1})


@pytest.mark.parametrize(
    ("event_id", "data"),
    [
        (865, (FULL,)),
        (866, (FULL, "{191cd7fa-f240-4a17-8986-94d480a6c8ca}", r"%USERPROFILE%\AppData")),
        (868, ("{191cd7fa-f240-4a17-8986-94d480a6c8ca}", FULL)),
        (882, (FULL, "{191cd7fa-f240-4a17-8986-94d480a6c8ca}")),
    ],
)
def test_an_event_of_srp_is_read(event_id: int, data: Sequence[str]) -> None:
    assert one_of(SRP, srp(event_id, *data)) == (["cache-builds-venv-python"], {})


def test_other_providers_and_ids_are_not_asked_for_and_counted() -> None:
    assert one_of(SRP, srp(865, FULL, provider="Somebody Else")) == ([], {"not asked for": 1})
    assert one_of(EXE, event(event_id=8002)) == ([], {"not asked for": 1})
    assert one_of(SCRIPT, event(event_id=8005)) == ([], {"not asked for": 1})
    assert one_of(SCRIPT, event(event_id=8004)) == ([], {"not asked for": 1})


@pytest.mark.parametrize("user", ["S-1-5-18", ""])
def test_an_event_that_names_no_user_is_told_by_whose_profile_it_is_in(user: str) -> None:
    assert one_of(INTEGRITY, code_integrity(user=user)) == (["cache-builds-venv-python"], {})
    others = DEVICE.replace("jane", "janet")
    assert one_of(INTEGRITY, code_integrity(path=others, user=user)) == ([], {"of an unknown user": 1})
    assert one_of(EXE, event(TargetUser=user)) == (["cache-builds-venv-python"], {})
    shared = r"C:\src\app\.venv\Scripts\python.exe"
    assert one_of(EXE, event(TargetUser=user, FullFilePath=shared)) == ([], {"of an unknown user": 1})
    assert one_of(EXE, event(FullFilePath=shared)) == (["venv-python"], {})


def test_a_path_too_long_for_a_report_is_not_told() -> None:
    assert parse_event(event(FullFilePath=FULL.replace("jane", "j" * 1000))) is None


PIECES = st.sampled_from(
    [
        "<Event>",
        "</Event>",
        "<System>",
        "</System>",
        "<EventID>8004</EventID>",
        "<EventID>3077</EventID>",
        "<EventID>865</EventID>",
        "<EventID>99999999999999999999</EventID>",
        "<EventRecordID>7</EventRecordID>",
        "<EventRecordID>\u0667</EventRecordID>",
        "<TimeCreated SystemTime='2026-11-18T11:06:40Z'/>",
        "<TimeCreated SystemTime='0001-01-01T00:00:00Z'/>",
        "<TimeCreated SystemTime='2026-99-99T99:99:99Z'/>",
        "<EventData>",
        "</EventData>",
        f"<Data>{FULL}</Data>",
        f"<Data Name='File Name'>{FULL}</Data>",
        "<Data Name='EventID'>8004</Data>",
        "<UserData><FullFilePath>",
        "</FullFilePath></UserData>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>",
        "<![CDATA[",
        "]]>",
        "&lol;",
        "&#0;",
        "\x00",
        "\ud800",
        "<a:b>",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=25).map("".join)))
def test_no_text_breaks_the_reader(text: str) -> None:
    found = parse_event(text)
    assert found is None or (0 <= found.record <= 2**53 and found.path and found.at.endswith("Z"))


@given(
    st.dictionaries(
        st.sampled_from(["PolicyName", "RuleId", "TargetUser", "TargetProcessId", "FilePath", "FileHash", "Fqbn"]),
        st.text(st.characters(exclude_characters="<&", exclude_categories=["Cs", "Cc"]), max_size=60),
    )
)
def test_no_value_of_an_event_breaks_the_report(values: dict[str, str]) -> None:
    found = parse_event(event(**values))
    assert found is not None
    for sighting in sort_events(EXE, [found], machine=MACHINE, sid=SID).sightings:
        assert "jane" not in str(sighting.to_json()).lower()
        # The publisher is told as it is, and may be any text: also the one that stands elsewhere in the event.
        told = str({**sighting.to_json(), "fqbn": None})
        assert all(
            word not in told for word in (values.get("RuleId"), values.get("TargetUser")) if word and len(word) > 12
        )


def test_entities_are_not_expanded() -> None:
    bomb = "<!DOCTYPE a [" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 9)) + "]>"
    assert parse_event(bomb + event(FilePath="&a8;")) is None
    assert parse_event(event(FilePath="&unknown;", FullFilePath="&unknown;")) is None
