"""Event log files (EVTX), a stretch of chunks at a time: checked, thinned of what nobody wants, then read by `evtx`.

A chunk of 64 KB stands by itself: its names and templates are in it. So a file can be read from any chunk on, and by
several processes. A template tells which provider's events it writes; those of other providers are taken out of a chunk
before it is parsed, by making each a part of the record before it, and are counted.
source: libyal, Windows XML Event Log (EVTX) format
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO

from evtx import PyEvtxParser

from app.imports.events import look_at_event
from app.imports.model import FileError, Part, Reasons
from app.imports.uv_files import UvFiles

MAGIC = b"ElfFile\0"
HEADER_BYTES = 4096
CHUNK_BYTES = 65536
STRETCH_CHUNKS = 64
STRETCH_BYTES = STRETCH_CHUNKS * CHUNK_BYTES

_CHUNK_MAGIC = b"ElfChnk\0"
_RECORDS_AT = 512
_RECORD = struct.Struct("<4sIQQ4sHII")
"""Signature, size, number, time; then how its XML begins: fragment, template token, template's id, its place."""
_RECORD_MAGIC = b"**\0\0"
_FRAGMENT = b"\x0f\x01\x01\x00"
_TEMPLATE = 0x010C
_UINT32 = struct.Struct("<I")
_WANTED_WORDS = tuple(
    word.encode("utf-16-le") for word in ("AppLocker", "CodeIntegrity", "SoftwareRestrictionPolicies")
)
_PROVIDER_NAMED = "Microsoft-Windows-".encode("utf-16-le")
_NOT_CLOSED = 1
_REFUSALS = frozenset({"8003<", "8004<", "8006<", "8007<"})
_UNSEEN = object()
_MOST_RECORDS = (CHUNK_BYTES - _RECORDS_AT) // _RECORD.size


def check_header(header: bytes) -> bool:
    """Whether the log was still open when the file was copied. raises: FileError for what is no event log file."""
    if not header.startswith(MAGIC) or len(header) < HEADER_BYTES:
        raise FileError("this is no event log file (EVTX), or only the beginning of one")
    major, block_bytes = struct.unpack_from("<HH", header, 38)
    if major != 3 or block_bytes != HEADER_BYTES:
        raise FileError(
            f"an event log file of a kind that is not known: version {major}, header of {block_bytes} bytes"
        )
    return bool(_UINT32.unpack_from(header, 120)[0] & _NOT_CLOSED)


def read_stretch(file: BinaryIO, offset: int, files: UvFiles, *, is_open: bool, chunks: int = STRETCH_CHUNKS) -> Part:
    """The events of some chunks from a place in the file on. `is_open`: checksums may be behind (see check_header)."""
    file.seek(offset)
    data = bytearray(file.read(chunks * CHUNK_BYTES))
    part = Part(after={"offset": offset + len(data)})
    sound = []
    for start in range(0, len(data), CHUNK_BYTES):
        chunk = data[start : start + CHUNK_BYTES]
        place = f"chunk {(offset - HEADER_BYTES + start) // CHUNK_BYTES + 1}"
        if len(chunk) == CHUNK_BYTES and not any(chunk[:_RECORDS_AT]):
            continue  # kept for later events, and not used yet
        fault = _fault_of(chunk, is_open)
        if fault:
            part.add_problem(place, fault, Reasons.CORRUPT_CHUNK)
            part.left_out[Reasons.CORRUPT_CHUNK] += max(_count_said(chunk) - 1, 0)
            part.read += max(_count_said(chunk), 1)
        elif (dropped := _thin(chunk)) is None:
            sound.append(chunk)
        else:
            part.read += dropped[0]
            part.left_out[Reasons.OTHER_EVENT] += dropped[0]
            if dropped[1]:
                sound.append(chunk)
    if sound:
        _read_chunks(b"".join(sound), len(sound), files, part)
    part.left_out = +part.left_out  # without what is nought
    return part


