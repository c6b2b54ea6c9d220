"""Makes event log files (EVTX) as Windows writes them: chunks, string tables, templates, values, checksums.

An event is an outer template (`System`, and one value for what the provider says) with an inner one in that value. A
chunk holds each name and template once, where it is first used; later events point there. For large files a few
chunks are made and repeated with other record numbers. What is made here is proven by reading it back with `evtx`.

source: libyal, Windows XML Event Log (EVTX) format; applocker, events
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

CHUNK_BYTES = 65536
FILE_HEADER_BYTES = 4096
RECORDS_AT = 512
EXE = "Microsoft-Windows-AppLocker/EXE and DLL"
SCRIPT = "Microsoft-Windows-AppLocker/MSI and Script"
APPLOCKER = ("Microsoft-Windows-AppLocker", "cbda4dbf-8d5d-4f69-9578-be14aa540d22")
AUDITING = ("Microsoft-Windows-Security-Auditing", "54849625-5478-4994-a5ba-3e3b0328c30d")

_STRING, _U8, _U16, _U32, _U64, _BINARY, _GUID, _FILETIME, _SID, _HEX64, _XML = 1, 4, 6, 8, 10, 14, 15, 17, 19, 21, 33
_FRAGMENT = b"\x0f\x01\x01\x00"
_SINCE_1601_S = 11_644_473_600

Value = tuple[int, bytes]
"""A type's number and the bytes of a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of a template. `text` and what `attributes` hold: a literal, or the number and type of a value."""

    name: str
    attributes: tuple[tuple[str, str | tuple[int, int]], ...] = ()
    children: tuple[Element, ...] = ()
    text: str | tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event to write. `details`: (name, type, bytes) in order, below `UserData/RuleAndFileData` or `EventData`."""

    event_id: int
    at: datetime
    computer: str
    channel: str
    provider: tuple[str, str] = APPLOCKER
    user: str | None = "S-1-5-21-1004336348-1177238915-682003330-1001"
    details: tuple[tuple[str, int, bytes], ...] = ()
    record: int | None = None
    """What `EventRecordID` says, where it is not the number in this file: of forwarded events."""


def applocker_event(
    path: str,
    *,
    at: datetime,
    event_id: int = 8004,
    computer: str = "PC-1.example.com",
    user: str = "S-1-5-21-1004336348-1177238915-682003330-1001",
    sha256: str = "",
    fqbn: str = "-",
    rule_id: str = "00000000-0000-0000-0000-000000000000",
    process_id: int = 4242,
    policy: str = "EXE",
    record: int | None = None,
) -> Event:
    """One of 8002 to 8007, with every value that Windows gives. `path`: as a drive letter's path."""
    short = "%OSDRIVE%" + path[2:].upper() if path[1:2] == ":" else path
    details = (
        *_counted("PolicyName", policy),
        ("RuleId", _GUID, uuid.UUID(rule_id).bytes_le),
        *_counted("RuleName", "-"),
        *_counted("RuleSddl", "-"),
        ("TargetUser", _SID, sid_bytes(user)),
        ("TargetProcessId", _U32, struct.pack("<I", process_id)),
        *_counted("FilePath", short),
        ("FileHashLength", _U32, struct.pack("<I", len(sha256) // 2)),
        ("FileHash", _BINARY, bytes.fromhex(sha256)),
        *_counted("Fqbn", fqbn),
        ("TargetLogonId", _HEX64, struct.pack("<Q", 0x3E7AB)),
        *_counted("FullFilePath", path),
    )
    return Event(
        event_id=event_id,
        at=at,
        computer=computer,
        channel=SCRIPT if event_id in (8005, 8006, 8007) else EXE,
        user=user,
        details=details,
        record=record,
    )


def process_event(path: str, *, at: datetime, computer: str = "PC-1.example.com") -> Event:
    """4688, a process that was started: what other logs are full of."""
    words = {"SubjectUserName": "jdoe", "SubjectDomainName": "EXAMPLE", "NewProcessName": path, "CommandLine": path}
    words |= {"ParentProcessName": r"C:\Windows\explorer.exe", "MandatoryLabel": "S-1-16-8192"}
    details = tuple((name, _STRING, text.encode("utf-16-le")) for name, text in words.items())
    details += (("SubjectLogonId", _HEX64, struct.pack("<Q", 999)), ("NewProcessId", _HEX64, struct.pack("<Q", 4711)))
    return Event(event_id=4688, at=at, computer=computer, channel="Security", provider=AUDITING, details=details)


def sid_bytes(text: str) -> bytes:
    """A SID as Windows stores it."""
    _, revision, authority, *parts = text.split("-")
    numbers = b"".join(struct.pack("<I", int(part)) for part in parts)
    return bytes([int(revision), len(parts)]) + int(authority).to_bytes(6, "big") + numbers


def filetime(at: datetime) -> int:
    """100 ns since 1601."""
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds + _SINCE_1601_S) * 1_000_000 + since.microseconds) * 10


