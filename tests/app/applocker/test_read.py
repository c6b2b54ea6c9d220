"""Reading: every form a policy comes in, every mistake named with its line, and no attack that costs anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.applocker.model import AppLockerError, Element, HashCondition, Mode, PathRule, PublisherRule
from app.applocker.read import parse_policy
from app.applocker.write import render_policy
from tests.app.applocker.fuzz import GOOD

RULE = (
    '<FilePathRule Id="00000001-0000-4000-8000-000000000001" Name="n" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FilePathCondition Path="*"/></Conditions></FilePathRule>'
)


def whole(inner: str = RULE, attributes: str = 'Type="Exe"') -> str:
    return (
        f'<AppLockerPolicy Version="1">\n<RuleCollection {attributes}>\n{inner}\n</RuleCollection>\n</AppLockerPolicy>'
    )


def problems(text: str | bytes) -> list[tuple[int | None, str | None, str]]:
    with pytest.raises(AppLockerError) as caught:
        parse_policy(text)
    return [(problem.line, problem.rule, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(encoding: str) -> None:
    policy = parse_policy(GOOD.encode(encoding))
    assert policy == parse_policy(GOOD)
    assert next(rule for _, rule in policy.rules() if isinstance(rule, PathRule)).name == "é ® n"


def test_the_declared_encoding_is_not_believed() -> None:
    assert parse_policy(GOOD.replace('"utf-8"', '"utf-16"').encode()) == parse_policy(GOOD)


def test_content() -> None:
    policy = parse_policy(GOOD)
    exe, appx = policy.collection("Exe"), policy.collection("Appx")
    assert exe is not None
    assert appx is not None
    assert (exe.mode, appx.mode, exe.services) == (Mode.ENABLED, Mode.NOT_CONFIGURED, "Enabled")
    publisher = next(rule for rule in exe.rules if isinstance(rule, PublisherRule))
    assert publisher.condition.low == (1, 2, 3, 4)
    assert publisher.condition.high is None
    assert publisher.line == 8
    hashes = next(rule.condition for rule in exe.rules if isinstance(rule.condition, HashCondition))
    assert (hashes.hashes[0].data, hashes.hashes[0].source_length) == ("AB" * 32, 1)
    assert policy.comments == ("a policy",)


def test_a_bare_collection_is_a_policy() -> None:
    bare = f'<RuleCollection Type="Exe" EnforcementMode="AuditOnly">{RULE}</RuleCollection>'
    assert parse_policy(bare) == parse_policy(whole(attributes='Type="Exe" EnforcementMode="AuditOnly"'))


def test_an_absent_mode_stays_absent() -> None:
    policy = parse_policy(whole())
    assert policy.collections[0].mode is None
    assert "EnforcementMode" not in render_policy(policy)


def test_schema_attributes_are_no_mistake() -> None:
    text = whole().replace(
        "<AppLockerPolicy ",
        '<AppLockerPolicy xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a" ',
    )
    assert parse_policy(text) == parse_policy(whole())


def test_unknown_extensions_are_kept_with_their_namespace() -> None:
    extensions = (
        "<RuleCollectionExtensions>\n  <ThresholdExtensions/><RedstoneExtensions/>\n"
        '  <n:New a="1">text <n:b/> more</n:New><Plain> </Plain>\n</RuleCollectionExtensions>'
    )
    text = whole(RULE + extensions).replace("<AppLockerPolicy ", '<AppLockerPolicy xmlns:n="urn:n" ')
    policy = parse_policy(text)
    kept = policy.collections[0].extensions
    assert kept is not None
    new = kept.find("n:New")
    assert new is not None
    assert new.children == ("text ", Element(name="n:b"), " more")
    assert kept.get("xmlns:n") == "urn:n"
    assert parse_policy(render_policy(policy)) == policy


def test_all_problems_at_once() -> None:
    text = """<AppLockerPolicy Version="x">
