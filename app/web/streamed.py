"""Lists as files, streamed: CSV that no spreadsheet takes for formulas, and JSON; however long they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from starlette.responses import Response, StreamingResponse

# A spreadsheet takes a cell that begins so for a formula; names come from workstations and from anybody who signs in.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Row = Mapping[str, Any]


def csv_file(name: str, columns: Sequence[str], pages: Iterable[Iterable[Row]]) -> Response:
    """A CSV answer: a line of titles, then one line for each row of each page."""
    return _answer(_csv_lines(columns, _begun(pages)), "text/csv; charset=utf-8", name)


def json_file(name: str, pages: Iterable[Iterable[Row]]) -> Response:
    """A JSON answer: an array with one object for each row of each page."""
    return _answer(_json_lines(_begun(pages)), "application/json", name)


def plain_cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula.

    >>> plain_cell("=1+1"), plain_cell("PC-1"), plain_cell(None), plain_cell({"a": 1})
    ("'=1+1", 'PC-1', '', '{"a": 1}')
    """
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _answer(lines: Iterator[str], media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=media_type, headers=headers)


def _begun(pages: Iterable[Iterable[Row]]) -> Iterator[Iterable[Row]]:
    """The same pages with the first one read: an error of it is answered as one, not by a file that breaks off."""
    rest = iter(pages)
    return chain((next(rest, ()),), rest)


def _csv_lines(columns: Sequence[str], pages: Iterable[Iterable[Row]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for rows in pages:
        writer.writerows([plain_cell(row[column]) for column in columns] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json_lines(pages: Iterable[Iterable[Row]]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for rows in pages:
        for row in rows:
            yield separator + json.dumps(row, ensure_ascii=False)
            separator = ",\n"
    yield "\n]\n"
