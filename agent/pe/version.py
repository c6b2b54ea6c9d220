"""The version resource of a PE image: product, original file name and file version.

Names come from the string table of the first translation listed, as AppLocker takes them; the version from the binary
VS_FIXEDFILEINFO, never from text.

source: Microsoft, "PE Format" (the .rsrc section) and "VS_VERSIONINFO structure"; AaronLocker 2,
AppLockerFileInformation (first translation, OriginalFilename).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.pe.image import Image
from agent.pe.source import PeError, Source

VERSION_RESOURCE = 16
MAX_DIRECTORY_ENTRIES = 4096
MAX_BLOCKS = 1024
FIXED_SIGNATURE = 0xFEEF04BD
LANGUAGE_NEUTRAL = 0
LANGUAGE_ENGLISH_US = 0x409


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What a version resource says. `version`: four numbers with dots, from the binary part."""

    version: str | None
    product: str | None
    original_name: str | None


def read_version_info(source: Source, image: Image) -> VersionInfo | None:
    """The version resource, None if there is none. raises: PeError if it is malformed."""
    base, length = image.resources
    if base == 0 or length == 0:
        return None
    kind = _find_entry(source, image, base, 0, (VERSION_RESOURCE,))
    if kind is None:
        return None
    name = _find_entry(source, image, base, _subdirectory(kind), ())
    if name is None:
        return None
    language = _find_entry(source, image, base, _subdirectory(name), (LANGUAGE_NEUTRAL, LANGUAGE_ENGLISH_US))
    if language is None:
        return None
    if language & 0x80000000:
        raise PeError("the version resource is a directory")
    data_at = image.offset_of(base + language, 16)
    address, size = struct.unpack("<II", source.read(data_at, 8, "the version resource's entry"))
    if size > 0xFFFF:
        raise PeError("the version resource is larger than it can be")
    return parse_version_info(source.read(image.offset_of(address, size), size, "the version resource"))


def _subdirectory(entry: int) -> int:
    if not entry & 0x80000000:
        raise PeError("the resource tree ends too early")
    return entry & 0x7FFFFFFF


def _find_entry(source: Source, image: Image, base: int, directory: int, wanted: tuple[int, ...]) -> int | None:
    """The entry of the first wanted id that is there; with none wanted, or for a language, the first entry."""
    header_at = image.offset_of(base + directory, 16)
    named, numbered = struct.unpack("<HH", source.read(header_at + 12, 4, "a resource directory"))
    count = named + numbered
    if count > MAX_DIRECTORY_ENTRIES:
        raise PeError(f"a resource directory has {count} entries")
    entries_at = image.offset_of(base + directory + 16, 8 * count) if count else 0
    table = source.read(entries_at, 8 * count, "a resource directory")
    entries = [struct.unpack_from("<II", table, 8 * index) for index in range(count)]
    for identifier in wanted:
        for key, target in entries:
            if key == identifier:
                return int(target)
    if wanted == (VERSION_RESOURCE,) or not entries:
        return None
    return int(entries[0][1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One node of the version resource: key, value (bytes as announced), and what follows the key."""

    key: str
    value: bytes
    rest: bytes
    children: bytes


def parse_version_info(data: bytes) -> VersionInfo:
    """The content of a version resource. raises: PeError"""
    root = next(_blocks(data), None)
    if root is None or root.key != "VS_VERSION_INFO":
        raise PeError("the version resource has no VS_VERSION_INFO")
    tables: dict[str, dict[str, str]] = {}
    translations: list[str] = []
    for block in _blocks(root.children):
        if block.key == "StringFileInfo":
            for table in _blocks(block.children):
                strings = tables.setdefault(table.key.upper(), {})
                for entry in _blocks(table.children):
                    strings.setdefault(entry.key.upper(), _text(entry.rest))
        elif block.key == "VarFileInfo":
            for entry in _blocks(block.children):
                if entry.key == "Translation":
                    for at in range(0, len(entry.value) - 3, 4):
                        language, codepage = struct.unpack_from("<HH", entry.value, at)
                        translations.append(f"{language:04X}{codepage:04X}")
    strings = tables.get(translations[0], {}) if translations else {}
    return VersionInfo(
        version=_fixed_version(root.value),
        product=strings.get("PRODUCTNAME") or None,
        original_name=strings.get("ORIGINALFILENAME") or None,
    )


def _fixed_version(value: bytes) -> str | None:
    if len(value) < 16 or int.from_bytes(value[:4], "little") != FIXED_SIGNATURE:
        return None
    high, low = struct.unpack_from("<II", value, 8)
    return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"


def _blocks(data: bytes) -> Iterator[_Block]:
    """The blocks that lie one after the other in `data`, each begun at a multiple of four bytes."""
    at = 0
    for _ in range(MAX_BLOCKS):
        if at + 6 > len(data):
            return
        length, value_length, kind = struct.unpack_from("<HHH", data, at)
        if length == 0 and not any(data[at:]):
            return  # zeros at the end pad the resource
        if length < 6 or at + length > len(data):
            raise PeError("a block of the version resource has a wrong length")
        block = data[at : at + length]
        key_end = 6
        while block[key_end : key_end + 2] not in (b"\0\0", b"", b"\0"):
            key_end += 2
        value_at = _aligned(key_end + 2)
        # Strings count in characters, other values in bytes; some compilers mix that up, hence the bound.
        value_end = min(value_at + value_length * (2 if kind == 1 else 1), length)
        yield _Block(
            key=block[6:key_end].decode("utf-16-le", "replace"),
            value=block[value_at:value_end],
            rest=block[value_at:],
            children=block[_aligned(value_end) :],
        )
        at += _aligned(length)
    raise PeError("too many blocks in the version resource")


def _aligned(offset: int) -> int:
    return offset + (-offset % 4)


def _text(value: bytes) -> str:
    return value.decode("utf-16-le", "replace").partition("\0")[0]
