"""A checksum file is understood line by line, or refused with the line."""

from __future__ import annotations

import pytest

from app.errors import InvalidError
from app.policies.checksums import find_checksum

ONE, TWO = "a" * 64, "B" * 64


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{ONE}  uv.zip\n", 1),
        (f"{TWO}  other.zip\n{ONE} *uv.zip\r\n", 2),
        (f"# a comment\n\nSHA256 (uv.zip) = {ONE.upper()}\n", 3),
        (f"SHA-256 (dist/uv.zip) = {ONE}", 1),
        (f"{ONE}  ./dist/uv.zip\n", 1),
        (f"{ONE}\n", 1),
        (f"\ufeff{ONE}\tuv.zip\n", 1),
    ],
)
def test_what_vendors_publish_is_read(text: str, line: int) -> None:
    for data in (text.encode(), text.removeprefix("\ufeff").encode("utf-16")):
        found = find_checksum(data, "uv.zip", checksum_name="SHA256SUMS")
        assert (found.sha256, found.line) == (ONE, line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no checksum"),
        (f"{ONE}  other.zip", "names no 'uv.zip', but 'other.zip'"),
        (f"{ONE}  uv.zip\n{TWO}  uv.zip", "lines 1 and 2"),
        (f"{ONE}  uv.zip\nnonsense", "SHA256SUMS, line 2: neither"),
        (f"{ONE[:40]}  uv.zip", "line 1: SHA-1 is not taken"),
        (f"{ONE}{ONE}  uv.zip", "SHA-512"),
        (f"{ONE[:50]}  uv.zip", "64 hexadecimal digits"),
        (f"MD5 (uv.zip) = {ONE[:32]}", "MD5 is not taken"),
        (f"\\{ONE}  uv\\n.zip", "escaped"),
        ("-----BEGIN PGP SIGNED MESSAGE-----", "gpg"),
        (f"{ONE}\n{TWO}  uv.zip", "line 1: a digest without"),
    ],
)
def test_what_is_not_understood_names_file_and_line(text: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said) as refused:
        find_checksum(text.encode(), "uv.zip", checksum_name="SHA256SUMS")
    assert refused.value.field == "checksums"


def test_an_archive_in_the_place_of_the_checksums_is_noticed() -> None:
    with pytest.raises(InvalidError, match="is it the archive"):
        find_checksum(b"PK\x03\x04\xff\x00", "uv.zip", checksum_name="uv.zip")
