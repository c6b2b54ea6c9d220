"""What the agent asks Windows besides starting programs: event logs, signatures, the policy and the user's token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from tests.windows.bench.agent import run_agent
from tests.windows.bench.events import APPLOCKER_EXE, deny_channel, forget_channels, write_channel
from tests.windows.bench.places import LOCAL_APPDATA, PYTHON, UV, UV_BEFORE_SIGNING, on_disk
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import run

pytestmark = pytest.mark.windows

BLOCKED = rf"{LOCAL_APPDATA}\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"


@pytest.fixture(autouse=True)
def quiet_channels(agent_installed: None, clean_bench: None) -> Iterator[None]:
    forget_channels()
    yield
    forget_channels()


def report() -> dict[str, Any]:
    finished = run_agent("probe")
    assert finished.code == 0, finished
    found: dict[str, Any] = json.loads(finished.output[finished.output.index("{") :])
    return found


def event(record: int, user: str, *, event_id: int = 8004, path: str = BLOCKED, sha256: str = "") -> str:
    return (
        '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
        f"<EventID>{event_id}</EventID><TimeCreated SystemTime='2026-11-18T11:06:40.5000000Z'/>"
        f"<EventRecordID>{record}</EventRecordID></System>"
        '<UserData><RuleAndFileData xmlns="http://schemas.microsoft.com/schemas/event/Microsoft.Windows/1.0.0.0">'
        f"<PolicyName>EXE</PolicyName><TargetUser>{user}</TargetUser><TargetProcessId>1</TargetProcessId>"
        f"<FilePath>{path.upper()}</FilePath><FileHash>{sha256}</FileHash><Fqbn>-</Fqbn>"
        f"<FullFilePath>{path}</FullFilePath></RuleAndFileData></UserData></Event>"
    )


def test_events_of_uv_and_of_this_user_are_told_and_no_others() -> None:
    user = report()["subject"]
    write_channel(
        APPLOCKER_EXE,
        [
            event(3, user),
            event(4, user, event_id=8002),
            event(5, "S-1-5-21-9-9-9-9999"),
            event(6, user, path=r"C:\users\alice\Downloads\game.exe"),
            event(7, user, sha256=WINDOWS_AUTHENTICODE_SHA256.upper()),
            event(8, user, event_id=8003),
        ],
    )
    told = [(sighting["record"], sighting["event_id"], sighting["pattern"]) for sighting in report()["sightings"]]
    assert told == [(3, 8004, "cache-builds-venv-python"), (8, 8003, "cache-builds-venv-python")]


def test_a_channel_that_may_not_be_read_stops_nothing() -> None:
    write_channel(APPLOCKER_EXE, [])
    deny_channel(APPLOCKER_EXE)
    assert report()["sightings"] == []


def test_signatures_are_judged_by_windows() -> None:
    code = f"from agent._trust_windows import read_trust; print(read_trust({UV!r}), read_trust({UV_BEFORE_SIGNING!r}))"
    finished = run([PYTHON, "-I", "-c", code])
    assert finished.output.split() == ["trusted", "0x800b0100"]


def test_the_organisational_unit_is_the_one_that_group_policy_saw() -> None:
    code = (
        "import winreg; from agent import _windows\n"
        "with winreg.CreateKey(winreg.HKEY_LOCAL_MACHINE, _windows._GROUP_POLICY_STATE) as key:\n"
        "    print(_windows.read_host('1').unit)\n"
        "    winreg.SetValueEx(key, 'Distinguished-Name', 0, winreg.REG_SZ, 'CN=PC 1,OU=Research,DC=corp,DC=example')\n"
        "    print(_windows.read_host('1').unit)\n"
        "    winreg.DeleteValue(key, 'Distinguished-Name')\n"
    )
    finished = run([PYTHON, "-I", "-c", code])
    assert finished.output.split() == ["None", "OU=Research,DC=corp,DC=example"], finished


def test_policy_and_token_are_told_as_windows_has_them(default_rules: str) -> None:
    enforce(default_rules)
    found = report()
    bodies = {kind: found["bodies"][digest] for kind, digest in found["sets"].items()}
    assert bodies["policy"]["gpo"]["Exe"]["mode"] == "Enabled"
    assert any('UserOrGroupSid="S-1-5-32-544"' in rule for rule in bodies["policy"]["gpo"]["Exe"]["rules"])
    assert (bodies["policy"]["csp"], bodies["policy"]["srp"]) == ("none", False)
    assert not bodies["token"]["administrator"]
    assert found["subject"] not in bodies["token"]["sids"]
    assert {"S-1-1-0", "S-1-5-11", "S-1-5-32-545"} <= set(bodies["token"]["sids"])
    (uv,) = [uv for uv in bodies["uv"]["found"] if uv["version"] == "0.13.8"]
    assert uv["trust"] == "trusted"
    assert uv["publisher"].startswith('O="OPENAI OPCO, LLC"')
    assert bodies["environment"]["roots"]["cache"].upper() == r"%OSDRIVE%\USERS\*\APPDATA\LOCAL\UV\CACHE"


def test_a_folder_is_opened_and_told_by_its_final_path(clean_bench: None) -> None:
    real = on_disk(r"C:\src\elsewhere")
    (real / "A Long Folder Name").mkdir(parents=True, exist_ok=True)
    link = on_disk(r"C:\src\linked")
    link.unlink(missing_ok=True)
    link.symlink_to("elsewhere")
    code = (
        "from agent._platform import open_place, long_name\n"
        "for place in (r'C:\\SRC\\linked\\a long folder name\\not\\there', r'C:\\Windows', r'Z:\\src\\linked'):\n"
        "    opened = open_place(place)\n"
        "    print(repr((opened.dos, opened.rest, int(opened.kind))) if opened else None)\n"
        "print(long_name(r'C:\\Program Files\\uv'), long_name(r'C:\\nothing~1\\x'))"
    )
    finished = run([PYTHON, "-I", "-c", code])
    lines = finished.output.splitlines()
    assert r"\\?\C:\src\elsewhere\A Long Folder Name" in lines[0].replace("\\\\", "\\"), finished
    assert r"\not\there" in lines[0].replace("\\\\", "\\")
    assert r"\\?\c:\windows" in lines[1].replace("\\\\", "\\").lower()
    assert lines[-1].lower() == r"c:\program files\uv c:\nothing~1\x"


def test_the_service_manager_is_asked_as_any_user_may(agent_installed: None, clean_bench: None) -> None:
    """Wine has no AppIDSvc: that it is absent, and that services of its own run, is what can be shown here."""
    code = (
        "from agent._platform import query_service\n"
        "from agent.service import service_word\n"
        "for name in ('AppIDSvc', 'RpcSs', 'no such service'):\n"
        "    print(service_word(query_service(name)))"
    )
    finished = run([PYTHON, "-I", "-c", code])
    words = finished.output.split()
    assert words[0] == words[2] == "absent", finished
    assert words[1].partition("-")[0] in ("running", "stopped"), finished
    assert words[1].partition("-")[2] in ("automatic", "manual", "disabled"), finished