<RuleCollection Type="Exe" EnforcementMode="Audit">
<FilePathRule Id="{1}" Name="" UserOrGroupSid="Users" Action="cAllow"><Conditions/><Exceptions><Foo/></Exceptions>
</FilePathRule>10
</RuleCollection>
<RuleCollection Type="STOREAPPS" Color="red"/>
</AppLockerPolicy>"""
    found = problems(text)
    assert [(line, rule) for line, rule, _ in found] == [
        (1, None), (2, None), (2, None), *[(3, "{1}")] * 7, (6, None), (6, None)
    ]  # fmt: skip
    messages = "\n".join(message for *_, message in found)
    for part in ('Version must be a number', 'written "AuditOnly"', 'holds text ("10")', "no attribute Description",
                 "GUID without braces", "1 to 1024", "must be a SID", "Allow or Deny", "exactly one condition, not 0",
                 "<Foo> can't stand here", 'must be written "Appx"', '"Color", which doesn\'t belong'):  # fmt: skip
        assert part in messages


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("S-1-1-0", "S-1-1"), 3, "must be a SID such as"),
        (("S-1-1-0", "BA"), 3, "account names"),
        (('Path="*"', 'Path=""'), 3, "1 to 32767"),
        (('Path="*"', 'Path="*" Other="1"'), 3, "Other"),
        (("<Conditions>", "<Conditions>x"), 3, "holds text"),
        (("Version=", "Wersion="), 1, "no attribute Version"),
        (('Type="Exe"', 'Type="Exes"'), 2, "there are Appx, Dll, Exe"),
        (('Type="Exe"', 'Typ="Exe"'), 2, "no attribute Type"),
        (("</RuleCollection>", "</RuleCollection><RuleCollection Type='Exe'/>"), 4, "two collections"),
        (("</RuleCollection>", "<Foo/></RuleCollection>"), 4, "doesn't belong in a RuleCollection"),
        (("</AppLockerPolicy>", "<PolicyExtensions/></AppLockerPolicy>"), 5, "must begin with <ThresholdExtensions>"),
        (("<FilePathRule", "<FileFooRule/><FilePathRule"), 3, "doesn't belong in a RuleCollection"),
    ],
)  # fmt: skip
def test_problems_name_their_line(change: tuple[str, str], line: int, message: str) -> None:
    found = problems(whole().replace(*change, 1))
    assert any(where == line and message in text for where, _, text in found), found


HASH_RULE = (
    '<FileHashRule Id="00000002-0000-4000-8000-000000000001" Name="n" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FileHashCondition>{}</FileHashCondition></Conditions>{}</FileHashRule>'
)
PUBLISHER_RULE = (
    '<FilePublisherRule Id="00000003-0000-4000-8000-000000000001" Name="n" Description="" UserOrGroupSid="S-1-1-0" '
    'Action="Allow"><Conditions><FilePublisherCondition PublisherName="{}" ProductName="" BinaryName="">{}'
    "</FilePublisherCondition></Conditions></FilePublisherRule>"
)
RANGE = '<BinaryVersionRange LowSection="{}" HighSection="{}"/>'


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (HASH_RULE.format("", ""), "at least one FileHash"),
        (HASH_RULE.format(f'<FileHash Type="MD5" Data="0x{"A" * 32}"/>', ""), "Type must be SHA256"),
        (HASH_RULE.format(f'<FileHash Type="SHA1" Data="0x{"A" * 64}"/>', ""), "SHA1 hash has 40"),
        (HASH_RULE.format(f'<FileHash Type="SHA256" Data="0x{"A" * 40}"/>', ""), "SHA256 hash has 64"),
        (HASH_RULE.format(f'<FileHash Type="SHA256" Data="{"A" * 64}"/>', ""), "must be 0x"),
        (
            HASH_RULE.format(f'<FileHash Type="SHA256" Data="0x{"A" * 64}" SourceFileLength="-1"/>', ""),
            "number of bytes",
        ),
        (HASH_RULE.format(f'<FileHash Type="SHA256" Data="0x{"A" * 64}"/>', "<Exceptions/>"), "can't have exceptions"),
        (PUBLISHER_RULE.format("", RANGE.format("*", "*")), "any signer is *"),
        (PUBLISHER_RULE.format("A", ""), "exactly one BinaryVersionRange, not 0"),
        (PUBLISHER_RULE.format("A", RANGE.format("1.2.3", "*")), "four numbers"),
        (PUBLISHER_RULE.format("A", RANGE.format("1a2b3c4", "*")), "four numbers"),
        (PUBLISHER_RULE.format("A", RANGE.format("65536.0.0.0", "*")), "above 65535"),
        (PUBLISHER_RULE.format("A", RANGE.format("2.0.0.0", "1.0.0.0")), "nothing can match"),
    ],
)
def test_problems_of_hashes_and_publishers(rule: str, message: str) -> None:
    ((line, rule_id, text),) = problems(whole(rule))
    assert line == 3
    assert rule_id is not None
    assert message in text


def test_ids_are_unique_over_the_whole_policy() -> None:
    text = whole().replace(
        "</AppLockerPolicy>", f'<RuleCollection Type="Dll">{RULE}</RuleCollection></AppLockerPolicy>'
    )
    ((line, _, message),) = problems(text)
    assert (line, message) == (5, "the Id is used twice in this policy, first in line 3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<SiPolicy xmlns='urn:schemas-microsoft-com:sipolicy'/>", "App Control"),
        ("<GPO xmlns='http://www.microsoft.com/GroupPolicy/Settings'/>", "report of the Group Policy console"),
        ("<html/>", "begins with <AppLockerPolicy>"),
        ("", "no element found"),
        ("<AppLockerPolicy", "unclosed token"),
        ("<a></b>", "mismatched tag"),
        (b"\xff\xfe\x00\x00<\0\0\0", "UTF-32"),
        (b"\xff\xfea", "not valid UTF-16"),
        (b"<a b='\xe9'/>", "neither UTF-8 nor UTF-16"),
    ],
)
def test_what_is_no_policy(text: str | bytes, message: str) -> None:
    assert any(message in found for *_, found in problems(text))


def test_reading_stops_after_many_problems() -> None:
    found = problems(whole("<FilePathRule/>" * 1000))
    assert len(found) == 201
    assert "reading stopped here" in found[-1][2]


BOMB = "".join(f'<!ENTITY a{level} "&a{level - 1};&a{level - 1};">' for level in range(1, 99))
FILE_ENTITY = (
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><AppLockerPolicy Version="1">&x;</AppLockerPolicy>'
)
ATTACKS = {
    "entity bomb": (lambda: f'<!DOCTYPE a [<!ENTITY a0 "aa">{BOMB}]><a>&a98;</a>'.encode(), "document type"),
    "external entity": (lambda: FILE_ENTITY, "document type"),
    "document type alone": (
        lambda: b'<!DOCTYPE AppLockerPolicy SYSTEM "x.dtd"><AppLockerPolicy Version="1"/>',
        "document type",
    ),
    "undeclared entity": (lambda: b'<AppLockerPolicy Version="&x;"/>', "undefined entity"),
    "a hundred megabytes": (lambda: b"<a>" + b"x" * 100_000_000, "larger than 16 MB"),
    "a million levels": (lambda: b"<a>" * 1_000_000, "nested more than 32 deep"),
    "a NUL character": (lambda: b"<a>\n\0</a>", "NUL character"),
    "a lone surrogate in UTF-8": (lambda: b'<a b="\xed\xa0\x80"/>', "neither UTF-8"),
    "a lone surrogate in UTF-16": (lambda: b"\xff\xfe<\0a\0\0\xd8>\0", "not valid UTF-16"),
    "a million attributes": (
        lambda: b"<AppLockerPolicy " + b" ".join(b'a%d=""' % number for number in range(1_000_000)) + b"/>",
        "longer than 512 KB",
    ),
    "many elements": (lambda: b'<AppLockerPolicy Version="1">' + b"<a/>" * 3_000_000, "more than 120000 elements"),
    "many comments": (lambda: b"<a>" + b"<!---->" * 2_000_000, "more than 2000 comments"),
    "an endless comment": (lambda: b"<a><!--" + b"x" * 15_000_000, "longer than 512 KB"),
    "much text": (lambda: b"<a>" + b"x\n" * 7_000_000, "KB of text"),
    "many line breaks": (lambda: b"<a>" + b"\n" * 15_000_000, "no element found"),
    "UTF-16 line breaks": (lambda: ("<a>" + "\n" * 7_000_000).encode("utf-16"), "no element found"),
    "an endless tag name": (lambda: b"<" + b"x" * 15_000_000, "longer than 512 KB"),
    "exceptions without end": (
        lambda: whole(
            RULE.replace("</Conditions>", "</Conditions><Exceptions>" + '<FilePathCondition Path="a"/>' * 130_000)
        ).encode(),
        "more than 120000 elements",
    ),
}

RUN = """
import json, sys, time
from pathlib import Path
from app.applocker.model import AppLockerError
from app.applocker.read import parse_policy
from app.applocker.xmltree import MAX_BYTES
with open(sys.argv[1], "rb") as file:
    data = file.read(MAX_BYTES + 1)
