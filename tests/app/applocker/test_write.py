"""Writing: the same bytes for the same policy, valid by Microsoft's schema, and nothing lost on the way."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from lxml import etree

from app.applocker.model import (
    Action,
    AppLockerError,
    Collection,
    Mode,
    PathCondition,
    PathRule,
    Policy,
)
from app.applocker.read import parse_policy
from app.applocker.registry import left_out, parse_registry_pol, render_registry_pol
from app.applocker.wdac import Certificate, render_supplemental
from app.applocker.write import clipped, render_collection, render_policy
from tests.app.applocker.fuzz import GOOD
from tests.app.applocker.strategies import policies

GOLDEN = Path(__file__).with_name("golden")
XSD = Path(__file__).resolve().parents[4] / "shared" / "reference" / "applocker-policy.xsd"
SETTINGS = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
BASE_ID = "{a244370e-44c9-4c06-b551-f6016e563076}"


def rule(**fields: object) -> PathRule:
    values: dict[str, object] = {
        "id": "0" * 8 + "-0000-4000-8000-" + "0" * 12,
        "name": "n",
        "condition": PathCondition(path="*"),
    }
    return PathRule(**{**values, **fields})


@SETTINGS
@given(policy=policies())
def test_reading_what_was_written_gives_the_same(policy: Policy) -> None:
    text = render_policy(policy)
    assert parse_policy(text) == policy
    assert parse_policy(text.encode("utf-16")) == policy
    assert render_policy(parse_policy(text)) == text


@SETTINGS
@given(policy=policies(with_extensions=False))
def test_the_registry_form_loses_only_what_it_says(policy: Policy) -> None:
    read = parse_registry_pol(render_registry_pol(policy))
    again = render_registry_pol(read)
    assert again == render_registry_pol(policy)
    if not left_out(policy):
        expected = tuple(replace(each, mode=each.mode or Mode.NOT_CONFIGURED) for each in policy.collections)
        assert read.collections == expected


@SETTINGS
@given(policy=policies())
def test_what_is_written_is_valid_by_the_schema(policy: Policy) -> None:
    if not XSD.exists():
        pytest.skip("shared: needs Microsoft's policy schema")
    schema = etree.XMLSchema(etree.parse(XSD))
    schema.assertValid(etree.fromstring(render_policy(policy).encode()))
    bare = "".join(render_collection(collection) for collection in policy.collections)
    schema.assertValid(etree.fromstring(f'<AppLockerPolicy Version="1">{bare}</AppLockerPolicy>'))


def test_golden_files() -> None:
    policy = parse_policy(GOOD)
    certificate = Certificate(publisher="O=A, C=US", issuer="Example CA", issuer_tbs="AB" * 32, leaf="A")
    exe = policy.collection("Exe")
    assert exe is not None
    supplemental = render_supplemental(
        replace(
            policy,
            collections=(
                replace(exe, rules=tuple(replace(each, sid="S-1-1-0", action=Action.ALLOW) for each in exe.rules)),
            ),
        ),
        base_policy_id=BASE_ID,
        name="Golden",
        certificates=[certificate],
    )
    written = {
        "policy.xml": render_policy(policy).encode(),
        "collection.xml": render_collection(exe).encode(),
        "supplemental.xml": supplemental.xml.encode(),
        "registry.pol": render_registry_pol(policy),
    }
    for name, content in written.items():
        assert content == (GOLDEN / name).read_bytes(), name


def test_order_of_rules_and_exceptions_changes_nothing() -> None:
    policy = parse_policy((GOLDEN / "policy.xml").read_bytes())
    shuffled = list(policy.collections)
    random.Random(1).shuffle(shuffled)
    reversed_rules = tuple(replace(each, rules=tuple(reversed(each.rules))) for each in shuffled)
    assert render_policy(replace(policy, collections=reversed_rules)) == render_policy(policy)


def test_forms() -> None:
    policy = Policy(collections=(Collection(type="Exe", mode=Mode.ENABLED, rules=(rule(),)),))
    assert render_policy(policy).startswith('<?xml version="1.0" encoding="utf-8"?>\n<AppLockerPolicy Version="1">')
    assert render_collection(policy.collections[0]).startswith('<RuleCollection Type="Exe" EnforcementMode="Enabled">')
    assert 'Description=""' in render_policy(policy)
    assert "\r" not in render_policy(policy)


def test_names_are_clipped_and_escaped() -> None:
    hostile = rule(name='<a&"b">\x00\n\x9f' + "x" * 2000, description="é" * 2000)
    policy = Policy(collections=(Collection(type="Exe", rules=(hostile,)),))
    (read,) = parse_policy(render_policy(policy)).collections[0].rules
    assert read.name == '<a&"b">   ' + "x" * 1014
    assert read.description == "é" * 1024
    assert clipped("a\ud800b") == "a b"


@pytest.mark.parametrize("path", ["a\x00b", "a\x1bb", "a\ud800b", "a\ufffe"])
def test_a_path_that_xml_cant_hold_is_an_error(path: str) -> None:
    policy = Policy(collections=(Collection(type="Exe", rules=(rule(condition=PathCondition(path=path)),)),))
    with pytest.raises(AppLockerError, match="XML can't hold"):
        render_policy(policy)


def test_comments_are_kept_and_harmless() -> None:
    policy = Policy(comments=("one -- two --", "three-"))
    text = render_policy(policy)
    etree.fromstring(text.encode())
    again = parse_policy(text)
    assert again.comments == ("one - - two - -", "three-")
    assert render_policy(again) == text


# App Control


def test_supplemental_says_what_is_left_out() -> None:
    policy = parse_policy(GOOD)
    result = render_supplemental(policy, base_policy_id=BASE_ID, name="x")
    reasons = {rule.name: why for rule, why in result.left_out}
    assert reasons["é ® n"] == "App Control knows no exceptions: without them the rule would be wider"
    assert reasons["p"] == "a supplemental policy can only allow; Deny rules belong in the base policy"
    assert result.carried == 1
    tree = etree.fromstring(result.xml.encode())
    space = {"s": "urn:schemas-microsoft-com:sipolicy"}
    assert tree.xpath("//s:Allow/@Hash", namespaces=space) == ["AB" * 32]
    assert tree.xpath("//s:FileRuleRef/@RuleID", namespaces=space) == tree.xpath("//s:Allow/@ID", namespaces=space)
    assert tree.findtext("s:BasePolicyID", namespaces=space) == BASE_ID.upper()
    assert result.xml == render_supplemental(policy, base_policy_id=BASE_ID[1:-1], name="x").xml


@pytest.mark.parametrize(
    ("path", "carried", "note"),
    [
        ("%PROGRAMFILES%\\A\\*", ["%OSDRIVE%\\Program Files\\A\\*", "%OSDRIVE%\\Program Files (x86)\\A\\*"], None),
        ("%SYSTEM32%\\a.exe", ["%SYSTEM32%\\a.exe", "%WINDIR%\\SysWOW64\\a.exe"], None),
        ("D:\\uv\\*", ["D:\\uv\\*"], None),
        ("%OSDRIVE%\\Users\\*\\uv\\*", ["%OSDRIVE%\\Users\\*\\uv\\*"], "option 18"),
        ("%OSDRIVE%\\a\\*\\b.exe", ["%OSDRIVE%\\a\\*\\b.exe"], "only Windows 11"),
        ("%HOT%\\*", [], None),
    ],
)
def test_supplemental_paths(path: str, carried: list[str], note: str | None) -> None:
    policy = Policy(collections=(Collection(type="Exe", rules=(rule(condition=PathCondition(path=path)),)),))
    result = render_supplemental(policy, base_policy_id=BASE_ID, name="x")
    assert [each.get("FilePath") for each in etree.fromstring(result.xml.encode()).iter("{*}Allow")] == carried
    assert bool(result.left_out) is (not carried)
    assert (note is None) or any(note in each for each in result.notes)


def test_supplemental_needs_a_base() -> None:
    with pytest.raises(AppLockerError, match="must be a GUID"):
        render_supplemental(Policy(), base_policy_id="x", name="x")


# registry.pol


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"PReg", b"PRex"), "signature"),
        ((b"[\0S\0", b"{\0S\0"), r"expected '\['"),
        (("FilePathRule".encode("utf-16-le"), "FileFootRule".encode("utf-16-le")), "not well-formed"),
        (("Action".encode("utf-16-le"), "Aktion".encode("utf-16-le")), "no attribute Action"),
        (("921cc481-".encode("utf-16-le"), "921cc482-".encode("utf-16-le")), "not its key's name"),
        (("SrpV2\\Exe".encode("utf-16-le"), "SrpV2\\Foo".encode("utf-16-le")), "no rule collection 'Foo'"),
    ],
)
def test_damaged_registry_files(change: tuple[bytes, bytes], message: str) -> None:
    data = (GOLDEN / "registry.pol").read_bytes()
    before, after = change
    place = data.rfind(before) if b"9\x002\x001" in before or b"A\x00c" in before else data.find(before)
    with pytest.raises(AppLockerError, match=message):
        parse_registry_pol(data[:place] + after + data[place + len(before) :])


def test_other_values_of_a_registry_file_are_ignored() -> None:
    data = (GOLDEN / "registry.pol").read_bytes()
    foreign = "[Software\\Other\0;Name\0;".encode("utf-16-le") + b"\4\0\0\0;\0\4\0\0\0;\0\1\0\0\0]\0"
    assert parse_registry_pol(data + foreign) == parse_registry_pol(data)
    exe = parse_registry_pol(data).collection("Exe")
    assert exe is not None
    assert (exe.mode, exe.services, len(exe.rules)) == (Mode.ENABLED, "Enabled", 3)
    assert "extensions of the collection Exe: f:New" in left_out(parse_policy(GOOD))
