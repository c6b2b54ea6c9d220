"""Canonical JSON and digests: one text for one value, and nothing that two readers could understand differently."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import MAX_INTEGER, ContractError, canonical_json, digest, is_digest, parse_canonical

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_a_value_survives_the_way_through(value: object) -> None:
    body = canonical_json(value)
    assert parse_canonical(body) == value
    assert json.loads(body) == value


@given(st.dictionaries(text, st.integers(0, 9), min_size=2, max_size=6))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)


def test_keys_sort_by_utf16_code_units() -> None:
    # RFC 8785, 3.2.3: U+1F600 is written with the surrogate D83D, which sorts before U+FB33.
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'


@pytest.mark.parametrize(
    "body",
    [
        '{"b":1,"a":2}',
        '{"a": 1}',
        '{"a":1,"a":1}',
        '{"a":1.0}',
        '{"a":1e3}',
        '{"a":NaN}',
        '{"a":-0}',
        '"\\u0041"',
        '"\\/"',
        "{",
        "",
        "[" * 10_000,
        '{"a":9007199254740993}',
    ],
)
def test_other_writings_are_refused(body: str) -> None:
    with pytest.raises(ContractError):
        parse_canonical(body)


@pytest.mark.parametrize("value", [1.5, float("nan"), 2**53 + 1, "\ud800", {"\udfff": 1}, {1: 2}, object(), b"x"])
def test_values_outside_the_contract_are_refused(value: object) -> None:
    with pytest.raises(ContractError):
        canonical_json(value)


def test_nesting_is_bounded() -> None:
    value: list[object] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(ContractError, match="nested"):
        canonical_json(value)


def test_an_error_names_its_place() -> None:
    with pytest.raises(ContractError) as caught:
        canonical_json({"probes": [{"error": 1.5}]})
    assert caught.value.field == "probes[0].error"


def test_a_digest_depends_on_kind_and_body() -> None:
    assert digest("uv", "{}") != digest("probes", "{}") != digest("probes", "[]")
    assert is_digest(digest("uv", "{}"))


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 64, 7, None]
)
def test_other_texts_are_no_digests(text: object) -> None:
    assert not is_digest(text)
