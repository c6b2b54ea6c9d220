"""What the shim obeys and the registry holds, read from AppLocker XML: needs no Windows bench."""

from __future__ import annotations

import pytest

from tests.windows.bench.debian import BenchError, debian_mirror
from tests.windows.bench.policy import paths_in, registry_file, translate
from tests.windows.conftest import POLICIES

DEFAULT_RULES = (POLICIES / "default-rules.xml").read_text(encoding="utf-8")
ALL_KINDS = """
<AppLockerPolicy Version="1">
  <RuleCollection Type="Exe" EnforcementMode="NotConfigured">
    <FilePathRule Id="0000000A-0000-4000-8000-000000000001" Name="n" Description="" UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePathCondition Path="%OSDRIVE%\\Apps\\*"/></Conditions>
      <Exceptions>
        <FilePathCondition Path="%OSDRIVE%\\Apps\\Old\\*"/>
        <FileHashCondition><FileHash Type="SHA256" Data="0xabcd" SourceFileName="a.exe" SourceFileLength="1"/></FileHashCondition>
      </Exceptions>
    </FilePathRule>
    <FileHashRule Id="0000000a-0000-4000-8000-000000000002" Name="n" Description="" UserOrGroupSid="S-1-1-0" Action="Deny">
      <Conditions><FileHashCondition>
        <FileHash Type="SHA256" Data="0x01" SourceFileName="a.exe" SourceFileLength="1"/>
        <FileHash Type="SHA256" Data="0x02" SourceFileName="b.exe" SourceFileLength="1"/>
      </FileHashCondition></Conditions>
    </FileHashRule>
    <FilePublisherRule Id="0000000a-0000-4000-8000-000000000003" Name="n" Description="" UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePublisherCondition PublisherName="O=X" ProductName="*" BinaryName="*">
        <BinaryVersionRange LowSection="*" HighSection="*"/></FilePublisherCondition></Conditions>
    </FilePublisherRule>
  </RuleCollection>
  <RuleCollection Type="Dll" EnforcementMode="AuditOnly">
    <FilePathRule Id="0000000a-0000-4000-8000-000000000004" Name="n" Description="" UserOrGroupSid="S-1-5-21-1-2-3-1104" Action="Allow">
      <Conditions><FilePathCondition Path="*"/></Conditions>
    </FilePathRule>
  </RuleCollection>
</AppLockerPolicy>
"""  # noqa: E501 - XML as a policy has it, on one line


def test_default_rules_become_two_rules_for_an_ordinary_user() -> None:
    translation = translate(DEFAULT_RULES)
    assert translation.text.splitlines()[1:] == [
        "exe\tenforced",
        "exe\tallow\tpath\t%PROGRAMFILES%\\*",
        "exe\tallow\tpath\t%WINDIR%\\*",
    ]
    assert (translation.rules, translation.for_others, translation.unjudged) == (2, 1, 0)


def test_every_kind_of_condition_is_carried_over() -> None:
    translation = translate(ALL_KINDS)
    assert translation.text.splitlines()[1:] == [
        "exe\tenforced",
        "exe\tallow\tpath\t%OSDRIVE%\\Apps\\*",
        "exe\texcept\tpath\t%OSDRIVE%\\Apps\\Old\\*",
        "exe\texcept\tsha256\tABCD",
        "exe\tdeny\tsha256\t01",
        "exe\tdeny\tsha256\t02",
        "exe\tallow\tnever\tO=X",
        "dll\taudit",
    ]
    assert (translation.rules, translation.for_others, translation.unjudged) == (3, 1, 1)
    assert paths_in(ALL_KINDS) == ["%OSDRIVE%\\Apps\\*", "*"]


def test_a_rule_for_a_group_counts_for_its_members() -> None:
    assert "dll\tallow\tpath\t*" in translate(ALL_KINDS, frozenset({"S-1-5-21-1-2-3-1104"})).text


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<Other/>", "not an AppLocker policy"),
        (DEFAULT_RULES.replace("%WINDIR%\\*", "a&#9;b", 1), "can't hold"),
    ],
)
def test_what_it_cannot_read_it_refuses(xml: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        translate(xml)


def test_the_registry_file_holds_mode_and_rules_where_group_policy_puts_them() -> None:
    text = registry_file(ALL_KINDS)
    root = r"[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows\SrpV2"
    assert text.startswith("REGEDIT4\r\n\r\n[-HKEY_LOCAL_MACHINE")
    assert f"{root}\\Exe]\r\n\r\n" in text  # not configured: no value
    assert f'{root}\\Dll]\r\n"EnforcementMode"=dword:00000000\r\n' in text
    assert f'{root}\\Exe\\0000000a-0000-4000-8000-000000000001]\r\n"Value"="<FilePathRule Id=\\"0000000A' in text
    assert '<FilePathCondition Path=\\"%OSDRIVE%\\\\Apps\\\\*\\" />' in text


ONE_LINE = """
# deb https://packages.example/old/debian bookworm main
deb [arch=amd64] https://packages.example/debian bookworm main
"""
PARAGRAPHS = """
Types: deb
# a remark
URIs: https://packages.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: https://packages.example/debian/
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.mark.parametrize(("name", "text"), [("sources.list", ONE_LINE), ("sources.list.d/debian.sources", PARAGRAPHS)])
def test_the_mirror_is_the_one_that_apt_uses(name: str, text: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLEAVE_BENCH_MIRROR", raising=False)
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert debian_mirror(tmp_path) == "https://packages.example/debian"


def test_without_a_mirror_it_says_how_to_name_one(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLEAVE_BENCH_MIRROR", raising=False)
    with pytest.raises(BenchError, match="WAYLEAVE_BENCH_MIRROR"):
        debian_mirror(tmp_path)
