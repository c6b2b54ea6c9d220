"""Reads a vendor's checksum file: which SHA-256 it publishes for an archive.

GNU coreutils' form (`HEX  name`), BSD's (`SHA256 (name) = HEX`), and a file that holds one digest alone. Every line
must be understood: what is half read proves nothing.
source: GNU coreutils manual, sha2 utilities; md5(1) of FreeBSD
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from app.errors import InvalidError

MAX_CHECKSUM_BYTES = 4 * 1024 * 1024
MAX_LINES = 50_000

_GNU = re.compile(r"(?P<digest>[0-9A-Fa-f]{8,200})(?:[ \t]+\*?(?P<name>\S(?:.*\S)?))?")
_BSD = re.compile(r"(?P<kind>[A-Za-z0-9/-]+) ?\((?P<name>.+)\) ?= ?(?P<digest>[0-9A-Fa-f]{8,200})")
_OTHER_LENGTHS = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 96: "SHA-384", 128: "SHA-512"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """One line of a checksum file. `name` is None where the file holds one digest alone."""

    line: int
    sha256: str
    name: str | None


def find_checksum(data: bytes, archive: str, *, checksum_name: str) -> Checksum:
    """The SHA-256 that a checksum file publishes for an archive of this name.

    raises: InvalidError about `checksums`, naming file and line.
    """
    checksums = read_checksums(data, checksum_name=checksum_name)
    if len(checksums) == 1 and checksums[0].name is None:
        return checksums[0]
    found = [one for one in checksums if one.name is not None and _last_part(one.name) == archive]
    if not found:
        raise InvalidError(
            f"{checksum_name} names no {archive!a}, but {_some([one.name or '' for one in checksums])}. Give the "
            "archive the name under which the vendor publishes it.",
            field="checksums",
        )
    if len({one.sha256 for one in found}) > 1:
        raise InvalidError(
            f"{checksum_name} names {archive!a} twice with different digests, in lines {found[0].line} and "
            f"{next(one.line for one in found if one.sha256 != found[0].sha256)}.",
            field="checksums",
        )
    return found[0]


def read_checksums(data: bytes, *, checksum_name: str) -> tuple[Checksum, ...]:
    """The lines of a checksum file. raises: InvalidError about `checksums`, naming file and line."""
    if len(data) > MAX_CHECKSUM_BYTES:
        raise InvalidError(f"{checksum_name}: more than {MAX_CHECKSUM_BYTES // 2**20} MB.", field="checksums")
    lines = _decoded(data, checksum_name).splitlines()
    if len(lines) > MAX_LINES:
        raise InvalidError(f"{checksum_name}: more than {MAX_LINES:,} lines.", field="checksums")
    found = []
    for number, text in enumerate(lines, start=1):
        line = text.strip()
        if line and not line.startswith("#"):
            found.append(_read_line(line, number, f"{checksum_name}, line {number}"))
    if not found:
        raise InvalidError(f"{checksum_name} holds no checksum.", field="checksums")
    nameless = next((one for one in found if one.name is None), None)
    if nameless is not None and len(found) > 1:
        raise InvalidError(
            f"{checksum_name}, line {nameless.line}: a digest without a file's name, among others.", field="checksums"
        )
    return tuple(found)


def _read_line(line: str, number: int, where: str) -> Checksum:
    if line.startswith("-----BEGIN PGP"):
        raise InvalidError(
            f"{where}: a signed message. Verify it with gpg, and give what gpg prints (`gpg --decrypt`).",
            field="checksums",
        )
    if line.startswith("\\"):
        raise InvalidError(f"{where}: a name with escaped letters is not taken.", field="checksums")
    found = _BSD.fullmatch(line)
    if found is not None and found["kind"].upper().replace("-", "") != "SHA256":
        raise InvalidError(f"{where}: {found['kind']} is not taken, only SHA-256.", field="checksums")
    found = found or _GNU.fullmatch(line)
    if found is None:
        raise InvalidError(f"{where}: neither `HEX  name` nor `SHA256 (name) = HEX`: {line[:60]!a}.", field="checksums")
    digest = found["digest"].lower()
    if len(digest) != 64:
        kind = _OTHER_LENGTHS.get(len(digest))
        said = f"{kind} is not taken, only SHA-256" if kind else "a SHA-256 has 64 hexadecimal digits"
        raise InvalidError(f"{where}: {said} ({len(digest)} digits).", field="checksums")
    return Checksum(line=number, sha256=digest, name=found["name"])


def _decoded(data: bytes, checksum_name: str) -> str:
    # Windows PowerShell's redirection writes UTF-16 with a byte order mark.
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidError(f"{checksum_name} is no text: is it the archive?", field="checksums") from error
    if "\x00" in text:
        raise InvalidError(f"{checksum_name} is no text: is it the archive?", field="checksums")
    return text


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _some(names: list[str]) -> str:
    shown = ", ".join(f"{name[:80]!a}" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
