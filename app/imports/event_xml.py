"""Event XML as `wevtutil qe`, Event Viewer and log forwarders write it: one event after the other, with a root or not.

The file is cut at the events' ends, and each is parsed by itself: a fault in one costs that one alone, and the file may
be as large as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from app.imports.events import look_at_event
from app.imports.model import Part, Position, Reasons
from app.imports.uv_files import UvFiles

BLOCK_BYTES = 1 << 20
MAX_EVENT_BYTES = 1 << 20


def read_event_xml(file: BinaryIO, position: Position, files: UvFiles, encoding: str) -> Iterator[Part]:
    """The events of a file from a position (`offset`, `line`) on. `encoding`: utf-8, utf-16-le or utf-16-be."""
    end, newline = "</Event>".encode(encoding), "\n".encode(encoding)
    width = len(newline)
    offset, line = position.get("offset", 0), position.get("line", 1)
    file.seek(offset)
    left = b""
    while block := file.read(BLOCK_BYTES):
        buffer = left + block
        part = Part(after={})
        done = 0
        while (at := _find_aligned(buffer, end, done, width)) >= 0:
            piece = buffer[done : at + len(end)]
            _look_at(piece.decode(encoding, "replace"), files, part, line)
            line += piece.count(newline)
            done = at + len(end)
        left = buffer[done:]
        if len(left) > MAX_EVENT_BYTES + BLOCK_BYTES:
            part.read += 1
            part.add_problem(f"line {line}", f"no event ends within {MAX_EVENT_BYTES} bytes", Reasons.DAMAGED)
            done = len(buffer) - len(end) // width * width
            line += buffer[len(buffer) - len(left) : done].count(newline)
            left = buffer[done:]
        offset += done
        part.after = {"offset": offset, "line": line}
        yield part
    part = Part(after={"offset": offset + len(left), "line": line})
    if "<Event" in (rest := left[:BLOCK_BYTES].decode(encoding, "replace")) and "<Events" not in rest[-200:]:
        part.read += 1
        line += rest.count("\n", 0, rest.find("<Event"))
        part.add_problem(f"line {line}", "the file ends within an event", Reasons.DAMAGED)
    yield part


def _look_at(text: str, files: UvFiles, part: Part, line: int) -> None:
    start = max(text.rfind("<Event>"), text.rfind("<Event "))
    if start < 0:
        part.read += 1
        part.add_problem(f"line {line}", "an event that ends without having begun", Reasons.DAMAGED)
        return
    look_at_event(text[start:], files, part, f"line {line + text.count(chr(10), 0, start)}")


def _find_aligned(buffer: bytes, wanted: bytes, start: int, width: int) -> int:
    """Where something stands in a buffer, at a whole character's place."""
    while (at := buffer.find(wanted, start)) >= 0 and at % width:
        start = at + 1
    return at
