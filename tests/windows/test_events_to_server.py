"""From the event logs of Windows to the pages: what was really tried, once each, and every gap in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agent.canary import WINDOWS_AUTHENTICODE_SHA256
from app.db.base import now
from app.db.engine import open_url
from app.policies.rule_counts import count_rule_uses
from tests.windows.bench.agent import forget_state, install_agent, run_agent
from tests.windows.bench.events import (
    APPLICATION,
    APPLOCKER_EXE,
    APPLOCKER_SCRIPT,
    CODE_INTEGRITY,
    deny_channel,
    forget_channels,
    write_channel,
)
from tests.windows.bench.places import LOCAL_APPDATA
from tests.windows.bench.policy import enforce
from tests.windows.bench.run import Finished
from tests.windows.bench.server import Server, parse, running_server

pytestmark = pytest.mark.windows

BLOCKED = rf"{LOCAL_APPDATA}\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe"
TOLD = r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe"
SRP_PROVIDER = "Microsoft-Windows-SoftwareRestrictionPolicies"


@pytest.fixture(scope="module")
def server(bench: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one host: the bench, whose agent has been enrolled."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        install_agent()
        forget_state()
        forget_channels()
        enrolled = run_agent("enrol", "--server", running.url, "--secret", running.enrolment_secret())
        assert enrolled.code == 0, enrolled
        yield running
        forget_state()
        forget_channels()


@pytest.fixture(scope="module")
def sid(server: Server) -> str:
    """The SID of the bench's user."""
    finished = run_agent("probe")
    found: str = json.loads(finished.output[finished.output.index("{") :])["subject"]
    return found


def cycle() -> Finished:
    """One cycle that reads the logs and reports, without starting anything."""
    finished = run_agent("once", variables={"WAYLEAVE_AGENT_PROBING": "false", "WAYLEAVE_AGENT_ASK_UV": "false"})
    assert finished.code == 0, finished
    return finished


def status() -> dict[str, object]:
    finished = run_agent("status", "--json")
    found: dict[str, object] = json.loads(finished.output[finished.output.index("{") :])
    return found


def host_page(server: Server) -> str:
    [link] = set(parse(server.page("/hosts")).xpath("//tbody//a[starts-with(@href, '/hosts/')]/@href"))
    return str(parse(server.page(link)).text_content())


def tried_page(server: Server) -> str:
    """What its user really tried, which only those who may see it about one person do see."""
    [link] = set(parse(server.page("/hosts")).xpath("//tbody//a[starts-with(@href, '/hosts/')]/@href"))
    return str(parse(server.page(f"{link}/tried")).text_content())


def applocker(record: int, user: str, *, event_id: int = 8004, path: str = BLOCKED, sha256: str = "") -> str:
    return (
        '<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>'
        f"<Provider Name='Microsoft-Windows-AppLocker'/><EventID>{event_id}</EventID>"
        f"<TimeCreated SystemTime='2026-11-18T11:06:40.{record:07d}Z'/><EventRecordID>{record}</EventRecordID></System>"
        '<UserData><RuleAndFileData xmlns="http://schemas.microsoft.com/schemas/event/Microsoft.Windows/1.0.0.0">'
        f"<PolicyName>EXE</PolicyName><TargetUser>{user}</TargetUser><TargetProcessId>1</TargetProcessId>"
        f"<FilePath>{path.upper()}</FilePath><FileHash>{sha256}</FileHash><Fqbn>-</Fqbn>"
        f"<FullFilePath>{path}</FullFilePath></RuleAndFileData></UserData></Event>"
    )


def other(record: int, user: str, provider: str, event_id: int, data: str) -> str:
    return (
        f"<Event ><System><Provider Name='{provider}'/><EventID>{event_id}</EventID>"
        f"<TimeCreated SystemTime='2026-11-18T12:00:00Z'/><EventRecordID>{record}</EventRecordID>"
        f"<Security UserID='{user}'/></System><EventData>{data}</EventData></Event>"
    )


def test_events_come_to_the_page_of_the_host_once(server: Server, sid: str) -> None:
    secret = "Zx81Quokka"
    device = BLOCKED.replace("C:", r"\Device\HarddiskVolume3")
    write_channel(
        APPLOCKER_EXE,
        [
            applocker(3, sid),
            applocker(4, sid, event_id=8002),
            applocker(5, "S-1-5-21-9-9-9-9999"),
            applocker(6, sid, path=rf"C:\users\alice\{secret}\game.exe"),
            applocker(7, sid, sha256=WINDOWS_AUTHENTICODE_SHA256.upper()),
            applocker(8, sid, path=rf"C:\users\alice\__PSScriptPolicyTest_{secret}.ps1"),
            "<Event ><System><EventID>8004</EventID><EventRecordID>9</EventRecordID></System></Event>",
            applocker(10, sid, event_id=8003),
        ],
    )
    write_channel(APPLOCKER_SCRIPT, [])
    write_channel(
        CODE_INTEGRITY,
        [other(70, sid, "Microsoft-Windows-CodeIntegrity", 3077, f"<Data Name='File Name'>{device}</Data>")],
    )
    write_channel(
        APPLICATION,
        [
            other(900, sid, SRP_PROVIDER, 865, f"<Data>{BLOCKED}</Data>"),
            other(901, sid, "Somebody", 865, f"<Data>{BLOCKED}</Data>"),
        ],
    )
    finished = cycle()
    assert "4 events told" in finished.output, finished
    assert "told of 4 files" in host_page(server)
    assert "Event logs" in host_page(server)
    page = tried_page(server)
    for event_id in (8004, 8003, 3077, 865):
        assert len(re.findall(rf"^\s*{event_id}\s*$", page, re.MULTILINE)) == 1, page
    assert page.count(TOLD) == 4
    assert secret not in page + host_page(server)
    left_out = status()["events_left_out"]
    assert left_out == {
        "PowerShell's own test": 1,
        "not of uv": 1,
        "of another user": 1,
        "own probe": 1,
        "unreadable": 1,
    }
    cycle()
    run_agent("once", "--force", variables={"WAYLEAVE_AGENT_PROBING": "false"})
    assert tried_page(server).count(TOLD) == 4