started = time.process_time()
try:
    parse_policy(data)
    message = "accepted"
except AppLockerError as error:
    message = error.problems[-1].message
seconds = time.process_time() - started
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([message, seconds, int(peak.split()[1]) // 1024]))
"""
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attacks_are_refused_within_a_second_and_100_mb(name: str, tmp_path: Path) -> None:
    make, expected = ATTACKS[name]
    file = tmp_path / "attack.xml"
    file.write_bytes(make())
    command = [sys.executable, "-c", RUN, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    message, seconds, peak_mib = json.loads(done.stdout)
    assert expected in message
    assert seconds < 1
    assert peak_mib < 100


def test_surrogates_and_nul_in_text() -> None:
    assert "half of a surrogate pair" in problems("<a>\n<b c='\ud800'/></a>")[0][2]
    assert problems("<a>\n\0</a>")[0][::2] == (2, "the file holds a NUL character")


def test_a_huge_file_is_refused_by_the_command_line_within_100_mb(tmp_path: Path) -> None:
    huge = tmp_path / "huge.xml"
    with huge.open("wb") as file:
        file.write(b"<AppLockerPolicy>")
        file.truncate(2_000_000_000)  # a sparse file
    code = (
        "import sys; from click.testing import CliRunner; from app.cli.policy import command; "
        "print(CliRunner().invoke(command, ['show', sys.argv[1]]).exit_code); print(open('/proc/self/status').read())"
    )
    command = [sys.executable, "-c", code, str(huge)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    exit_code, *status = done.stdout.splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert exit_code == "2"
    assert peak_kib < 100_000
