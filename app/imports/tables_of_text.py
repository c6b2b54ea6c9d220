"""Exports as rows: CSV with a header line, JSON lines, and JSON arrays of any size; each row's place is known."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from app.imports.columns import flatten
from app.imports.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from app.imports.model import FileError, Part, Position, Reasons

ROWS_AT_ONCE = 2_000
MAX_OBJECT_CHARACTERS = 4 << 20
MAX_COLUMNS = 2_000

LookAt = Callable[[Mapping[str, str], Part, str], None]
"""Adds a row to a part; the text is the row's place."""

_BLOCK_BYTES = 1 << 18
_ROWS_BEGIN = re.compile(r'"(?:value|results|events|records|rows)"\s*:\s*\[\s*(?=\{)', re.IGNORECASE)
_SPACE = " \t\r\n,\ufeff"


def read_csv(file: BinaryIO, position: Position, look_at: LookAt, encoding: str) -> Iterator[Part]:
    """The rows of a CSV file from a position (`offset`, `line`) on. raises: FileError for one without a header."""
    lines = Lines(file, encoding)
    header, delimiter = _read_header(lines)
    if position:
        lines.offset, lines.line = position["offset"], position["line"]
    part = Part(after={})
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        first = lines.line + 1
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            part.read += 1
            part.add_problem(f"line {first}", f"not CSV: {error}", Reasons.DAMAGED)
            continue
        if TOO_LONG in row:
            part.read += 1
            part.add_problem(f"line {first}", f"longer than {MAX_LINE_BYTES} bytes", Reasons.DAMAGED)
        elif row:
            look_at(dict(zip(header, row, strict=False)), part, f"line {first}")
        if part.read >= ROWS_AT_ONCE:
            part.after = {"offset": lines.offset, "line": lines.line}
            yield part
            part = Part(after={})
    part.after = {"offset": lines.offset, "line": lines.line}
    yield part


def read_json_lines(file: BinaryIO, position: Position, look_at: LookAt, encoding: str) -> Iterator[Part]:
    """The objects of a file with one on each line."""
    lines = Lines(file, encoding, position.get("offset", 0), position.get("line", 0))
    part = Part(after={})
    for text in lines:
        place = f"line {lines.line}"
        text = text.strip(_SPACE)
        if text == TOO_LONG:
            part.read += 1
            part.add_problem(place, f"longer than {MAX_LINE_BYTES} bytes", Reasons.DAMAGED)
        elif text not in ("", "[", "]"):
            try:
                look_at(flatten(_read_object(text)), part, place)
            except (ValueError, RecursionError) as error:
                part.read += 1
                part.add_problem(place, f"not a JSON object: {str(error)[:100]}", Reasons.DAMAGED)
        if part.read >= ROWS_AT_ONCE:
            part.after = {"offset": lines.offset, "line": lines.line}
            yield part
            part = Part(after={})
    part.after = {"offset": lines.offset, "line": lines.line}
    yield part


def read_json_array(file: BinaryIO, position: Position, look_at: LookAt, encoding: str) -> Iterator[Part]:
    """The objects of an array, or of the first array of objects in an object. A fault ends the reading: what follows it
    can't be told apart.
    """
    offset, rows = position.get("offset", 0), position.get("rows", 0)
    file.seek(offset)
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    decode = codecs.getincrementaldecoder(encoding)(errors)
    text = decode.decode(file.read(_BLOCK_BYTES))
    at = 0 if position else _first_object(text)
    decoder = json.JSONDecoder()
    part = Part(after={})
    is_end = False
    while True:
        while at < len(text) and text[at] in _SPACE:
            at += 1
        if at < len(text) and text[at] == "]":
            break
        try:
            value, end = decoder.raw_decode(text, at) if at < len(text) else (None, at)
        except (ValueError, RecursionError) as error:
            value, end, fault = None, at, str(error)
            if is_end or len(text) - at > MAX_OBJECT_CHARACTERS or isinstance(error, RecursionError):
                part.read += 1
                part.add_problem(f"row {rows + 1}", f"not JSON: {fault[:100]}; the rest is not read", Reasons.DAMAGED)
                break
        if end == at:
            block = file.read(_BLOCK_BYTES)
            if is_end:
                break
            is_end = not block
            offset += len(text[:at].encode(encoding, errors))
            text, at = text[at:] + decode.decode(block), 0
            continue
        at, rows = end, rows + 1
        if isinstance(value, dict):
            look_at({name: _plain(leaf) for name, leaf in flatten(value).items()}, part, f"row {rows}")
        else:
            part.read += 1
            part.add_problem(f"row {rows}", "not an object", Reasons.DAMAGED)
        if part.read >= ROWS_AT_ONCE:
            offset += len(text[:at].encode(encoding, errors))
            text, at = text[at:], 0
            part.after = {"offset": offset, "rows": rows}
            yield part
            part = Part(after={})
    part.after = {"offset": offset + len(text[:at].encode(encoding, errors)), "rows": rows}
    yield part


def is_json_lines(beginning: str) -> bool:
    """Whether a file that begins with this text has an object on each line."""
    first = beginning.lstrip(_SPACE).split("\n", 1)[0].rstrip(_SPACE)
    if not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _read_object(text: str) -> dict[str, object]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _plain(text: str) -> str:
    """Text without the lone surrogates that stand for bytes that are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _first_object(text: str) -> int:
    """Where the first object of the array begins. raises: FileError"""
    start = len(text) - len(text.lstrip(_SPACE))
    if text[start : start + 1] == "[":
        return start + 1
    found = _ROWS_BEGIN.search(text)
    if found is not None:
        return found.end()
    if text[start : start + 1] == "{":
        return start
    raise FileError("neither an array of objects nor one object a line", "row 1")


def _read_header(lines: Lines) -> tuple[list[str], str]:
    """The names of the columns, and what stands between them."""
    for text in lines:
        line = text.lstrip("\ufeff").strip("\r\n")
        if not line.strip() or line.startswith("#TYPE"):
            continue
        delimiter = max(",;\t|", key=line.count)
        header = next(csv.reader([line], delimiter=delimiter), [])
        if len(header) < 2 or len(header) > MAX_COLUMNS:
            break
        return [name.strip() for name in header], delimiter
    raise FileError("no line with the names of columns", "line 1")
