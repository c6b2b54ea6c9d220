"""Policies of device management: none, read as a whole and kept apart, or there and unreadable; never half."""

from __future__ import annotations

import pytest

from agent.device_policy import MAX_FILES, NONE, READ, UNREADABLE, read_device_policy

RULE = (
    '<FilePathRule Id="11111111-1111-1111-1111-111111111111" Name="uv" Description="" UserOrGroupSid="S-1-1-0"'
    ' Action="Allow"><Conditions><FilePathCondition Path="%PROGRAMFILES%\\*" /></Conditions></FilePathRule>'
)


def collection(kind: str = "Exe", mode: str = "Enabled", *rules: str) -> str:
    return f'<RuleCollection Type="{kind}" EnforcementMode="{mode}">{"".join(rules)}</RuleCollection>'


def test_groupings_are_kept_apart() -> None:
    found = read_device_policy(
        {
            r"{A}\corp\EXE\Policy": collection("Exe", "Enabled", RULE).encode(),
            r"{A}\corp\DLL\Policy": collection("Dll", "AuditOnly").encode(),
            r"{A}\other\EXE\Policy": collection("Exe", "NotConfigured", RULE).encode("utf-16"),
        }
    )
    assert found.state == READ
    assert [sorted(one) for one in found.sets] == [["Dll", "Exe"], ["Exe"]]
    assert found.sets[0]["Exe"].mode == 1
    assert found.sets[0]["Dll"].mode == 0
    assert found.sets[1]["Exe"].mode is None
    assert "%PROGRAMFILES%" in found.sets[0]["Exe"].rules[0]


def test_the_compiled_form_beside_it_is_passed_over() -> None:
    found = read_device_policy(
        {r"a\EXE\Policy": collection("Exe", "Enabled", RULE).encode(), r"a\EXE\Exe.AppLocker": b"APPF\x01\x00"}
    )
    assert found.state == READ


@pytest.mark.parametrize(
    "files",
    [
        None,
        {"Policy": None},
        {r"a\EXE\Exe.AppLocker": b"APPF\x01"},
        {r"a\EXE\Policy": collection().encode(), r"b\EXE\Exe.AppLocker": b"APPF\x01"},
        {r"a\EXE\Policy": collection().encode(), r"a\DLL\Policy": None},
        {r"a\EXE\Policy": b""},
        {r"a\EXE\Policy": b"\x00" * 100},
        {r"a\EXE\Policy": b"\xff\xfe\x00"},
        {r"a\EXE\Policy": b"not xml"},
        {r"a\EXE\Policy": b'<AppLockerPolicy Version="1"/>'},
        {r"a\EXE\Policy": collection("Kernel").encode()},
        {r"a\EXE\Policy": collection().encode(), r"a\EXE\Other": collection().encode()},
        {r"a\EXE\Policy": b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + collection().encode()},
        {r"a\EXE\Policy": ('<!DOCTYPE x [<!ENTITY a "a">]>' + collection()).encode("utf-16")},
        {rf"a\{number}\EXE\Policy": collection().encode() for number in range(MAX_FILES + 1)},
    ],
)
def test_what_cannot_be_read_whole_is_there_and_unreadable(files: dict[str, bytes | None] | None) -> None:
    found = read_device_policy(files)
    assert (found.state, found.sets) == (UNREADABLE, ())


def test_no_files_are_no_policy() -> None:
    assert read_device_policy({}).state == NONE


def test_a_mode_that_nobody_knows_is_enforced() -> None:
    found = read_device_policy({r"a\EXE\Policy": collection("Exe", "Audit", RULE).encode()})
    assert found.sets[0]["Exe"].mode not in (0, 1, None)
