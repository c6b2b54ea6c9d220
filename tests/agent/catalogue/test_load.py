"""The data: every entry is whole, agrees with itself, and reads as sentences for an administrator."""

from __future__ import annotations

import re

import pytest

from agent.catalogue import Pattern, load
from agent.catalogue.load import FILE, expand_braces, parse
from agent.catalogue.model import RULE_KINDS

CATALOGUE = load()
PATTERNS = CATALOGUE.patterns
COLLECTIONS = {"Exe", "Dll", "Script", "Msi"}
VERSION = re.compile(r"\d+\.\d+\.\d+")
EVIDENCE = {
    "parent_is_uv",
    "ancestor_is_uv",
    "pyvenv_cfg_uv",
    "uv_dist_info",
    "publisher_or_hash_ok",
    "uv_tool_receipt_lists_path",
    "known_pip_target",
}


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_there_are_78_patterns_in_order() -> None:
    assert len(PATTERNS) == 78
    assert [pattern.priority for pattern in PATTERNS] == list(range(1, 79))
    assert PATTERNS[0].id == "self-replace-selfdelete-exe"
    assert PATTERNS[-1].id == "external-helper-exe"


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)
def test_an_entry_is_whole(pattern: Pattern) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", pattern.id)
    assert 0 < len(pattern.title) <= 80
    assert pattern.title[0].isupper() or pattern.title.startswith(("uv", "`uv"))
    assert pattern.description.endswith((".", "...", ")"))
    assert pattern.sources or pattern.id == "venv-site-packages-script"
    assert pattern.confidence in ("high", "medium", "low")
    assert set(pattern.collections) <= COLLECTIONS
    assert set(pattern.needs_evidence) <= EVIDENCE
    assert bool(pattern.needs_evidence) <= bool(pattern.evidence)
    for version in (pattern.since, pattern.until):
        assert version is None or VERSION.fullmatch(version)
    if pattern.since and pattern.until:
        assert _version(pattern.since) <= _version(pattern.until) <= _version(CATALOGUE.newest_uv)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.id)
def test_an_entry_agrees_with_itself(pattern: Pattern) -> None:
    assert pattern.rule_kinds
    assert set(pattern.rule_kinds) <= set(RULE_KINDS)
    if pattern.executed.startswith("no") and pattern.probe.canary:
        assert "UV_LINK_MODE" in pattern.executed  # started where links are symbolic
    if "path" in pattern.rule_kinds:
        assert pattern.applocker_paths, "a path rule needs paths"
        assert pattern.risk
    if "covered-by" in pattern.rule_kinds:
        assert pattern.covered_by
        assert CATALOGUE.pattern(pattern.covered_by).rule_kinds != ("covered-by",)
    if pattern.signer:
        assert "publisher" in pattern.rule_kinds
        CATALOGUE.signer(pattern.signer)
    for rule in (*pattern.applocker_paths, *pattern.project_paths):
        assert re.match(r"%(?:OSDRIVE|PROGRAMFILES|WINDIR|SYSTEM32|REMOVABLE|HOT)%\\|<project>\\", rule), rule
        assert "?" not in rule, "AppLocker knows no other wildcard than *"
        assert "**" not in rule
        assert "/" not in rule
    for template in pattern.templates:
        assert re.match(r"<[^<>]+>\\|%[^%]+%\\", template), template
    for template in pattern.posix:
        assert re.match(r"<[^<>]+>/|%HOME%/", template), template


def test_no_path_rule_admits_a_whole_profile() -> None:
    for pattern in PATTERNS:
        for rule in pattern.applocker_paths:
            words = [segment for segment in rule.split("\\")[1:] if segment.strip("*.") and segment != "Users"]
            assert words, (pattern.id, rule)
            named = " ".join(words).lower()
            assert re.search(r"uv|\.venv|\.local|\.cargo|tmp|python|chocolatey|dist", named), (pattern.id, rule)


def test_workflows_name_patterns_that_are_executed() -> None:
    ids = [workflow.id for workflow in CATALOGUE.workflows]
    assert len(set(ids)) == len(ids)
    for workflow in CATALOGUE.workflows:
        assert workflow.command
        assert workflow.title
        assert not set(workflow.needs) & set(workflow.optional)
        assert workflow.since is None or VERSION.fullmatch(workflow.since)
        for pattern_id in workflow.needs:
            assert CATALOGUE.pattern(pattern_id).is_executed, (workflow.id, pattern_id)
        assert CATALOGUE.workflow(workflow.id) is workflow


def test_signers_are_written_as_applocker_writes_them() -> None:
    assert {signer.id for signer in CATALOGUE.signers} == {"openai", "psf"}
    for signer in CATALOGUE.signers:
        assert signer.publisher == signer.publisher.upper()
        assert re.match(r'O=("[^"]+"|[^",]+), L=[^,]+, S=[^,]+, C=[A-Z]{2}$', signer.publisher)
        assert signer.sources


def test_what_is_not_there_is_a_key_error() -> None:
    for ask in (CATALOGUE.pattern, CATALOGUE.workflow, CATALOGUE.signer):
        with pytest.raises(KeyError):
            ask("nobody")


def test_the_etag_follows_the_data() -> None:
    data = FILE.read_bytes()
    assert parse(data).etag == CATALOGUE.etag
    assert parse(data + b"\n# changed\n").etag != CATALOGUE.etag


def test_a_catalogue_that_contradicts_itself_is_refused() -> None:
    data = FILE.read_text("utf-8")
    twice = data.replace("id = 'self-replace-relocated-exe'", "id = 'self-replace-selfdelete-exe'")
    with pytest.raises(ValueError, match="same id"):
        parse(twice.encode())
    with pytest.raises(ValueError, match="unknown patterns: venv-pythons"):
        parse(data.replace("needs = ['venv-python']", "needs = ['venv-pythons']").encode())


def test_braces() -> None:
    assert expand_braces(r"a\{b,c}\{d,e}") == (r"a\b\d", r"a\b\e", r"a\c\d", r"a\c\e")
    assert expand_braces("plain") == ("plain",)
