"""The hashes of a file: Authenticode over a PE image, flat over anything.

The Authenticode hash of a PE image leaves out three things, so that signing does not change it: the CheckSum field, the
entry of the certificate table in the data directory, and the certificate table itself. Whatever else is in the file
counts, data after the last section too. An unsigned image is hashed as if padded with zeros to a multiple of eight
bytes, because that is what signing would do to it.

source: Microsoft, "Windows Authenticode Portable Executable Signature Format" (2008), "Calculating the PE Image Hash".
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from agent.pe.image import Image
from agent.pe.source import Source

ALGORITHMS = ("sha1", "sha256", "sha384", "sha512", "md5")


def flat_sha256(source: Source) -> str:
    """SHA-256 over the whole file, 64 lower-case hex digits."""
    flat = hashlib.sha256()
    for _, chunk in source.chunks():
        flat.update(chunk)
    return flat.hexdigest()


def hash_image(
    source: Source, image: Image, algorithms: Collection[str] = ("sha256",)
) -> tuple[str, Mapping[str, bytes]]:
    """The flat SHA-256 (hex) and, per algorithm, the Authenticode digest of an image, in one pass over the file."""
    flat = hashlib.sha256()
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    hashed = hashed_ranges(image, source.size_bytes)
    for offset, chunk in source.chunks():
        flat.update(chunk)
        view = memoryview(chunk)
        for begin, end in hashed:
            first = max(begin, offset)
            last = min(end, offset + len(chunk))
            if first < last:
                for digest in digests.values():
                    digest.update(view[first - offset : last - offset])
    if image.certificates == (0, 0):
        padding = bytes(-source.size_bytes % 8)
        for digest in digests.values():
            digest.update(padding)
    return flat.hexdigest(), {name: digest.digest() for name, digest in digests.items()}


def hashed_ranges(image: Image, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """The byte ranges [begin, end) of the file that the Authenticode hash covers, in order."""
    left_out = [(image.checksum_offset, image.checksum_offset + 4)]
    if image.security_entry_offset is not None:
        left_out.append((image.security_entry_offset, image.security_entry_offset + 8))
    if image.certificates != (0, 0):
        begin, length = image.certificates
        left_out.append((begin, begin + length))
    ranges = []
    position = 0
    for begin, end in sorted(left_out):
        if position < begin:
            ranges.append((position, begin))
        position = max(position, end)
    if position < size_bytes:
        ranges.append((position, size_bytes))
    return tuple(ranges)
