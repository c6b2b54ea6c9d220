"""Fact sets: the same facts give the same digest in any order, and their bodies are canonical."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import canonical_json, parse_canonical
from agent.contract.facts import (
    KINDS,
    CollectionInForce,
    EnvironmentSet,
    FactSet,
    FoundUv,
    HostFacts,
    Method,
    Outcome,
    PolicySet,
    Probe,
    ProbeSet,
    Specimen,
    TokenSet,
    UvSet,
)

blocked = Probe(pattern="venv-python", specimen=Specimen.REAL, method=Method.START, outcome=Outcome.BLOCKED, error=1260)
sets: list[FactSet] = [
    ProbeSet(catalogue="1", probes=(blocked,)),
    UvSet(found=(FoundUv(path="%USERPROFILE%\\.local\\bin\\uv.exe", pattern="uv-exe-standalone", version="0.13.8"),)),
    EnvironmentSet(variables={"UV_CACHE_DIR": "D:\\cache"}),
    PolicySet(collections={"Exe": CollectionInForce(mode="Enabled", rules=("<a/>",))}),
    TokenSet(sids=("S-1-1-0",)),
    HostFacts(name="PC1", platform="windows", os="Windows 11"),
]


def test_every_kind_has_a_set_and_a_canonical_body() -> None:
    assert tuple(one.kind for one in sets) == KINDS
    for one in sets:
        assert canonical_json(parse_canonical(one.body())) == one.body()


def test_digests_of_kinds_differ() -> None:
    assert len({one.digest() for one in sets}) == len(sets)


@given(st.permutations([replace(blocked, pattern=f"pattern-{number}") for number in range(5)]))
def test_the_order_of_probes_does_not_count(probes: list[Probe]) -> None:
    assert (
        ProbeSet(catalogue="1", probes=tuple(probes)).digest()
        == ProbeSet(catalogue="1", probes=tuple(reversed(probes))).digest()
    )


def test_one_changed_outcome_changes_the_digest() -> None:
    opened = replace(blocked, outcome=Outcome.ALLOWED, error=0)
    assert ProbeSet(catalogue="1", probes=(blocked,)).digest() != ProbeSet(catalogue="1", probes=(opened,)).digest()


def test_a_policy_that_could_not_be_read_is_not_an_empty_one() -> None:
    assert PolicySet(collections=None).digest() != PolicySet(collections={}).digest()
