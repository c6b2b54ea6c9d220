"""What `Get-AppLockerFileInformation` prints of an event log: files with publisher and hash, as list, CSV or JSON.

It says neither on which host nor when nor whether a file was blocked: a person does (`Given`).
source: applocker, PowerShell cmdlets
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import BinaryIO

from app.imports.events import look_at_values
from app.imports.lines import TOO_LONG, Lines
from app.imports.model import NO_TIME, FileError, Given, Part, Position, Reasons
from app.imports.tables_of_text import ROWS_AT_ONCE
from app.imports.uv_files import UvFiles

_LINE = re.compile(r"^([A-Za-z]{2,30})\s*: ?(.*)$")
_SCRIPTS = (".ps1", ".bat", ".cmd", ".vbs", ".js", ".msi", ".msp", ".mst")
_EVENTS = {("denied", False): "8004", ("audited", False): "8003", ("denied", True): "8007", ("audited", True): "8006"}
_PATH_COLUMNS = ("Path", "Path.Path", "FilePath", "FilePath.Path")


def is_file_information(columns: Mapping[str, object] | tuple[str, ...]) -> bool:
    """Whether a row or a header is this command's."""
    names = {str(name).partition(".")[0].lower() for name in columns}
    return {"path", "publisher", "hash"} <= names or {"filepath", "filepublisher", "filehash"} <= names


def check_given(given: Given) -> None:
    """raises: FileError where a person has to say more."""
    if not given.computer or given.event_type not in ("denied", "audited"):
        raise FileError(
            "output of Get-AppLockerFileInformation does not say on which host nor whether its files were blocked: "
            "name the host, and `denied` or `audited`"
        )


def look_at_file(row: Mapping[str, str], files: UvFiles, part: Part, place: str, given: Given) -> None:
    """Adds one file to a part."""
    part.read += 1
    path = next((row[name] for name in _PATH_COLUMNS if row.get(name)), "")
    digest = row.get("Hash") or row.get("FileHash") or row.get("Hash.HashDataString") or ""
    publisher = row.get("Publisher") or row.get("FilePublisher") or _publisher_of(row)
    is_script = path.lower().endswith(_SCRIPTS)
    before = len(part.seen)
    values = {
        "EventID": _EVENTS[given.event_type, is_script],
        "SystemTime": datetime.fromtimestamp(given.at / 1000, UTC).isoformat(timespec="milliseconds"),
        "Computer": given.computer,
        "Path": path,
        "Hash": digest.rpartition(" ")[2],
        "Fqbn": _fqbn(publisher),
        "PolicyName": ("MSI" if path.lower().endswith((".msi", ".msp", ".mst")) else "SCRIPT") if is_script else "",
    }
    look_at_values(values, files, part, place)
    part.seen[before:] = [seen._replace(record=NO_TIME) for seen in part.seen[before:]]


def read_list(file: BinaryIO, position: Position, files: UvFiles, given: Given, encoding: str) -> Iterator[Part]:
    """The files of a list with one property a line, and an empty line between files."""
    check_given(given)
    lines = Lines(file, encoding, position.get("offset", 0), position.get("line", 0))
    part, row, name, first = Part(after={}), dict[str, str](), "", lines.line + 1
    for text in lines:
        line = text.lstrip("\ufeff").rstrip("\r\n")
        found = _LINE.match(line)
        if text == TOO_LONG:
            part.add_problem(f"line {lines.line}", "longer than any line of this list", Reasons.DAMAGED)
        elif found is not None and not line[:1].isspace():
            if not row:
                first = lines.line
            name = found[1]
            row[name] = found[2].strip()
        elif line.strip() and name:
            row[name] += line.strip()  # the console's width broke the value
        elif row:
            look_at_file(row, files, part, f"line {first}", given)
            row, name = {}, ""
            if part.read >= ROWS_AT_ONCE:
                part.after = {"offset": lines.offset, "line": lines.line}
                yield part
                part = Part(after={})
    if row:
        look_at_file(row, files, part, f"line {first}", given)
    part.after = {"offset": lines.offset, "line": lines.line}
    yield part


def _fqbn(publisher: str) -> str:
    """A publisher as events write it: the version behind a backslash, not a comma."""
    name, comma, version = publisher.rpartition(",")
    return f"{name}\\{version.strip()}" if comma and re.fullmatch(r"\s*[0-9.]+", version) else publisher


def _publisher_of(row: Mapping[str, str]) -> str:
    names = [row.get(f"Publisher.{name}", "") for name in ("PublisherName", "ProductName", "BinaryName")]
    return "\\".join(names) if names[0] else ""
