"""Lint: each mistake and each hole has its finding, and a sound policy has none."""

from __future__ import annotations

import pytest

from app.applocker.compile import CompiledRule
from app.applocker.defaults import WRITABLE, default_collection
from app.applocker.facts import facts_of
from app.applocker.findings import Finding, Severity
from app.applocker.lint import lint
from app.applocker.model import (
    ADMINISTRATORS,
    EVERYONE,
    Action,
    Collection,
    Element,
    File,
    FileHash,
    HashCondition,
    HashRule,
    Machine,
    Mode,
    PathCondition,
    PathRule,
    Policy,
    PublisherCondition,
    PublisherRule,
    Rule,
)

VENDOR = "O=VENDOR INC., L=OSLO, C=NO"


def path(text: str, id: str = "a", **fields: object) -> PathRule:
    return PathRule(id=id, name=id, condition=PathCondition(path=text), **fields)


def signer(publisher: str = VENDOR, id: str = "p", **fields: object) -> PublisherRule:
    return PublisherRule(id=id, name=id, condition=PublisherCondition(publisher=publisher, **fields))


def hashed(*files: FileHash) -> HashRule:
    return HashRule(id="h", name="h", condition=HashCondition(hashes=files))


def findings(*rules: Rule, type: str = "Exe", mode: Mode | None = Mode.ENABLED) -> dict[str, Finding]:
    """Findings about rules that stand beside sound default rules."""
    base = (*default_collection(type, Mode.ENABLED).rules,)
    policy = Policy(collections=(Collection(type=type, mode=mode, rules=(*base, *rules)),))
    own = {rule.id for rule in rules}
    return {each.code: each for each in lint(policy) if each.rule and each.rule.id in own}


@pytest.mark.parametrize(
    ("text", "code", "severity"),
    [
        ("%TEMP%\\*", "path-unknown-variable", "error"),
        ("%PROGRAMDATA%\\*", "path-unknown-variable", "error"),
        ("C:\\%WINDIR%\\*", "path-variable-inside", "error"),
        ("C:\\PROGRA~1\\*", "path-short-name", "error"),
        ("\\\\?\\C:\\x\\*", "path-long-prefix", "error"),
        ("Tools\\*", "path-relative", "error"),
        ("C:/Tools/*", "path-forward-slash", "error"),
        ("%WINDIR%\\..\\x\\*", "path-dot-dot", "error"),
        ('C:\\x"\\*', "path-dos-wildcard", "error"),
        ("C:\\Tools\\", "path-trailing-backslash", "error"),
        ("C:\\Tools", "path-folder-without-star", "warning"),
        ("%PROGRAMFILES%\\uv?.exe", "path-question-mark", "info"),
        ("%OSDRIVE%\\Users\\*\\uv\\*", "path-profile", "warning"),
        ("C:\\Users\\a\\*", "path-profile", "warning"),
        ("%OSDRIVE%\\ProgramData\\Vendor\\*", "path-program-data", "warning"),
        ("%OSDRIVE%\\Tools\\*", "path-drive-root", "warning"),
        ("D:\\Tools\\*", "path-other-drive", "info"),
        ("\\\\server\\share\\*", "path-share", "info"),
        ("%HOT%\\*", "path-removable", "warning"),
        ("*", "path-everything", "warning"),
        ("%OSDRIVE%\\*", "path-everything", "warning"),
        ("%WINDIR%\\*", "path-writable-windows", "warning"),
        ("%SYSTEM32%\\*", "path-writable-windows", "warning"),
        ("*\\chrome.exe", "path-any-folder", "warning"),
        ("%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\*", "path-star-crosses-folders", "warning"),
        ("%OSDRIVE%\\Tools*", "path-sibling-folders", "warning"),
    ],
)
def test_paths(text: str, code: str, severity: str) -> None:
    found = findings(path(text))
    assert code in found, sorted(found)
    assert found[code].severity == severity
    assert found[code].remedy.endswith(".")


@pytest.mark.parametrize("text", ["%PROGRAMFILES%\\Vendor\\*", "%WINDIR%\\explorer.exe", "C:\\Program Files\\A\\a.exe"])
def test_sound_paths(text: str) -> None:
    assert set(findings(path(text))) <= {"rule-shadowed"}


@pytest.mark.parametrize(
    "text",
    ["*", "*\\chrome.exe", "%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\*", "%OSDRIVE%\\Tools*", "%WINDIR%\\*", "D:\\*"],
)
def test_examples_are_really_admitted(text: str) -> None:
    rule = path(text)
    examples = [each.example for each in findings(rule).values() if each.example]
    compiled = CompiledRule(rule, Machine())
    assert examples
    assert all(compiled.match(facts_of(File(path=example), "Exe", Machine())) for example in examples)


def test_paths_of_administrators_and_denials_are_no_hole() -> None:
    assert "path-profile" not in findings(path("C:\\Users\\*", sid=ADMINISTRATORS))
    denied = findings(path("C:\\Users\\*", action=Action.DENY))
    assert "path-profile" not in denied
    assert denied["path-deny"].severity is Severity.INFO


def test_exceptions_close_the_holes_of_windows() -> None:
    closed = tuple(PathCondition(path=f"{folder}\\*") for folder in WRITABLE)
    assert "path-writable-windows" not in findings(path("%WINDIR%\\*", exceptions=closed))
    found = findings(path("%WINDIR%\\*", exceptions=closed[1:]))
    assert "%WINDIR%\\Tasks" in found["path-writable-windows"].message


