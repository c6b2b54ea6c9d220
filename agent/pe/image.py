"""The headers of a PE image, as far as identity needs them: what is hashed, what is signed, where resources are.

source: Microsoft, "PE Format" (DOS header, COFF header, optional header, section table, attribute certificate table).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from agent.pe.source import PeError, Source

MAX_SECTIONS = 96  # the Windows loader takes no more
FILE_IS_DLL = 0x2000
MAX_PE_BYTES = 0xFFFFFFFF  # every offset in the format has 32 bits
RESOURCE_DIRECTORY = 2
SECURITY_DIRECTORY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: where it is in memory (relative address) and where in the file."""

    address: int
    memory_bytes: int
    offset: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the headers say. Offsets are file offsets; a directory that is not there is (0, 0)."""

    is_dll: bool
    is_64_bit: bool
    machine: int
    checksum_offset: int
    security_entry_offset: int | None
    certificates: tuple[int, int]
    resources: tuple[int, int]
    sections: tuple[Section, ...]

    def offset_of(self, address: int, length: int) -> int:
        """The file offset of `length` bytes at a relative address. raises: PeError if no section holds them."""
        for section in self.sections:
            if section.address <= address and address + length <= section.address + section.file_bytes:
                return section.offset + (address - section.address)
        raise PeError(f"no section holds {length} bytes at relative address 0x{address:x}")


def has_pe_signature(source: Source) -> bool:
    """Whether the file begins as a PE image: `MZ`, and `PE\\0\\0` where the DOS header points."""
    if source.size_bytes < 0x40 or source.read(0, 2) != b"MZ":
        return False
    header_offset = _header_offset(source)
    return header_offset + 4 <= source.size_bytes and source.read(header_offset, 4) == b"PE\0\0"


def read_image(source: Source) -> Image:
    """Read the headers of a PE image. raises: PeError naming the part that is wrong."""
    if not has_pe_signature(source):
        raise PeError("no PE signature")
    if source.size_bytes > MAX_PE_BYTES:
        raise PeError("larger than a PE image can be")
    coff_offset = _header_offset(source) + 4
    machine, section_count, _, _, _, optional_bytes, characteristics = struct.unpack(
        "<HHIIIHH", source.read(coff_offset, 20, "the COFF header")
    )
    if section_count > MAX_SECTIONS:
        raise PeError(f"{section_count} sections; Windows loads at most {MAX_SECTIONS}")
    optional_offset = coff_offset + 20
    optional = source.read(optional_offset, optional_bytes, "the optional header")
    if len(optional) < 2:
        raise PeError("no optional header")
    magic = int.from_bytes(optional[:2], "little")
    if magic not in (0x10B, 0x20B):
        raise PeError(f"optional header of unknown kind 0x{magic:x}")
    is_64_bit = magic == 0x20B
    directories_at = 112 if is_64_bit else 96
    if len(optional) < directories_at:
        raise PeError("the optional header is too short")
    directory_count = int.from_bytes(optional[directories_at - 4 : directories_at], "little")
    # Windows reads at most sixteen entries, whatever the header claims.
    directory_count = min(directory_count, 16, (len(optional) - directories_at) // 8)

    def directory(index: int) -> tuple[int, int]:
        if index >= directory_count:
            return (0, 0)
        first, second = struct.unpack_from("<II", optional, directories_at + 8 * index)
        return (int(first), int(second))

    sections = _read_sections(source, optional_offset + optional_bytes, section_count)
    certificates = directory(SECURITY_DIRECTORY)
    if certificates[0] == 0 or certificates[1] == 0:
        certificates = (0, 0)
    image = Image(
        is_dll=bool(characteristics & FILE_IS_DLL),
        is_64_bit=is_64_bit,
        machine=machine,
        checksum_offset=optional_offset + 64,
        security_entry_offset=(
            optional_offset + directories_at + 8 * SECURITY_DIRECTORY if directory_count > SECURITY_DIRECTORY else None
        ),
        certificates=certificates,
        resources=directory(RESOURCE_DIRECTORY),
        sections=sections,
    )
    _check_certificate_place(source, image, optional_offset + optional_bytes + 40 * section_count)
    return image


def _header_offset(source: Source) -> int:
    return int.from_bytes(source.read(0x3C, 4), "little")


def _read_sections(source: Source, table_offset: int, count: int) -> tuple[Section, ...]:
    table = source.read(table_offset, 40 * count, "the section table")
    sections = []
    for index in range(count):
        memory_bytes, address, file_bytes, offset = struct.unpack_from("<IIII", table, 40 * index + 8)
        sections.append(Section(address=address, memory_bytes=memory_bytes, offset=offset, file_bytes=file_bytes))
    return tuple(sections)


def _check_certificate_place(source: Source, image: Image, headers_end: int) -> None:
    offset, length = image.certificates
    if length == 0:
        return
    if offset < headers_end:
        raise PeError("the certificate table overlaps the headers")
    if offset + length > source.size_bytes:
        raise PeError("the certificate table lies outside the file")
