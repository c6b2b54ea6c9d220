"""What counts take from bodies: the quick canonical check agrees with the slow one, the worst outcome decides."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies

from agent import catalogue
from agent.contract.canonical import ContractError, canonical_json, parse_canonical
from agent.contract.facts import Engine, Outcome
from app.fleet.facts import Flag, parse_body, read_set
from app.fleet.probes import mark

values = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers(-(2**60), 2**60) | strategies.text(max_size=8),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
)


def verdict(parse: object, text: str) -> object:
    try:
        return ("value", parse(text))
    except ContractError:
        return "refused"


@given(value=values, indent=strategies.sampled_from([None, 1]), ascii_only=strategies.booleans())
def test_the_quick_check_agrees_with_the_contract(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, separators=(",", ":"))
    assert verdict(parse_body, text) == verdict(parse_canonical, text)


@pytest.mark.parametrize(
    "text",
    ["[" * depth + "]" * depth for depth in (32, 33, 34, 2000)] + ['{"a":"[[["}', '{"a":[{}]}', '["{"]', "1.0", "-0"],
)
def test_the_quick_check_agrees_on_nesting(text: str) -> None:
    assert verdict(parse_body, text) == verdict(parse_canonical, text)


def probe(outcome: str, specimen: str = "canary", engine: str | None = "applocker") -> dict[str, str | None]:
    return {"pattern": "venv-python", "outcome": outcome, "specimen": specimen, "engine": engine}


def test_the_launcher_goes_before_the_canary_and_each_collection_counts() -> None:
    def outcome(*probes: dict[str, str | None]) -> str:
        (fact,) = read_set("probes", canonical_json({"probes": list(probes)})).patterns
        return fact.outcome

    assert outcome(probe("blocked"), probe("allowed", "launcher", None)) == "allowed"
    assert outcome(probe("allowed", "canary", None), probe("blocked", "launcher")) == "blocked"
    library = probe("blocked") | {"collection": "Dll"}
    assert outcome(probe("allowed", "real", None) | {"collection": "Exe"}, library) == "blocked"
    assert outcome(probe("allowed", "real", None), library | {"specimen": "real", "outcome": "absent"}) == "allowed"


@pytest.mark.parametrize(
    ("probes", "outcome"),
    [
        ([probe("allowed"), probe("blocked")], "blocked"),
        ([probe("blocked"), probe("allowed", "real")], "allowed"),
        ([probe("blocked"), probe("unknown", "real")], "blocked"),
        ([probe("allowed"), probe("absent")], "allowed"),
        ([probe("from a newer agent")], "unknown"),
    ],
)
def test_the_worst_of_the_best_evidence_decides(probes: list[dict[str, str | None]], outcome: str) -> None:
    facts = read_set("probes", canonical_json({"probes": probes}))
    assert [fact.outcome for fact in facts.patterns] == [outcome]


@pytest.mark.parametrize(
    ("kind", "value", "flags"),
    [
        ("policy", {"gpo": {"Exe": {"mode": "Enabled", "rules": ["<x/>"]}}}, Flag.ENFORCING),
        ("policy", {"gpo": {"Exe": {"mode": "NotConfigured", "rules": ["<x/>"]}}}, Flag.ENFORCING),
        ("policy", {"gpo": {"Exe": {"mode": "AuditOnly", "rules": ["<x/>"]}}}, 0),
        ("policy", {"gpo": {"Exe": {"mode": "0", "rules": ["<x/>"]}}}, 0),
        ("policy", {"gpo": {"Exe": {"mode": "Enabled", "rules": []}}}, 0),
        ("policy", {"gpo": None, "srp": True}, Flag.ENFORCING),
        ("token", {"administrator": True}, Flag.ADMINISTRATOR),
        ("probes", {"probes": [probe("blocked")]}, Flag.BLOCKING),
        ("probes", {"probes": [probe("blocked", engine="antivirus")]}, 0),
    ],
)
def test_flags(kind: str, value: dict[str, object], flags: int) -> None:
    assert read_set(kind, canonical_json(value)).flags == flags


def test_no_two_marks_of_the_catalogue_are_the_same() -> None:
    marks = [
        mark(pattern.id, outcome, engine)
        for pattern in catalogue.load().patterns
        for outcome in Outcome
        for engine in ("", *Engine)
    ]
    assert len(set(marks)) == len(marks)
    assert max(marks) < 2**31
