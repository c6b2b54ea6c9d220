"""Probes that were seen before are not read again, and nothing gets by because of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings, strategies

from agent.contract.canonical import ContractError, canonical_json
from agent.contract.facts import Engine, Outcome
from app.fleet import probes
from app.fleet.facts import SetFacts, read_set


def one(pattern: str = "venv-python", **more: object) -> dict[str, object]:
    return {"pattern": pattern, "outcome": "blocked", "specimen": "canary", "engine": "applocker", **more}


def body(*values: dict[str, object], catalogue: str = "c1") -> str:
    return canonical_json({"catalogue": catalogue, "probes": list(values)})


def read_anew(text: str) -> SetFacts | str:
    """What reading in full says."""
    before = dict(probes._KNOWN)
    probes._KNOWN.clear()
    try:
        return read(text)
    finally:
        probes._KNOWN.clear()
        probes._KNOWN.update(before)


def read(text: str) -> SetFacts | str:
    try:
        return read_set("probes", text)
    except ContractError as error:
        return f"refused at {error.field}"


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    probes._KNOWN.clear()
    yield
    probes._KNOWN.clear()


made = strategies.lists(
    strategies.builds(
        one,
        pattern=strategies.sampled_from(["venv-python", "tool-exe", "a},{b"]),
        outcome=strategies.sampled_from([*Outcome, "newer"]),
        specimen=strategies.sampled_from(["real", "canary", "none"]),
        engine=strategies.sampled_from([None, "", *Engine, "newer"]),
        why=strategies.sampled_from([None, "},{", '"}', {"deep": [1]}]),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(
    first=made, second=made, cut=strategies.integers(0, 2000), put=strategies.sampled_from(["", ",", "},{", "{", " "])
)
def test_what_is_known_reads_as_what_is_new(
    first: list[dict[str, object]], second: list[dict[str, object]], cut: int, put: str
) -> None:
    probes._KNOWN.clear()
    for values in (first, second, [*second, *first]):
        text = body(*values)
        read(text)
        at = cut % len(text)
        for variant in (text, text[:at] + put + text[at:], text[:at] + put + text[at + 1 :]):
            assert read(variant) == read_anew(variant)


def test_known_probes_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read_set("probes", body(one("venv-python"), one("tool-exe")))
    monkeypatch.setattr("app.fleet.facts.parse_body", None)
    facts = read_set("probes", body(one("tool-exe"), one("venv-python"), catalogue="another"))
    assert [fact.pattern for fact in facts.patterns] == ["tool-exe", "venv-python"]


def test_too_many_known_probes_are_refused_all_the_same() -> None:
    read_set("probes", body(one()))
    with pytest.raises(ContractError, match="more than"):
        read_set("probes", body(*[one()] * (probes.MAX_PROBES + 1)))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_KNOWN", 50)
    for number in range(200):
        read_set("probes", body(one(error=number)))
    assert len(probes._KNOWN) <= 50
    read_set("probes", body(one(note="x" * 1000)))
    assert all(len(text) <= probes.MAX_KNOWN_CHARACTERS for text in probes._KNOWN)
