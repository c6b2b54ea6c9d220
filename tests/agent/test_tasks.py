"""The scheduled tasks: valid by a schema of what they use, and each property that was promised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from agent.tasks import (
    LOCAL_SYSTEM,
    NAMESPACE,
    PROGRAM,
    USERS,
    encode_task,
    machine_task_xml,
    user_task_xml,
)

NAMES = {"t": NAMESPACE}
SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parent / "data" / "task.xsd"))
BOTH = pytest.mark.parametrize("render", [user_task_xml, machine_task_xml])

Render = Callable[..., str]


def read(xml: str) -> etree._ElementTree:
    return etree.fromstring(encode_task(xml)).getroottree()


def text(tree: etree._ElementTree, path: str) -> str:
    (found,) = tree.xpath(path, namespaces=NAMES)
    return str(found.text)


@BOTH
def test_are_valid_by_the_schema(render: Render) -> None:
    SCHEMA.assertValid(read(render()))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("<GroupId>S-1-5-32-545</GroupId>", "<GroupId>BUILTIN\\Users</GroupId>"),
        ("<UserId>S-1-5-18</UserId>", "<UserId>SYSTEM</UserId>"),
        ("<Priority>7</Priority>", "<Priority>11</Priority>"),
        ('Context="Account"', 'Context="Nobody"'),
        ("<Interval>PT1H</Interval>", "<Interval>PT1S</Interval>"),
        ("<Interval>PT15M</Interval>", "<Interval>15</Interval>"),
        ("<Hidden>false</Hidden>", "<Hidden>no</Hidden>"),
        ("<RunLevel>LeastPrivilege</RunLevel>", "<RunLevel>Least</RunLevel>"),
        (
            "<Enabled>true</Enabled>\n      <StartBoundary>2026-01-01T00:05:00</StartBoundary>",
            "<StartBoundary>2026-01-01T00:05:00</StartBoundary>\n      <Enabled>true</Enabled>",
        ),
    ],
)
def test_schema_refuses_what_is_wrong(right: str, wrong: str) -> None:
    found = [xml for xml in (user_task_xml(), machine_task_xml()) if right in xml]
    assert found
    for xml in found:
        assert not SCHEMA.validate(read(xml.replace(right, wrong)))


def test_users_task_runs_as_whoever_is_logged_on() -> None:
    tree = read(user_task_xml())
    assert text(tree, "//t:Principal/t:GroupId") == USERS
    assert not tree.xpath("//t:Principal/t:UserId | //t:Principal/t:LogonType", namespaces=NAMES)
    assert text(tree, "//t:RunLevel") == "LeastPrivilege"
    assert text(tree, "//t:Arguments") == "user"


def test_machines_task_runs_as_the_system() -> None:
    tree = read(machine_task_xml())
    assert text(tree, "//t:Principal/t:UserId") == LOCAL_SYSTEM
    assert text(tree, "//t:Arguments") == "machine"
    assert text(tree, "//t:MultipleInstancesPolicy") == "IgnoreNew"


def test_users_task_starts_at_logon_of_anybody_and_spread_over_time() -> None:
    tree = read(user_task_xml())
    assert tree.xpath("count(//t:LogonTrigger)", namespaces=NAMES) == 1
    assert not tree.xpath("//t:LogonTrigger/t:UserId", namespaces=NAMES), "a user would be the only one"
    assert text(tree, "//t:CalendarTrigger/t:RandomDelay") == "PT30M"
    assert text(tree, "//t:CalendarTrigger/t:Repetition/t:Interval") == "PT1H"


def test_machines_task_starts_with_the_machine_and_before_the_users() -> None:
    tree = read(machine_task_xml())
    assert tree.xpath("count(//t:BootTrigger)", namespaces=NAMES) == 1
    assert not tree.xpath("//t:LogonTrigger/t:Delay", namespaces=NAMES)
    assert text(tree, "//t:CalendarTrigger/t:RandomDelay") == "PT10M"


@BOTH
def test_run_on_batteries_are_made_up_for_and_end(render: Render) -> None:
    tree = read(render())
    assert text(tree, "//t:DisallowStartIfOnBatteries") == "false"
    assert text(tree, "//t:StopIfGoingOnBatteries") == "false"
    assert text(tree, "//t:StartWhenAvailable") == "true"
    assert text(tree, "//t:ExecutionTimeLimit") in ("PT10M", "PT15M")
    assert text(tree, "//t:WakeToRun") == "false"


@BOTH
def test_flash_no_console(render: Render) -> None:
    tree = read(render("D:\\Tools & more\\Wayleave\\"))
    assert text(tree, "//t:Command") == f"D:\\Tools & more\\Wayleave\\{PROGRAM}"
    assert text(tree, "//t:WorkingDirectory") == "D:\\Tools & more\\Wayleave"
    assert PROGRAM.endswith("w.exe")


@BOTH
def test_name_accounts_by_sid_alone(render: Render) -> None:
    tree = read(render())
    accounts = tree.xpath("//t:UserId | //t:GroupId", namespaces=NAMES)
    assert accounts
    assert all(str(account.text).startswith("S-1-") for account in accounts)


@BOTH
def test_may_be_changed_by_administrators_alone(render: Render) -> None:
    descriptor = text(read(render()), "//t:SecurityDescriptor")
    assert descriptor.startswith("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FR")
    assert descriptor.count("FA") == 2


@BOTH
def test_are_written_as_windows_reads_them(render: Render) -> None:
    content = encode_task(render())
    assert content[:2] == b"\xff\xfe"
    assert b"\r\x00\n\x00" in content