def test_exceptions_that_except_nothing() -> None:
    outside = (PathCondition(path="%OSDRIVE%\\Tools\\*"), PathCondition(path="C:\\Windows\\Temp\\*"))
    messages = [
        each.message
        for code, each in findings(path("%WINDIR%\\*", exceptions=outside)).items()
        if code == "exception-outside"
    ]
    assert messages == ["The exception %OSDRIVE%\\Tools\\* lies outside of the rule's path, so it excepts nothing."]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (signer("O=MICROSOFT\ufffd, C=US"), "publisher-damaged"),
        (signer(product="WINDOWSÂ®"), "publisher-damaged"),
        (signer(product="WINDOWS (R)"), "publisher-sign-in-brackets"),
        (signer("O=VENDOR*"), "publisher-partial-wildcard"),
        (signer(binary="UV*.EXE"), "publisher-partial-wildcard"),
        (signer("VENDOR"), "publisher-no-subject"),
        (signer(product="?"), "publisher-question-mark"),
        (signer("*"), "publisher-any"),
        (signer("O=MICROSOFT CORPORATION, L=REDMOND, S=WASHINGTON, C=US"), "publisher-all-products"),
        (hashed(FileHash(data="AB" * 20, type="SHA1")), "hash-type"),
        (hashed(FileHash(data="AB" * 32, source_name="a.exe", source_length=0)), "hash-of-empty-file"),
        (hashed(FileHash(data="AB" * 32, source_name="a.ps1")), "hash-wrong-collection"),
        (path("%WINDIR%\\a.exe", sid="S-1-0-0"), "sid-nobody"),
        (path("%WINDIR%\\a.exe", sid="S-1-5-18"), "sid-out-of-scope"),
    ],
)
def test_publishers_hashes_and_sids(rule: Rule, code: str) -> None:
    assert code in findings(rule)


@pytest.mark.parametrize("publisher", ["O=SÃO PAULO LTDA, L=SÃO PAULO, C=BR", VENDOR, 'O="A, B", C=US'])
def test_sound_publishers(publisher: str) -> None:
    assert findings(signer(publisher, product="P")) == {}


def test_unused_sids_are_found_when_the_sids_are_known() -> None:
    policy = Policy(collections=(Collection(type="Exe", rules=(path("%WINDIR%\\*", sid="S-1-5-21-1-2-3-4"),)),))
    assert "sid-unused" not in {each.code for each in lint(policy)}
    assert "sid-unused" in {each.code for each in lint(policy, known_sids=frozenset({EVERYONE}))}


@pytest.mark.parametrize(
    ("rule", "other", "code"),
    [
        (path("C:\\Program Files\\A\\*"), path("c:\\PROGRAM FILES\\a\\*", id="b"), "rule-duplicate"),
        (path("%OSDRIVE%\\Windows\\System32\\a.exe"), None, "rule-shadowed"),
        (path("%SYSTEM32%\\*"), None, "rule-shadowed"),
        (signer(product="P"), signer(id="b"), "rule-shadowed"),
        (path("D:\\A\\b.exe"), path("D:\\A\\*", id="b", action=Action.DENY), "rule-denied"),
    ],
)
def test_rules_beside_each_other(rule: Rule, other: Rule | None, code: str) -> None:
    found = findings(*([rule, other] if other else [rule]))
    assert code in found


def test_rules_that_only_overlap_are_not_shadowed() -> None:
    assert "rule-shadowed" not in findings(path("D:\\A*\\*"), path("D:\\*B\\*", id="b"))
    assert "rule-shadowed" not in findings(
        path("D:\\A\\x.exe"), path("D:\\A\\*", id="b", exceptions=(PathCondition(path="D:\\A\\x*"),))
    )
    assert "rule-shadowed" not in findings(path("D:\\A\\x.exe"), path("D:\\A\\*", id="b", sid="S-1-5-21-1-2-3-4"))


def codes(*collections: Collection) -> set[str]:
    return {each.code for each in lint(Policy(collections=collections)) if each.rule is None}


def test_collections() -> None:
    sound = default_collection("Exe", Mode.ENABLED)
    appx = default_collection("Appx", Mode.ENABLED)
    assert codes(sound, appx) == set()
    assert codes(sound) == {"appx-rules-missing"}
    assert codes(default_collection("Exe", Mode.NOT_CONFIGURED), appx) == {"collection-not-configured"}
    assert codes(default_collection("Exe", Mode.AUDIT_ONLY)) == {"collection-audit-only"}
    assert codes(Collection(type="Exe", mode=Mode.ENABLED)) == {"collection-enabled-empty"}
    deny = Collection(type="Exe", mode=Mode.ENABLED, rules=(path("D:\\*", action=Action.DENY),))
    assert codes(deny, appx) == {"collection-deny-only"}
    uv_only = Collection(type="Exe", mode=Mode.ENABLED, rules=(path("D:\\uv\\uv.exe"),))
    assert codes(uv_only, appx) == {"default-rule-windows", "default-rule-program-files", "default-rule-administrators"}
    assert "collection-publisher-only" in codes(Collection(type="Appx", mode=Mode.ENABLED, rules=(path("*"),)))
    extended = Element(name="RuleCollectionExtensions")
    scripts = default_collection("Script", Mode.ENABLED)
    assert codes(Collection(type="Script", mode=Mode.ENABLED, rules=scripts.rules, extensions=extended)) == {
        "collection-extensions"
    }
    assert codes(default_collection("Msi", Mode.ENABLED), default_collection("Dll", Mode.ENABLED)) == set()
