"""The smallest PE image that has an Authenticode hash, different for each content."""

from __future__ import annotations

import struct


def small_program(code: bytes = b"\xc3", *, is_dll: bool = False) -> bytes:
    """A 64-bit image with one section that holds `code`."""
    raw = code + bytes(-len(code) % 0x200)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, len(raw), 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<Q", 0x140000000) + struct.pack("<IIHHHHHHI", 0x1000, 0x200, 6, 0, 0, 0, 6, 0, 0)
    optional += struct.pack("<IIIHH", 0x2000, 0x400, 0, 3, 0x8160) + struct.pack("<4Q", 0x100000, 0x1000, 0x100000, 0)
    optional += struct.pack("<II", 0, 16) + bytes(16 * 8)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x2022 if is_dll else 0x22)
    section = struct.pack("<8sIIIIIIHHI", b".text", len(code), 0x1000, len(raw), 0x400, 0, 0, 0, 0, 0x60000020)
    head = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40) + b"PE\0\0" + coff + optional + section
    return head + bytes(0x400 - len(head)) + raw