@dataclass(slots=True)
class Chunk:
    """A chunk that was made. `numbers`: where record numbers stand in it, besides in its header."""

    data: bytearray
    first: int
    count: int
    numbers: list[tuple[int, int]] = field(default_factory=list)

    def renumbered(self, first: int) -> bytes:
        """The same chunk whose records begin at another number, sealed again."""
        data = bytearray(self.data)
        for offset, index in self.numbers:
            struct.pack_into("<Q", data, offset, first + index)
        _seal(data, first, self.count)
        return bytes(data)


def make_chunk(events: Iterator[Event], first: int = 1) -> tuple[Chunk, Event | None]:
    """A chunk full of events, and the first that had no room in it (None: there were no more)."""
    building = _Building()
    count = 0
    left = None
    for event in events:
        if not building.add(event, first + count, count):
            left = event
            break
        count += 1
    data = building.data
    struct.pack_into("<III", data, 40, 128, building.last_at, building.end)
    _seal(data, first, count)
    return Chunk(data=data, first=first, count=count, numbers=building.numbers), left


def make_chunks(events: Iterable[Event], first: int = 1) -> list[Chunk]:
    """As many chunks as some events need."""
    rest, chunks = iter(events), []
    left = next(rest, None)
    while left is not None:
        chunk, left = make_chunk(chain([left], rest), first)
        if not chunk.count:
            raise ValueError("an event is larger than a chunk")
        chunks.append(chunk)
        first += chunk.count
    return chunks


def write_evtx(path: Path, events: Iterable[Event], *, first: int = 1) -> int:
    """A whole file. Returns the number of chunks."""
    chunks = make_chunks(events, first)
    header = file_header(len(chunks), first + sum(one.count for one in chunks))
    path.write_bytes(header + b"".join(one.data for one in chunks))
    return len(chunks)


