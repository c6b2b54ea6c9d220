"""The lines of a large text file with the place behind each, so that reading can go on there another time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 18
TOO_LONG = "\x00too long"
"""Stands for a line of more than MAX_LINE_BYTES."""


class Lines:
    """Iterates over the lines of a file from an offset on; `offset` and `line` are those behind the last one given."""

    def __init__(self, file: BinaryIO, encoding: str, offset: int = 0, line: int = 0) -> None:
        self.offset, self.line = offset, line
        self._file, self._encoding = file, encoding
        self._newline = "\n".encode(encoding)

    def __iter__(self) -> Iterator[str]:
        self._file.seek(self.offset)
        width, newline = len(self._newline), self._newline
        buffer, start, is_long = b"", 0, False
        while True:
            at = buffer.find(newline, start)
            while at >= 0 and at % width:
                at = buffer.find(newline, at + 1)
            if at >= 0:
                piece = buffer[start : at + width]
                start = at + width
                self.offset += len(piece)
                self.line += 1
                yield TOO_LONG if is_long or len(piece) > MAX_LINE_BYTES else piece.decode(self._encoding, "replace")
                is_long = False
                continue
            buffer, start = buffer[start:], 0
            if len(buffer) > MAX_LINE_BYTES:
                cut = len(buffer) // width * width
                self.offset += cut
                buffer, is_long = buffer[cut:], True
            block = self._file.read(_BLOCK_BYTES)
            if not block:
                break
            buffer += block
        if buffer or is_long:
            self.offset += len(buffer)
            self.line += 1
            yield TOO_LONG if is_long else buffer.decode(self._encoding, "replace")
