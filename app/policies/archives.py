"""Identifies the programs in a vendor's archive, without unpacking it anywhere: each goes through a nameless file.

An archive is hostile until its checksum was verified, and bounded ever after: nothing is written under a name that the
archive gives, links are not followed, sizes are counted as they come and not as they are claimed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from agent.pe import FileIdentity, PeError
from agent.pe.identity import INSTALLER_SUFFIXES, SCRIPT_SUFFIXES, identify_source
from agent.pe.source import Source
from app.errors import InvalidError

MAX_ARCHIVE_BYTES = 2 * 1024**3
MAX_MEMBERS = 50_000
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_MEMBER_BYTES = 1024**3
MAX_RATIO = 200
"""Unpacked bytes for one packed; programs and Python builds stay under ten."""

RATIO_FROM_BYTES = 64 * 1024**2
MAX_FILES = 5_000
MAX_DIRECTORY_BYTES = 16 * 1024**2
"""The most that is read at once of a zip's directory, or of a tar's headers."""

CHUNK_BYTES = 256 * 1024
SPOOLED_BYTES = 8 * 1024**2

_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\]|^[A-Za-z]:")
_NOT_READ = {
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"MSCF": "A cabinet",
}
"""Forms by their first bytes that are not read: Python has no Zstandard before 3.14, and the memory that the others
ask for is what the archive says."""

_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    OverflowError,
    MemoryError,
    IndexError,
)
"""What the standard library raises of archives that are not what they claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFile:
    """A program of an archive, and its path there."""

    path: str
    identity: FileIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What an archive holds. `left_out`: members that cannot be taken (path, reason); `others`: no programs."""

    files: tuple[ArchiveFile, ...]
    left_out: tuple[tuple[str, str], ...]
    others: int


@dataclass(slots=True)
class _Budget:
    packed_bytes: int
    unpacked_bytes: int = 0
    members: int = 0

    def count(self, size_bytes: int) -> None:
        """raises: InvalidError when an archive turns out to be a bomb."""
        self.unpacked_bytes += size_bytes
        if self.unpacked_bytes > MAX_UNPACKED_BYTES:
            raise InvalidError(f"It unpacks to more than {MAX_UNPACKED_BYTES // 2**30} GB.", field="archive")
        if self.unpacked_bytes > max(RATIO_FROM_BYTES, MAX_RATIO * self.packed_bytes):
            raise InvalidError(f"It unpacks to more than {MAX_RATIO} times its size.", field="archive")

    def count_member(self, path: str) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise InvalidError(f"It has more than {MAX_MEMBERS:,} members.", field="archive")
        if _OUTSIDE.search(path):
            raise InvalidError(f"Its member {path[:120]!a} would lie outside of it.", field="archive")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identify_archive(path: Path, name: str) -> Unpacked:
    """The programs, libraries, scripts and installers in an archive; the archive may be such a file itself.

    raises: InvalidError about `archive`: of no known form, damaged, encrypted, or too much.
    """
    size_bytes = path.stat().st_size
    if size_bytes > MAX_ARCHIVE_BYTES:
        raise InvalidError(f"At most {MAX_ARCHIVE_BYTES // 2**30} GB are read of an archive.", field="archive")
    budget = _Budget(packed_bytes=size_bytes)
    files: list[ArchiveFile] = []
    left_out: list[tuple[str, str]] = []
    others = 0
    seen: set[str] = set()
    with path.open("rb") as file:
        try:
            for member, opened in _members(file, name, budget):
                if opened is None:
                    left_out.append((_shown(member), "a link or a device"))
                    continue
                if member.casefold() in seen:
                    raise InvalidError(f"Its member {member[:120]!a} is there twice.", field="archive")
                seen.add(member.casefold())
                with opened as stream:
                    found = _identity(stream, member, budget)
                if found is None:
                    others += 1
                elif isinstance(found, str):
                    left_out.append((_shown(member), found))
                else:
                    files.append(ArchiveFile(path=member, identity=found))
                if len(files) > MAX_FILES:
                    raise InvalidError(f"It holds more than {MAX_FILES:,} programs and libraries.", field="archive")
        except InvalidError as error:
            raise InvalidError(f"{name}: {error.message}", field="archive") from error
        except _FAULTS as error:
            said = str(error) or type(error).__name__
            raise InvalidError(f"{name} can't be read: {said[:200]!a}.", field="archive") from error
    return Unpacked(files=tuple(files), left_out=tuple(left_out), others=others)


def _members(file: BinaryIO, name: str, budget: _Budget) -> Iterator[tuple[str, Any]]:
    """The members of an archive: (path, a context that opens it; None for what is no regular file)."""
    head = file.read(600)
    file.seek(0)
    for magic, kind in _NOT_READ.items():
        if head.startswith(magic):
            raise InvalidError(
                f"{kind} is not read. Take the vendor's .zip or .tar.gz (python-build-standalone: install_only).",
                field="archive",
            )
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        yield from _zip_members(file, budget)
    elif head.startswith(b"\x1f\x8b"):
        yield from _tar_members(gzip.GzipFile(fileobj=file), budget)
    elif head[257:262] == b"ustar":
        yield from _tar_members(file, budget)
    elif head.startswith(b"MZ") or Path(name).suffix.lower() in SCRIPT_SUFFIXES | INSTALLER_SUFFIXES:
        budget.count_member(name)
        yield name, _left_open(file)
    else:
        raise InvalidError("Neither a zip, a tar or a tar.gz, nor a program.", field="archive")


def _zip_members(file: BinaryIO, budget: _Budget) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(cast("IO[bytes]", _Bounded(file))) as archive:
        for info in archive.infolist():
            budget.count_member(info.filename)
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise InvalidError(f"Its member {info.filename[:120]!a} is encrypted.", field="archive")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InvalidError(
                    f"Its member {info.filename[:120]!a} is packed in another way than deflate.", field="archive"
                )
            kind = info.external_attr >> 16 & 0o170000
            yield info.filename, archive.open(info) if kind in (0, 0o100000) else None


def _tar_members(stream: Any, budget: _Budget) -> Iterator[tuple[str, Any]]:
    # Not tarfile's own stream mode: it reads a header as long as the header says, whatever that is.
    with tarfile.open(fileobj=cast("IO[bytes]", _Forward(stream, budget)), mode="r:") as archive:
        for info in archive:
            budget.count_member(info.name)
            if info.isdir():
                continue
            is_plain = info.isreg() and not info.issparse()
            yield info.name, archive.extractfile(info) if is_plain else None


def _identity(stream: IO[bytes], member: str, budget: _Budget) -> FileIdentity | str | None:
    """The identity of what a stream holds; None for what no collection checks, or why it can't be taken."""
    name = member.replace("\\", "/").rpartition("/")[2]
    head = stream.read(2)
    if head != b"MZ" and Path(name).suffix.lower() not in SCRIPT_SUFFIXES | INSTALLER_SUFFIXES:
        return None
    with tempfile.SpooledTemporaryFile(max_size=SPOOLED_BYTES) as copy:
        piece, size_bytes = head, 0
        while piece:
            size_bytes += len(piece)
            if size_bytes > MAX_MEMBER_BYTES:
                raise InvalidError(
                    f"Its member {member[:120]!a} has more than {MAX_MEMBER_BYTES // 2**30} GB.", field="archive"
                )
            copy.write(piece)
            piece = stream.read(CHUNK_BYTES)
            if not isinstance(stream, tarfile.ExFileObject):
                budget.count(len(piece))  # a tar's bytes are counted as they are unpacked
        if not name or len(name) > 255 or not name.isprintable():
            return "its name has control characters, or is too long"
        if not size_bytes:
            return None
        try:
            identity = identify_source(Source(name=name, size_bytes=size_bytes, _file=cast("BinaryIO", copy)))
        except PeError as error:
            return str(error)[:300]
    return identity if identity.kind != "other" else None


