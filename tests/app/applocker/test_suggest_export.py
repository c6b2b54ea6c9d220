"""Rules made from known values, and what becomes of them in a policy."""

from __future__ import annotations

import pytest

from app.applocker.compare import compare
from app.applocker.export import add, added_rules, added_to
from app.applocker.identify import rule_id
from app.applocker.lint import lint
from app.applocker.model import (
    AppLockerError,
    Collection,
    FileHash,
    HashCondition,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    PublisherCondition,
)
from app.applocker.read import parse_policy
from app.applocker.suggest import Suggestion, hash_rule, literal_path, path_rule, publisher_rule
from app.applocker.write import render_policy

HASH = "AB" * 32


def uv(collection: str = "Exe", **fields: str) -> Suggestion:
    return path_rule(collection, "%OSDRIVE%\\uv\\*", **{"name": "uv", "risk": "wide", **fields})


def base(mode: Mode = Mode.ENABLED) -> Policy:
    rule = PathRule(
        id="0" * 8 + "-0000-4000-8000-" + "0" * 12, name="base", condition=PathCondition(path="%WINDIR%\\*")
    )
    return Policy(
        collections=(Collection(type="Exe", mode=mode, rules=(rule,)), Collection(type="Dll", mode=Mode.ENABLED))
    )


def test_ids_come_from_content_alone() -> None:
    first = uv().rule.id
    assert uv(name="other", description="of today").rule.id == first
    assert uv(collection="Dll").rule.id != first
    assert uv(sid="S-1-5-21-1-2-3-4").rule.id != first
    path, temp = PathCondition(path="C:\\A\\*"), PathCondition(path="C:\\A\\Temp\\*")
    plain = rule_id("Exe", "Allow", "S-1-1-0", [path])
    assert rule_id("Exe", "Deny", "S-1-1-0", [path]) != plain
    assert rule_id("Exe", "Allow", "S-1-1-0", [path], [temp]) != plain
    assert rule_id("Exe", "Allow", "S-1-1-0", [path], [temp, path]) == rule_id(
        "Exe", "Allow", "S-1-1-0", [path], [path, temp]
    )
    hashes = [FileHash(data=HASH, source_name=name) for name in ("a", "b")]
    ids = {rule_id("Exe", "Allow", "S-1-1-0", [HashCondition(hashes=(each,))]) for each in hashes}
    assert len(ids) == 1
    assert plain[14] == "5"


def test_ids_never_change() -> None:
    """Exported rules are found again by their ids: this value must stay for ever."""
    assert rule_id("Exe", "Allow", "S-1-1-0", [PathCondition(path="*")]) == "0ffe10ae-b51f-566f-9211-eacce74c7fa9"
    publisher = PublisherCondition(publisher="O=A", low=(1, 0, 0, 0))
    assert rule_id("Exe", "Allow", "S-1-1-0", [publisher]) == "4785497e-ff5f-5680-aafc-94f5f471bbdd"


DOUBTFUL = (
    "",
    "*",
    "x.exe",
    "%TEMP%\\*",
    "%USERPROFILE%\\*",
    "C:\\a\\%WINDIR%\\*",
    "C:/a/*",
    "C:\\a\\..\\b",
    "C:\\a\\",
)
DOUBTFUL += (
    "C:\\a?.exe",
    'C:\\a"\\*',
    "C:\\<a>\\*",
    "C:\\a|b",
    "C:\\PROGRA~1\\*",
    "C:\\a\x00",
    "C:\\a\n",
    "\\\\?\\C:\\a",
)
DOUBTFUL += ("C:\\a\u202eexe", "C:\\a\ufffd", "C:\\a\\\\b", "\\\\*\\a\\b", "C:\\" + "a" * 40_000)


@pytest.mark.parametrize("path", DOUBTFUL)
def test_doubtful_paths_are_refused(path: str) -> None:
    with pytest.raises(AppLockerError):
        path_rule("Exe", path, name="n", risk="r")


@pytest.mark.parametrize(
    "path",
    [
        "%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache\\builds-v0\\.tmp*\\Scripts\\python*.exe",
        "D:\\uv\\*",
        "\\\\srv\\share\\uv\\*",
    ],
)
def test_paths_of_the_catalogue_are_taken(path: str) -> None:
    suggestion = path_rule("Exe", path, name="n", risk="r")
    assert suggestion.rule.condition == PathCondition(path=path)
    assert suggestion.risk == "r"