def test_a_log_that_wrapped_is_shown_as_a_gap(server: Server, sid: str) -> None:
    write_channel(APPLOCKER_EXE, [applocker(500, sid), applocker(501, sid)])
    finished = cycle()
    assert "489 records were overwritten before they were read" in finished.output, finished
    assert "events were overwritten before they were read" in host_page(server)
    left_out = status()["events_left_out"]
    assert isinstance(left_out, dict)
    assert left_out["overwritten before they were read"] == 489
    cycle()
    assert "events were overwritten before they were read" not in host_page(server)


def test_a_log_that_may_not_be_read_is_shown_with_the_cure(server: Server, sid: str) -> None:
    write_channel(CODE_INTEGRITY, [])
    deny_channel(CODE_INTEGRITY)
    finished = cycle()
    assert "Add-LocalGroupMember -SID S-1-5-32-573" in finished.output, finished
    assert "the agent has no right to read it" in host_page(server)
    assert any("Add-LocalGroupMember" in finding for finding in list(status()["findings"]))


def test_hundreds_of_events_come_in_several_reports(server: Server, sid: str) -> None:
    write_channel(APPLOCKER_EXE, [applocker(record, sid) for record in range(502, 802)])
    assert "200 events told" in cycle().output
    assert "more waits for the next cycle" in host_page(server)
    assert "100 events told" in cycle().output


USED, UNUSED = "921cc481-6e17-4653-8f75-050b80acca20", "a61c8b2c-a319-4cd0-9690-d2177cad7b51"


def allowed(record: int, user: str, rule: str, day: str, event_id: int = 8002) -> str:
    secret = r"C:\Users\alice\Zx81Quokka\game.exe"
    return (
        applocker(record, user, event_id=event_id, path=secret)
        .replace("2026-11-18", day)
        .replace("<FileHash>", f"<RuleId>{{{rule.upper()}}}</RuleId><FileHash>")
    )


def counting(**more: str) -> dict[str, object]:
    """One report of an agent that counts; and what it sent, as it is kept until the next."""
    variables = {"WAYLEAVE_AGENT_PROBING": "false", "WAYLEAVE_AGENT_COUNT_RULE_USES": "true", **more}
    finished = run_agent("probe", variables=variables)
    assert finished.code == 0, finished
    report: dict[str, object] = json.loads(finished.output[finished.output.index("{") :])
    sent = run_agent("once", "--force", variables=variables)
    assert sent.code == 0, sent
    return report


def test_allowed_starts_are_counted_by_rule_and_day_where_that_is_switched_on(
    server: Server, sid: str, default_rules: str
) -> None:
    enforce(default_rules)
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    write_channel(APPLOCKER_EXE, [allowed(900, sid, USED, yesterday)])
    write_channel(APPLOCKER_SCRIPT, [])
    cycle()
    assert "8002" not in json.dumps(status()), "it is off unless somebody switched it on"
    assert "rule_uses" not in counting(), "and begins with what comes after that"
    write_channel(
        APPLOCKER_EXE,
        [
            allowed(900, sid, USED, yesterday),
            *(allowed(record, sid, USED, yesterday) for record in range(901, 1051)),
            allowed(1051, "S-1-5-21-9-9-9-9999", USED, yesterday),
            allowed(1052, sid, "22222222-6e17-4653-8f75-050b80acca20", yesterday),
        ],
    )
    write_channel(APPLOCKER_SCRIPT, [allowed(7, sid, "06dce67b-934c-454f-a263-2515c8796a5d", yesterday, 8005)])
    told = counting()["rule_uses"]
    assert told == [
        {"rule_id": "06dce67b-934c-454f-a263-2515c8796a5d", "day": yesterday, "count": 1},
        {"rule_id": USED, "day": yesterday, "count": 150},
    ]
    assert "rule_uses" not in counting(), "it was told"
    assert "Allowed starts, EXE and DLL" in host_page(server)
    database = open_url(f"sqlite:///{server.environment['WAYLEAVE_DATA_DIR']}/wayleave.sqlite")
    with database.connect() as connection:
        assert count_rule_uses(connection, now()) == 1
    database.dispose()
    [link] = set(parse(server.page("/policies")).xpath("//tbody//a[starts-with(@href, '/policies/')]/@href"))
    rules = {one["id"].lower(): one for one in json.loads(server.page(f"/api/v1{link}/rules"))}
    assert "150 times" in server.page(link)
    assert (rules[USED]["uses"], rules[USED]["counted_on"], rules[UNUSED]["uses"]) == (150, 1, 0)
    assert "Zx81Quokka" not in host_page(server) + tried_page(server)
