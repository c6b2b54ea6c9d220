"""Keyset paging: the next page begins after the last row shown, so that page 1,000 costs what page 1 does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import InvalidError

Row = TypeVar("Row")
Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])
CursorValue = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """Rows of one page, and the cursor of the page after it (None: this is the last)."""

    rows: tuple[Row, ...]
    next_cursor: str | None


def newest_first(query: Query, ids: InstrumentedAttribute[int], *, before: int | None, rows: int) -> Query:
    """A query for the newest rows that are older than `before`: one more than a page holds, for `cut_page`."""
    if before is not None:
        query = query.where(ids < before)
    return query.order_by(ids.desc()).limit(rows + 1)


def cut_page(found: Sequence[Row], rows: int) -> tuple[Sequence[Row], Row | None]:
    """The rows of a page, of one more that was asked for; and its last one, if another page follows.

    >>> cut_page("abc", 2)
    ('ab', 'b')
    >>> cut_page("ab", 2)
    ('ab', None)
    """
    return found[:rows], found[rows - 1] if len(found) > rows else None


def comes_after(
    name: InstrumentedAttribute[str], number: InstrumentedAttribute[int], place: Sequence[CursorValue]
) -> ColumnElement[bool]:
    """Whether a row comes after a place, by name and then by number. In one comparison: an index of both is read from
    there on, however many have the same name.
    """
    return tuple_(name, number) > tuple_(*place)


def encode_cursor(values: Sequence[CursorValue]) -> str:
    """A cursor for a link: opaque to its reader.

    >>> decode_cursor(encode_cursor(["PC-1", 7]), (str, int))
    ['PC-1', 7]
    """
    return base64.urlsafe_b64encode(json.dumps(list(values)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> list[CursorValue]:
    """The values of a cursor.

    raises: InvalidError when it was not made by `encode_cursor` for these kinds.
    """
    try:
        values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidError("This page link is damaged.", field="cursor") from error
    if (
        not isinstance(values, list)
        or len(values) != len(kinds)
        or not all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
        or any("\x00" in value for value in values if isinstance(value, str))
        or any(abs(value) >= 2**63 for value in values if isinstance(value, int))
    ):
        raise InvalidError("This page link is damaged.", field="cursor")
    return values