def _shown(member: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in member)[:300]


@contextmanager
def _left_open(file: BinaryIO) -> Iterator[BinaryIO]:
    yield file


class _Bounded(io.RawIOBase):
    """A file of which nothing asks for more at once than a directory of an honest archive has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size - self._file.tell() if size is None or size < 0 else size
        if min(wanted, self._size) > MAX_DIRECTORY_BYTES:
            raise InvalidError("Its directory is too large.", field="archive")
        return self._file.read(max(wanted, 0))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class _Forward(io.RawIOBase):
    """A stream that is read once, forward, in bounded pieces, and counted; `seek` skips, and can step one byte back."""

    def __init__(self, stream: Any, budget: _Budget) -> None:
        self._stream, self._budget = stream, budget
        self._at = 0
        self._last = b""
        self._again = b""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_DIRECTORY_BYTES:
            raise InvalidError("Its headers are too large.", field="archive")
        data, self._again = self._again[:size], self._again[size:]
        while len(data) < size:
            piece = self._stream.read(min(size - len(data), CHUNK_BYTES))
            if not piece:
                break
            self._budget.count(len(piece))
            data += piece
        self._at += len(data)
        self._last = data[-1:] or self._last
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise InvalidError("It can't be read forward.", field="archive")
        if offset == self._at - 1 and self._last and not self._again:
            self._again, self._at = self._last, offset
        if offset < self._at:
            raise InvalidError("Its members overlap.", field="archive")
        while self._at < offset and self.read(min(offset - self._at, CHUNK_BYTES)):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