@pytest.mark.parametrize("text", ["a*b", "a?b", "a%b", 'a"b', "a\tb", "a<b", "a|b", "a/b"])
def test_reported_text_never_brings_wildcards(text: str) -> None:
    with pytest.raises(AppLockerError, match="reported path"):
        literal_path(text)
    assert literal_path("C:\\Users\\a b\\ü.exe") == "C:\\Users\\a b\\ü.exe"


@pytest.mark.parametrize(
    "fields",
    [
        {"publisher": "*"}, {"publisher": ""}, {"publisher": "VENDOR"}, {"publisher": "O=V*"}, {"publisher": 'O="V'},
        {"publisher": "O=V\ufffd"}, {"product": "A*"}, {"product": ""}, {"binary": 'a"b'}, {"binary": "a\x00"},
        {"low": (2, 0, 0, 0), "high": (1, 0, 0, 0)}, {"sid": "Everyone"}, {"sid": "S-1"}, {"name": " "},
    ],
)  # fmt: skip
def test_doubtful_publishers_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(AppLockerError):
        publisher_rule("Exe", **{"publisher": "O=V, C=US", "name": "n", "risk": "r", **fields})


def test_publishers_are_written_as_windows_does() -> None:
    rule = publisher_rule("Exe", 'O="Openai Opco, LLC", C=us', product="uv", name="n", risk="r").rule
    assert rule.condition == PublisherCondition(publisher='O="OPENAI OPCO, LLC", C=US', product="UV")


@pytest.mark.parametrize(
    "file", [("a\\b.exe", 1, HASH), ("a*", 1, HASH), ("", 1, HASH), ("a", 0, HASH), ("a", 1, "AB"), ("a", 1, "X" * 64)]
)
def test_doubtful_hashes_are_refused(file: tuple[str, int, str]) -> None:
    with pytest.raises(AppLockerError):
        hash_rule("Exe", [file], name="n", risk="r")


def test_hash_rules() -> None:
    rule = hash_rule(
        "Exe", [("b.exe", 2, "0x" + "cd" * 32), ("a.exe", 1, HASH), ("c.exe", 1, HASH)], name="n", risk="r"
    ).rule
    assert isinstance(rule.condition, HashCondition)
    assert [file.source_name for file in rule.condition.hashes] == ["a.exe", "b.exe"]
    with pytest.raises(AppLockerError, match="at least one file"):
        hash_rule("Exe", [], name="n", risk="r")
    with pytest.raises(AppLockerError, match="publisher rules only"):
        hash_rule("Appx", [("a", 1, HASH)], name="n", risk="r")


def test_added_rules_say_what_they_do_alone() -> None:
    policy = added_rules([uv(), uv(), uv(collection="Dll")], comments=["made today"])
    assert [(each.type, each.mode, len(each.rules)) for each in policy.collections] == [
        ("Dll", Mode.NOT_CONFIGURED, 1),
        ("Exe", Mode.NOT_CONFIGURED, 1),
    ]
    text = render_policy(policy)
    assert "made today" in text
    assert "default deny" in text
    assert "NotConfigured does not mean off" in text
    assert "block every packaged app" in text
    assert parse_policy(text) == policy


def test_rules_added_to_a_base() -> None:
    for mode in Mode:
        addition = add(base(mode), [uv(), uv(), uv(collection="Dll"), uv(collection="Script")])
        assert [each.mode for each in addition.policy.collections] == [Mode.ENABLED, mode]
        assert [each.rule.id for each in addition.added] == [uv().rule.id]
        assert [why for _, why in addition.skipped] == [
            "the policy has this rule already",
            "the policy has no Dll rules, so all of them run; a first rule would deny the rest",
            "the policy has no Script rules, so all of them run; a first rule would deny the rest",
        ]
        assert [change.kind.value for change in compare(base(mode), addition.policy)] == ["rule-added"]
    whole = added_to(base(), [uv()])
    assert added_to(whole, [uv()]) == whole


def test_no_suggestion_has_errors_of_its_own() -> None:
    found = lint(added_to(base(), [uv(), hash_rule("Exe", [("a.exe", 1, HASH)], name="h", risk="r")]))
    assert not [each for each in found if each.severity == "error" and each.rule]