def write_large(path: Path, chunks: Sequence[Chunk], size_bytes: int) -> int:
    """A file of about a size from a few chunks, repeated in turn under new record numbers. Returns the records."""
    wanted = max(1, (size_bytes - FILE_HEADER_BYTES) // CHUNK_BYTES)
    number = 1
    with path.open("wb") as file:
        file.write(bytes(FILE_HEADER_BYTES))
        for index in range(wanted):
            chunk = chunks[index % len(chunks)]
            file.write(chunk.renumbered(number))
            number += chunk.count
        file.seek(0)
        file.write(file_header(wanted, number))
    return number - 1


def file_header(chunks: int, next_record: int, *, flags: int = 0) -> bytes:
    """The first 4096 bytes of a file. `flags` 1: it was not closed."""
    fixed = struct.pack("<QQQIHHHH", 0, chunks - 1, next_record, 128, 1, 3, FILE_HEADER_BYTES, chunks & 0xFFFF)
    head = (b"ElfFile\0" + fixed).ljust(120, b"\0")
    return (head + struct.pack("<II", flags, zlib.crc32(head))).ljust(FILE_HEADER_BYTES, b"\0")


def _seal(data: bytearray, first: int, count: int) -> None:
    """Writes a chunk's record numbers and checksums."""
    data[:8] = b"ElfChnk\0"
    struct.pack_into("<QQQQ", data, 8, first, first + count - 1, first, first + count - 1)
    (end,) = struct.unpack_from("<I", data, 48)
    struct.pack_into("<I", data, 52, zlib.crc32(memoryview(data)[RECORDS_AT:end]))
    struct.pack_into("<I", data, 124, zlib.crc32(memoryview(data)[128:512], zlib.crc32(memoryview(data)[:120])))


def _counted(name: str, text: str) -> tuple[tuple[str, int, bytes], ...]:
    return (
        (f"{name}Length", _U16, struct.pack("<H", len(text))),
        (name, _STRING, text.encode("utf-16-le")),
    )


def _system(provider: tuple[str, str]) -> Element:
    """The outer template: everything that changes is a value, the provider is its own."""
    name, guid = provider
    system = (
        Element(name="Provider", attributes=(("Name", name), ("Guid", "{" + guid + "}"))),
        Element(name="EventID", text=(0, _U16)),
        Element(name="Version", text=(1, _U8)),
        Element(name="Level", text=(2, _U8)),
        Element(name="Task", text=(3, _U16)),
        Element(name="Opcode", text=(4, _U8)),
        Element(name="Keywords", text=(5, _HEX64)),
        Element(name="TimeCreated", attributes=(("SystemTime", (6, _FILETIME)),)),
        Element(name="EventRecordID", text=(7, _U64)),
        Element(name="Correlation"),
        Element(name="Execution", attributes=(("ProcessID", (8, _U32)), ("ThreadID", (9, _U32)))),
        Element(name="Channel", text=(10, _STRING)),
        Element(name="Computer", text=(11, _STRING)),
        Element(name="Security", attributes=(("UserID", (12, _SID)),)),
    )
    return Element(
        name="Event",
        attributes=(("xmlns", "http://schemas.microsoft.com/win/2004/08/events/event"),),
        children=(Element(name="System", children=system), Element(name="UserData", text=(13, _XML)))
        if provider == APPLOCKER
        else (Element(name="System", children=system),),
        text=None if provider == APPLOCKER else (13, _XML),
    )


def _inner(event: Event) -> Element:
    if event.provider == APPLOCKER:
        fields = tuple(Element(name=name, text=(n, kind)) for n, (name, kind, _) in enumerate(event.details))
        xmlns = "http://schemas.microsoft.com/schemas/event/Microsoft.Windows/1.0.0.0"
        return Element(name="RuleAndFileData", attributes=(("xmlns", xmlns),), children=fields)
    fields = tuple(
        Element(name="Data", attributes=(("Name", name),), text=(n, kind))
        for n, (name, kind, _) in enumerate(event.details)
    )
    return Element(name="EventData", children=fields)


class _Building:
    """One chunk while it is filled; names and templates are remembered by where they stand."""

    def __init__(self) -> None:
        self.data = bytearray(CHUNK_BYTES)
        self.end = RECORDS_AT
        self.last_at = RECORDS_AT
        self.numbers: list[tuple[int, int]] = []
        self._names: dict[str, int] = {}
        self._templates: dict[Element, int] = {}

    def add(self, event: Event, number: int, index: int) -> bool:
        """Writes an event; False, and nothing is changed, if it has no room."""
        known = dict(self._names), dict(self._templates), bytes(self.data[128:512]), len(self.numbers)
        start = self.end
        out = bytearray(24)
        inner = _inner(event)
        said = event.record if event.record is not None else number
        values: list[Value] = [
            (_U16, struct.pack("<H", event.event_id)),
            (_U8, b"\0"),
            (_U8, b"\2"),
            (_U16, b"\0\0"),
            (_U8, b"\0"),
            (_HEX64, struct.pack("<Q", 0x8000000000000000)),
            (_FILETIME, struct.pack("<Q", filetime(event.at))),
            (_U64, struct.pack("<Q", said)),
            (_U32, struct.pack("<I", 812)),
            (_U32, struct.pack("<I", 5120)),
            (_STRING, event.channel.encode("utf-16-le")),
            (_STRING, event.computer.encode("utf-16-le")),
            (_SID, sid_bytes(event.user)) if event.user else (0, b""),
        ]
        numbered = index if event.record is None else None
        self._instance(out, start, _system(event.provider), values, (inner, event), numbered)
        out += b"\0"
        out += bytes(-len(out) % 8 + 4)
        size = len(out)
        if start + size > CHUNK_BYTES:
            self._names, self._templates = known[0], known[1]
            self.data[128:512] = known[2]
            del self.numbers[known[3] :]
            return False
        struct.pack_into("<4sIQQ", out, 0, b"**\0\0", size, number, filetime(event.at))
        struct.pack_into("<I", out, size - 4, size)
        self.numbers.append((start + 8, index))
        self.data[start : start + size] = out
        self.last_at, self.end = start, start + size
        return True

    def _instance(
        self,
        out: bytearray,
        start: int,
        template: Element,
        values: Sequence[Value],
        inside: tuple[Element, Event] | None,
        numbered: int | None,
    ) -> None:
        """A fragment with one template's instance. `start`: where in the chunk `out` will stand."""
        out += _FRAGMENT
        out += b"\x0c\x01"
        identifier = uuid.uuid5(uuid.NAMESPACE_OID, repr(template))
        (short,) = struct.unpack("<I", identifier.bytes_le[:4])
        known = self._templates.get(template)
        if known is not None:
            out += struct.pack("<II", short, known)
        else:
            here = start + len(out) + 8
            out += struct.pack("<II", short, here)
            bucket = 384 + short % 32 * 4
            (next_one,) = struct.unpack_from("<I", self.data, bucket)
            struct.pack_into("<I", self.data, bucket, here)
            self._templates[template] = here
            out += struct.pack("<I", next_one) + identifier.bytes_le + bytes(4)
            size_at, before = len(out) - 4, len(out)
            out += _FRAGMENT
            self._element(out, start, template)
            out += b"\0"
            struct.pack_into("<I", out, size_at, len(out) - before)
        count = len(values) + (inside is not None)
        out += struct.pack("<I", count)
        table = len(out)
        out += bytes(4 * count)
        for n, (kind, value) in enumerate(values):
            struct.pack_into("<HBB", out, table + 4 * n, len(value), kind, 0)
            if n == 7 and inside is not None and numbered is not None:
                self.numbers.append((start + len(out), numbered))
            out += value
        if inside is not None:
            before = len(out)
            element, event = inside
            self._instance(out, start, element, [(kind, value) for _, kind, value in event.details], None, None)
            out += b"\0"
            struct.pack_into("<HBB", out, table + 4 * (count - 1), len(out) - before, _XML, 0)

    def _element(self, out: bytearray, start: int, element: Element) -> None:
        out += b"\x41" if element.attributes else b"\x01"
        out += struct.pack("<H", element.text[0] if isinstance(element.text, tuple) else 0xFFFF)
        size_at = len(out)
        out += bytes(4)
        self._name(out, start, element.name)
        if element.attributes:
            list_at = len(out)
            out += bytes(4)
            for n, (name, value) in enumerate(element.attributes):
                out += b"\x06" if n == len(element.attributes) - 1 else b"\x46"
                self._name(out, start, name)
                self._content(out, value)
            struct.pack_into("<I", out, list_at, len(out) - list_at - 4)
        if not element.children and element.text is None:
            out += b"\x03"
        else:
            out += b"\x02"
            for child in element.children:
                self._element(out, start, child)
            if element.text is not None:
                self._content(out, element.text)
            out += b"\x04"
        struct.pack_into("<I", out, size_at, len(out) - size_at - 4)

    def _content(self, out: bytearray, value: str | tuple[int, int]) -> None:
        if isinstance(value, str):
            out += b"\x05\x01" + struct.pack("<H", len(value)) + value.encode("utf-16-le")
        else:
            out += struct.pack("<BHB", 0x0E, value[0], value[1])

    def _name(self, out: bytearray, start: int, name: str) -> None:
        known = self._names.get(name)
        if known is not None:
            out += struct.pack("<I", known)
            return
        here = start + len(out) + 4
        out += struct.pack("<I", here)
        digest = 0
        for character in name:
            digest = (digest * 65599 + ord(character)) & 0xFFFFFFFF
        bucket = 128 + (digest & 0xFFFF) % 64 * 4
        (next_one,) = struct.unpack_from("<I", self.data, bucket)
        struct.pack_into("<I", self.data, bucket, here)
        self._names[name] = here
        out += struct.pack("<IHH", next_one, digest & 0xFFFF, len(name)) + name.encode("utf-16-le") + b"\0\0"