def _read_chunks(chunks: bytes, count: int, files: UvFiles, part: Part) -> None:
    """Reads sound chunks, as a file of their own. What the parser stumbles over is told and passed over."""
    content = io.BytesIO(_header_for(count) + chunks)
    try:
        records = PyEvtxParser(content, number_of_threads=1, indent=False).records()
    except (RuntimeError, OSError, ValueError) as error:
        part.read += 1
        part.add_problem("some chunks", str(error)[:200], Reasons.CORRUPT_CHUNK)
        return
    known, not_of_uv = files.known, 0
    for _ in range(count * _MOST_RECORDS):  # each turn passes over one error
        try:
            for record in records:
                xml: str = record["data"]  # type: ignore[index]  # a record, whatever its stub says
                # Most are of a refused file of nobody's, seen before: for these nothing is called.
                start = xml.find("<EventID>") + 9
                if xml[start : start + 5] in _REFUSALS:
                    start = xml.find("<FullFilePath>", start) + 14
                    if known.get(xml[start : xml.find("<", start)], _UNSEEN) is None:
                        not_of_uv += 1
                        continue
                look_at_event(xml, files, part, record["event_record_id"], is_regular=True)  # type: ignore[index]  # the reader's records are dictionaries, typed as objects
            break
        except RuntimeError as error:
            part.read += 1
            words = str(error)[:200]
            part.add_problem("a record", words, Reasons.CORRUPT_CHUNK if "parse chunk" in words else Reasons.DAMAGED)
    part.read += not_of_uv
    part.left_out[Reasons.NOT_OF_UV] += not_of_uv


def _header_for(chunks: int) -> bytes:
    head = struct.pack("<8sQQQIHHHH", MAGIC, 0, chunks - 1, 1, 128, 1, 3, HEADER_BYTES, chunks).ljust(120, b"\0")
    return (head + struct.pack("<II", 0, zlib.crc32(head))).ljust(HEADER_BYTES, b"\0")


def _fault_of(chunk: bytearray, is_open: bool) -> str:
    """What is wrong with a chunk as a whole; nothing for a sound one."""
    if len(chunk) < CHUNK_BYTES:
        return f"the file ends within it, after {len(chunk)} bytes"
    if not chunk.startswith(_CHUNK_MAGIC):
        return "does not begin as a chunk does"
    last, end, events_sum = struct.unpack_from("<III", chunk, 44)
    if not _RECORDS_AT <= end <= CHUNK_BYTES or last > end:
        return "says that its records end outside of it"
    if is_open:
        return ""
    view = memoryview(chunk)
    if zlib.crc32(view[128:_RECORDS_AT], zlib.crc32(view[:120])) != _UINT32.unpack_from(chunk, 124)[0]:
        return "its header does not have the checksum that it says"
    if zlib.crc32(view[_RECORDS_AT:end]) != events_sum:
        return "its records do not have the checksum that it says"
    return ""


def _count_said(chunk: bytearray) -> int:
    """How many records a chunk says it has, if that can be."""
    if len(chunk) < 24:
        return 0
    first, last = struct.unpack_from("<QQ", chunk, 8)
    return last - first + 1 if 0 < first <= last < first + _MOST_RECORDS else 0


def _thin(chunk: bytearray) -> tuple[int, int] | None:
    """Takes the records of other providers out of a chunk; (taken out, left). None, and nothing is changed, in doubt.

    The first record stays, as the others become parts of what stands before them.
    """
    (end,) = _UINT32.unpack_from(chunk, 48)
    wanted: dict[int, bool] = {}
    keep: list[int] = []
    sizes: list[int] = []
    at, dropped = _RECORDS_AT, 0
    while at < end:
        if at + _RECORD.size > end:
            return None
        magic, size, _, _, fragment, token, _, template = _RECORD.unpack_from(chunk, at)
        if (
            magic != _RECORD_MAGIC
            or fragment != _FRAGMENT
            or token != _TEMPLATE
            or size < _RECORD.size
            or at + size > end
        ):
            return None
        is_wanted = wanted.get(template)
        if is_wanted is None:
            is_wanted = wanted[template] = _is_wanted(chunk, template)
        if is_wanted or not keep:
            keep.append(at)
            sizes.append(size)
        else:
            sizes[-1] += size
            dropped += 1
        at += size
    if not any(wanted.values()):
        return len(keep) + dropped, 0
    if dropped:
        for start, size in zip(keep, sizes, strict=True):
            _UINT32.pack_into(chunk, start + 4, size)
            _UINT32.pack_into(chunk, start + size - 4, size)
    return dropped, len(keep)


def _is_wanted(chunk: bytearray, template: int) -> bool:
    """Whether a template may be one of a provider whose events tell refusals; in doubt it may."""
    if not _RECORDS_AT <= template <= CHUNK_BYTES - 24:
        return True
    (size,) = _UINT32.unpack_from(chunk, template + 20)
    definition = bytes(chunk[template + 24 : template + 24 + size])
    return _PROVIDER_NAMED not in definition or any(word in definition for word in _WANTED_WORDS)
