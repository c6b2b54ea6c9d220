"""Reading a file in bounded pieces: the only way in which the parsers see bytes.

Everything a file says about its own sizes is a claim. A read outside the file, or of more bytes at once than any honest
file needs, is refused; so a hostile header costs neither memory nor time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_READ_BYTES = 4 * 1024 * 1024
"""The most that is read at once: more than any certificate table or version resource seen in the wild."""

CHUNK_BYTES = 1024 * 1024


class PeError(ValueError):
    """The file is not what it claims to be, or cannot be read as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file, or bytes in memory, with a name for messages and its size."""

    name: str
    size_bytes: int
    _data: bytes | None = None
    _file: BinaryIO | None = None

    def read(self, offset: int, length: int, what: str = "data") -> bytes:
        """Exactly `length` bytes at `offset`. raises: PeError when they are not all there, or too many."""
        if length < 0 or offset < 0 or offset + length > self.size_bytes:
            raise PeError(
                f"{what} at offset {offset} ({length} bytes) lies outside the file of {self.size_bytes} bytes"
            )
        if length > MAX_READ_BYTES:
            raise PeError(f"{what} claims {length} bytes; at most {MAX_READ_BYTES} are read")
        return self._slice(offset, length)

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """The whole file as (offset, bytes), at most `CHUNK_BYTES` a piece. raises: PeError if it shrinks meanwhile."""
        offset = 0
        while offset < self.size_bytes:
            length = min(CHUNK_BYTES, self.size_bytes - offset)
            yield offset, self._slice(offset, length)
            offset += length

    def _slice(self, offset: int, length: int) -> bytes:
        if self._data is not None:
            return self._data[offset : offset + length]
        assert self._file is not None  # noqa: S101 - one of the two is always there
        try:
            self._file.seek(offset)
            piece = self._file.read(length)
        except OSError as error:
            raise PeError(f"{self.name}: {error.strerror or error}") from error
        if len(piece) != length:
            raise PeError(f"{self.name} changed while it was read")
        return piece


def source_of_bytes(data: bytes, name: str = "") -> Source:
    """A source over bytes in memory."""
    return Source(name=name, size_bytes=len(data), _data=data)


def source_of_file(path: Path, file: BinaryIO) -> Source:
    """A source over an open regular file. raises: PeError for a directory, a device or a pipe."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise PeError(f"{path} is not a regular file")
    return Source(name=path.name, size_bytes=status.st_size, _file=file)
