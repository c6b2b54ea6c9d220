"""Cursors: what was encoded comes back, everything else is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies

from app.db.paging import decode_cursor, encode_cursor
from app.errors import InvalidError

names = strategies.text(alphabet=strategies.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(name=names, number=strategies.integers(-(2**63) + 1, 2**63 - 1))
def test_a_cursor_comes_back(name: str, number: int) -> None:
    assert decode_cursor(encode_cursor([name, number]), (str, int)) == [name, number]


@given(cursor=strategies.text(max_size=60))
def test_anything_else_is_a_422(cursor: str) -> None:
    with pytest.raises(InvalidError):
        decode_cursor(cursor, (str, int, str))


@pytest.mark.parametrize("text", [b'["a\\u0000",1]', b'["a",99999999999999999999]', b'["a",true]', b'["a"]', b"1"])
def test_forged_values_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidError):
        decode_cursor(base64.urlsafe_b64encode(text).decode().rstrip("="), (str, int))
