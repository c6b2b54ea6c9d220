"""Malformed images: one declared error or a plain answer, quickly, and never more memory than the file deserves."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.pe import FileIdentity, PeError, identify
from agent.pe.der import OCTET_STRING, SEQUENCE, object_id, read_children, read_node
from agent.pe.names import publisher_name
from agent.pe.signature import parse_signature
from agent.pe.version import parse_version_info

Build = Callable[..., bytes]

OPTIONAL_AT = 0x40 + 24
SECURITY_ENTRY_AT = OPTIONAL_AT + 112 + 32


def identify_or_refuse(data: bytes) -> FileIdentity | None:
    try:
        return identify(data)
    except PeError as error:
        return None if str(error) else pytest.fail("an error without a message")


@pytest.fixture(scope="module")
def rich_image(build_pe: Build, build_version: Build, sign_pe: Build) -> bytes:
    """A signed image with a version resource and data behind its sections: every parser has something to read."""
    resource = build_version({"ProductName": "Product", "OriginalFilename": "a.exe"}, (1, 2, 3, 4))
    return sign_pe(build_pe(version=resource, overlay=b"overlay"))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0x40 + 6, struct.pack("<H", 97), "97 sections"),
        (0x40 + 6, struct.pack("<H", 96), "section table"),
        (0x40 + 20, struct.pack("<H", 0), "no optional header"),
        (0x40 + 20, struct.pack("<H", 90), "too short"),
        (0x40 + 20, struct.pack("<H", 0xFFFF), "optional header"),
        (OPTIONAL_AT, struct.pack("<H", 0x107), "unknown kind 0x107"),
        (SECURITY_ENTRY_AT, struct.pack("<II", 0x400, 0xFFFFFFFF), "lies outside"),
        (SECURITY_ENTRY_AT, struct.pack("<II", 0xFFFFFFF8, 0xFFFFFFF8), "lies outside"),
        (SECURITY_ENTRY_AT, struct.pack("<II", 8, 16), "overlaps the headers"),
    ],
)
def test_headers_that_lie_are_refused_by_name(build_pe: Build, offset: int, value: bytes, message: str) -> None:
    image = bytearray(build_pe())
    if message == "section table":
        image = image[:0x400]
    image[offset : offset + len(value)] = value
    with pytest.raises(PeError, match=message):
        identify(bytes(image))


def test_a_file_that_only_begins_like_an_image_has_a_flat_hash(build_pe: Build) -> None:
    image = bytearray(build_pe())
    image[0x3C:0x40] = b"\xff\xff\xff\xff"
    assert identify(bytes(image)).kind == "other"
    assert identify(b"MZ" + bytes(100)).authenticode_sha256 is None


def test_headers_may_overlap_as_in_the_smallest_images() -> None:
    image = bytearray(0x200)
    image[0:2] = b"MZ"
    image[4:8] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", image, 8, 0x14C, 0, 0, 0, 0, 96, 2)
    struct.pack_into("<H", image, 28, 0x10B)
    struct.pack_into("<I", image, 0x3C, 4)
    assert identify(bytes(image)).kind == "exe"


def test_a_huge_claimed_certificate_table_is_not_read(build_pe: Build, tmp_path: Path) -> None:
    image = bytearray(build_pe())
    length = 64 * 1024 * 1024
    image[SECURITY_ENTRY_AT : SECURITY_ENTRY_AT + 8] = struct.pack("<II", len(image), length)
    file = tmp_path / "huge.exe"
    with file.open("wb") as opened:
        opened.write(image)
        opened.truncate(len(image) + length)  # sparse
    tracemalloc.start()
    try:
        identity = identify(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert identity.signature == "broken"
    assert "at most" in identity.problems[0]
    assert peak < 16 * 1024 * 1024


def test_truncation_anywhere(rich_image: bytes) -> None:
    for length in [*range(0, 0x600, 7), *range(0x600, len(rich_image), 97)]:
        identify_or_refuse(rich_image[:length])


def test_one_byte_changed_anywhere(rich_image: bytes) -> None:
    """A changed byte changes the hash or is one of those that do not count; a publisher never outlives its file."""
    original = identify(rich_image)
    choice = random.Random(20261121)
    for _ in range(1500):
        at = choice.randrange(len(rich_image))
        changed = bytearray(rich_image)
        changed[at] ^= 1 << choice.randrange(8)
        identity = identify_or_refuse(bytes(changed))
        if identity is None or identity.kind == "other":
            continue
        if identity.authenticode_sha256 != original.authenticode_sha256:
            assert identity.publisher is None, f"byte {at}: a signature counted for a file that it does not cover"


def test_random_garbage_in_every_region(rich_image: bytes) -> None:
    choice = random.Random(4711)
    for _ in range(400):
        changed = bytearray(rich_image)
        for _ in range(choice.randrange(1, 6)):
            at = choice.randrange(len(changed))
            piece = choice.choice([b"\xff" * 4, b"\0" * 4, b"\x80\0\0\0", choice.randbytes(8), choice.randbytes(64)])
            changed[at : at + len(piece)] = piece
        identify_or_refuse(bytes(changed[: choice.randrange(len(changed) // 2, len(changed) + 1)]))


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_after_a_pe_beginning(data: bytes) -> None:
    identify_or_refuse(b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40) + b"PE\0\0" + data)


@settings(max_examples=150, deadline=2000)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_signature_or_a_version_resource(data: bytes) -> None:
    for parse in (parse_signature, parse_version_info, lambda content: read_children(read_node(content)[0], "x")):
        with contextlib.suppress(PeError):
            parse(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too early"),
        (b"\x30", "too early"),
        (b"\x30\x80\0\0", "indefinite"),
        (b"\x30\x81\x05hello", "overlong"),
        (b"\x30\x82\x00\x80" + bytes(128), "overlong"),
        (b"\x30\x85\0\0\0\0\1x", "more than four"),
        (b"\x30\x05abc", "over its container"),
        (b"\x30\x84\xff\xff\xff\xffabc", "over its container"),
        (b"\x3f\x81\x01x", "several bytes"),
    ],
)
def test_der_is_strict(data: bytes, message: str) -> None:
    with pytest.raises(PeError, match=message):
        read_node(data)


def test_der_reads_what_is_right() -> None:
    node, end = read_node(b"\x30\x05\x04\x03abcrest")
    assert (node.tag, end) == (SEQUENCE, 7)
    assert [(child.tag, child.content) for child in read_children(node, "x")] == [(OCTET_STRING, b"abc")]
    assert object_id(read_node(b"\x06\x06\x2a\x86\x48\x86\xf7\x0d")[0]) == "1.2.840.113549"
    assert object_id(read_node(b"\x06\x03\x88\x37\x03")[0]) == "2.999.3"
    with pytest.raises(PeError, match="malformed"):
        object_id(read_node(b"\x06\x02\x80\x01")[0])


def test_a_chain_of_directories_that_points_at_itself_ends(build_pe: Build, build_version: Build) -> None:
    image = bytearray(build_pe(version=build_version({}, (1, 0, 0, 0))))
    tree_at = 0x600
    image[tree_at + 20 : tree_at + 24] = struct.pack("<I", 0x80000000)  # back to the root
    assert identify(bytes(image)).version is None


names = st.lists(
    st.tuples(st.tuples(st.sampled_from(["C", "S", "L", "O", "OU", "CN"]), st.text(max_size=8))).map(tuple), max_size=6
).map(tuple)


@given(names)
def test_any_subject_makes_a_publisher(name: tuple[tuple[tuple[str, str], ...], ...]) -> None:
    publisher = publisher_name(name)
    assert publisher.count('"') % 2 == 0 or not publisher
