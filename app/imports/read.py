"""Reads a file of any of the kinds that can be imported, from its beginning or from where an earlier reading ended."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from app.imports import evtx_file
from app.imports.columns import flatten, look_at_row
from app.imports.event_xml import read_event_xml
from app.imports.file_information import check_given, is_file_information, look_at_file, read_list
from app.imports.model import FileError, Given, Part, Position
from app.imports.tables_of_text import (
    MAX_COLUMNS,
    LookAt,
    is_json_lines,
    read_csv,
    read_json_array,
    read_json_lines,
)
from app.imports.uv_files import UvFiles
from app.imports.workers import read_evtx

_BEGINNING_BYTES = 1 << 16
_PACKED = ((b"PK\x03\x04", "zip"), (b"\x1f\x8b", "gzip"), (b"7z\xbc\xaf", "7z"), (b"MSCF", "cab"))


class Format(StrEnum):
    """A kind of file."""

    EVTX = "evtx"
    EVENT_XML = "event-xml"
    CSV = "csv"
    JSON_LINES = "json-lines"
    JSON = "json"
    FILE_LIST = "file-list"


FORMAT_WORDS: Mapping[Format, str] = {
    Format.EVTX: "event log (EVTX)",
    Format.EVENT_XML: "event XML",
    Format.CSV: "CSV",
    Format.JSON_LINES: "JSON lines",
    Format.JSON: "JSON",
    Format.FILE_LIST: "Get-AppLockerFileInformation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a file is. `names_files`: rows of Get-AppLockerFileInformation in another format than a list."""

    format: Format
    encoding: str = "utf-8"
    names_files: bool = False


def recognise(beginning: bytes) -> Kind:
    """What a file is, by how it begins. raises: FileError for what can't be imported, saying what it seems to be."""
    if not beginning:
        raise FileError("the file is empty")
    if beginning.startswith(evtx_file.MAGIC):
        return Kind(format=Format.EVTX)
    for magic, name in _PACKED:
        if beginning.startswith(magic):
            raise FileError(f"this is a {name} archive: unpack it first")
    if beginning.startswith(b"regf") or beginning[4:8] == b"LfLe":
        raise FileError("this is an event log of Windows XP or a registry file: AppLocker writes neither")
    encoding = _encoding_of(beginning)
    text = beginning[: len(beginning) // 2 * 2].decode(encoding, "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        if "<Event" not in text and "<event" not in text:
            raise FileError("this is XML, but of no events: export them with `wevtutil qe` or Event Viewer", "line 1")
        return Kind(format=Format.EVENT_XML, encoding=encoding)
    if text.startswith(("{", "[")):
        return Kind(
            format=Format.JSON_LINES if is_json_lines(text) else Format.JSON,
            encoding=encoding,
            names_files=_names_files(text),
        )
    return _recognise_text(text, encoding)


def read_parts(path: Path, kind: Kind, position: Position, given: Given, *, processes: int = 2) -> Iterator[Part]:
    """The parts of a file from a position on (empty: its beginning). raises: FileError, OSError."""
    files = UvFiles(given.env)
    if kind.format is Format.EVTX:
        yield from read_evtx(path, position, given.env, processes=processes)
        return
    if kind.names_files or kind.format is Format.FILE_LIST:
        check_given(given)
    with path.open("rb") as file:
        yield from _read_text(file, kind, position, files, given)


def _read_text(file: BinaryIO, kind: Kind, position: Position, files: UvFiles, given: Given) -> Iterator[Part]:
    look_at: LookAt

    def look_at_event_row(row: Mapping[str, str], part: Part, place: str) -> None:
        look_at_row(row, files, part, place)

    def look_at_file_row(row: Mapping[str, str], part: Part, place: str) -> None:
        look_at_file(row, files, part, place, given)

    look_at = look_at_file_row if kind.names_files else look_at_event_row
    if kind.format is Format.EVENT_XML:
        return read_event_xml(file, position, files, kind.encoding)
    if kind.format is Format.CSV:
        return read_csv(file, position, look_at, kind.encoding)
    if kind.format is Format.JSON_LINES:
        return read_json_lines(file, position, look_at, kind.encoding)
    if kind.format is Format.JSON:
        return read_json_array(file, position, look_at, kind.encoding)
    return read_list(file, position, files, given, kind.encoding)


def read_beginning(path: Path) -> bytes:
    """As much of a file as telling its kind takes. raises: OSError."""
    with path.open("rb") as file:
        return file.read(_BEGINNING_BYTES)


def _recognise_text(text: str, encoding: str) -> Kind:
    lines = [line for line in text.splitlines()[:20] if line.strip() and not line.startswith("#TYPE")]
    first = lines[0] if lines else ""
    name, colon, _ = first.partition(":")
    if colon and name.strip() in ("Path", "FilePath") and name[:1].isalpha():
        return Kind(format=Format.FILE_LIST, encoding=encoding)
    delimiter = max(",;\t|", key=first.count)
    header = next(csv.reader([first[:100_000]], delimiter=delimiter), [])
    if not 2 <= len(header) <= MAX_COLUMNS or "\x00" in first or "\ufffd" in first:
        raise FileError(
            "neither an event log (EVTX), event XML, JSON, CSV with a header nor a list of Get-AppLockerFileInformation"
        )
    return Kind(
        format=Format.CSV, encoding=encoding, names_files=is_file_information(tuple(name.strip() for name in header))
    )


def _names_files(text: str) -> bool:
    """Whether the first object is of Get-AppLockerFileInformation."""
    start = text.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start) if start >= 0 else ({}, 0)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and is_file_information(flatten(value))


def _encoding_of(beginning: bytes) -> str:
    if beginning.startswith(b"\xff\xfe") or (len(beginning) > 3 and beginning[1] == 0 and beginning[3] == 0):
        return "utf-16-le"
    if beginning.startswith(b"\xfe\xff"):
        return "utf-16-be"
    return "utf-8"
