"""What identity says of signed, unsigned and real files, held against osslsigncode and lief."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import lief
import pytest

from agent.pe import PeError, identify

Build = Callable[..., bytes]


def lief_digest(image: bytes, algorithm: lief.PE.ALGORITHMS = lief.PE.ALGORITHMS.SHA_256) -> str:
    parsed = lief.PE.parse(list(image))
    assert isinstance(parsed, lief.PE.Binary)
    return bytes(parsed.authentihash(algorithm)).hex()


def osslsigncode_digest(program: str, image: bytes, folder: Path) -> str:
    """The digest that osslsigncode calculates when it verifies (the chain is not trusted, and need not be)."""
    file = folder / "verified.exe"
    file.write_bytes(image)
    done = subprocess.run([program, "verify", "-in", str(file)], capture_output=True, text=True, timeout=60)
    found = re.search(r"Calculated message digest\s*:\s*([0-9A-F]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return found[1].lower()


@pytest.mark.parametrize("is_64_bit", [True, False])
@pytest.mark.parametrize("overlay", [b"", b"data after the last section", bytes(16), b"x" * 8])
def test_signing_does_not_change_the_hash(
    build_pe: Build, sign_pe: Build, osslsigncode: str, tmp_path: Path, is_64_bit: bool, overlay: bytes
) -> None:
    image = build_pe(is_64_bit=is_64_bit, overlay=overlay)
    signed = sign_pe(image)
    unsigned_identity, signed_identity = identify(image), identify(signed)
    assert signed_identity.authenticode_sha256 == osslsigncode_digest(osslsigncode, signed, tmp_path)
    assert signed_identity.authenticode_sha256 == lief_digest(signed)
    # Signing pads the file to a multiple of eight, so the unsigned file is hashed as if it were padded.
    assert unsigned_identity.authenticode_sha256 == signed_identity.authenticode_sha256
    assert unsigned_identity.sha256 == hashlib.sha256(image).hexdigest()
    assert signed_identity.sha256 == hashlib.sha256(signed).hexdigest()
    assert (unsigned_identity.signature, signed_identity.signature) == ("none", "present")
    assert unsigned_identity.publisher is None


def test_an_unsigned_image_agrees_with_lief(build_pe: Build) -> None:
    image = build_pe(overlay=b"12345678")
    assert identify(image).authenticode_sha256 == lief_digest(image)


def test_checksum_does_not_count_and_code_does(build_pe: Build) -> None:
    image = build_pe(checksum=0)
    assert identify(build_pe(checksum=0x12345678)).authenticode_sha256 == identify(image).authenticode_sha256
    assert identify(build_pe(code=b"\x90\xc3")).authenticode_sha256 != identify(image).authenticode_sha256
    assert identify(build_pe(overlay=b"!" * 8)).authenticode_sha256 != identify(image).authenticode_sha256


def test_an_image_without_a_security_directory_entry(build_pe: Build) -> None:
    image = build_pe(directory_count=4)
    identity = identify(image)
    assert identity.signature == "none"
    checksum_at = 0x40 + 4 + 20 + 64
    assert identity.authenticode_sha256 == hashlib.sha256(image[:checksum_at] + image[checksum_at + 4 :]).hexdigest()


@pytest.mark.parametrize("digest", ["sha1", "sha384", "sha512"])
def test_a_signature_with_another_digest_still_belongs_to_its_file(
    build_pe: Build, sign_pe: Build, digest: str
) -> None:
    image = build_pe()
    signed = identify(sign_pe(image, digest=digest))
    assert signed.signature == "present"
    assert signed.authenticode_sha256 == identify(image).authenticode_sha256


@pytest.mark.parametrize(
    ("subject", "publisher"),
    [
        ({}, "O=EXAMPLE FOUNDATION, L=BEAVERTON, S=OREGON, C=US"),
        (
            {"C": "US", "S": "California", "L": "San Francisco", "O": "OpenAI OpCo, LLC", "CN": "OpenAI OpCo, LLC"},
            'O="OPENAI OPCO, LLC", L=SAN FRANCISCO, S=CALIFORNIA, C=US',
        ),
        ({"C": "DE", "O": "Groß & Söhne", "CN": "x"}, "O=GROß & SÖHNE, C=DE"),
        ({"C": "US", "O": 'The "Quoted" Company', "CN": "x"}, 'O="THE ""QUOTED"" COMPANY", C=US'),
        # Without O, or without a place, AppLocker takes the whole subject.
        ({"C": "US", "CN": "Nobody"}, "CN=NOBODY, C=US"),
        ({"O": "Placeless", "OU": "Unit", "CN": "Nobody"}, "CN=NOBODY, OU=UNIT, O=PLACELESS"),
        ({"C": "GB", "O": "First", "SERIALNUMBER": "123", "CN": "x"}, "O=FIRST, C=GB"),
    ],
)
def test_publisher_is_written_as_applocker_writes_it(
    build_pe: Build, sign_pe: Build, subject: dict[str, str], publisher: str
) -> None:
    assert identify(sign_pe(build_pe(), **subject)).publisher == publisher


def test_a_signature_on_another_file_gives_no_publisher(build_pe: Build, sign_pe: Build) -> None:
    signed = bytearray(sign_pe(build_pe(code=b"\x90\xc3")))
    signed[0x400] ^= 0xFF  # the first byte of code
    identity = identify(bytes(signed))
    assert (identity.signature, identity.publisher) == ("broken", None)
    assert "another file" in identity.problems[0]


def test_a_broken_signature_is_no_signature(build_pe: Build, sign_pe: Build) -> None:
    image = build_pe()
    signed = bytearray(sign_pe(image))
    offset, length = struct.unpack_from("<II", signed, 0x40 + 24 + 112 + 32)
    signed[offset + 8 : offset + length] = b"\xff" * (length - 8)
    identity = identify(bytes(signed))
    assert (identity.signature, identity.publisher) == ("broken", None)
    assert identity.problems[0].startswith("signature: ")
    assert identity.authenticode_sha256 == identify(image).authenticode_sha256


def test_version_resource(build_pe: Build, build_version: Build) -> None:
    resource = build_version(
        {"ProductName": "Tester™ Suite", "InternalName": "wrong", "OriginalFilename": "Tester.exe", "Odd": ""},
        (3, 13, 2150, 65535),
    )
    image = build_pe(version=resource)
    identity = identify(image)
    assert (identity.product, identity.binary, identity.version) == ("TESTER™ SUITE", "TESTER.EXE", "3.13.2150.65535")
    assert identity.problems == ()
    parsed = lief.PE.parse(list(image))
    assert isinstance(parsed, lief.PE.Binary)
    assert parsed.resources_manager.version  # lief finds the same resource


def test_strings_come_from_the_first_translation_alone(build_pe: Build, build_version: Build) -> None:
    resource = build_version({"ProductName": "Elsewhere"}, (1, 2, 3, 4), translation=(0x407, 0x4B0))
    identity = identify(build_pe(version=resource))
    assert (identity.product, identity.version) == (None, "1.2.3.4")


def test_a_broken_version_resource_is_said_and_costs_no_hash(build_pe: Build, build_version: Build) -> None:
    resource = bytearray(build_version({"ProductName": "x"}, (1, 2, 3, 4)))
    resource[0:2] = b"\xff\xff"
    identity = identify(build_pe(version=bytes(resource)))
    assert identity.authenticode_sha256
    assert identity.version is None
    assert identity.problems[0].startswith("version resource: ")


def test_kinds(build_pe: Build) -> None:
    assert identify(build_pe()).kind == "exe"
    assert identify(build_pe(is_dll=True), name="a.exe").kind == "dll"  # what it is, not what it is called
    assert identify(b"echo", name="activate.BAT").kind == "script"
    assert identify(b"\xd0\xcf\x11\xe0", name="setup.msi").kind == "msi"
    assert identify(b"MZ", name="x.exe").kind == "other"


def test_a_file_that_is_no_image_has_its_flat_hash(tmp_path: Path) -> None:
    script = tmp_path / "activate.ps1"
    script.write_bytes(b"Write-Output 'x'\r\n")
    identity = identify(script)
    assert identity.authenticode_sha256 is None
    assert identity.rule_sha256 == identity.sha256 == hashlib.sha256(script.read_bytes()).hexdigest()
    assert identity.name == "activate.ps1"
    assert identify(b"").rule_sha256 is None  # an empty file can match no hash rule


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(PeError, match="not a regular file"):
        identify(pipe)
    with pytest.raises(PeError, match="not a regular file"):
        identify(tmp_path)
    with pytest.raises(FileNotFoundError):
        identify(tmp_path / "absent.exe")


REAL_FILES = {
    "uv.exe": (
        re.compile("c4391d52.*5395"),
        ('O="OPENAI OPCO, LLC", L=SAN FRANCISCO, S=CALIFORNIA, C=US', None, None, None),
    ),
    "python.exe": (
        re.compile("debb5434.*6aec"),
        (
            "O=PYTHON SOFTWARE FOUNDATION, L=BEAVERTON, S=OREGON, C=US",
            "PYTHON",
            "PYTHON.EXE",
            "3.13.2150.1013",
        ),
    ),
}


def real_file(name: str) -> Path | None:
    """The file on the Windows bench, where that was built before; `python -m tests.windows.bench build` does."""
    bench = Path(os.environ.get("WAYLEAVE_BENCH_DIR") or Path(__file__).parents[3] / ".bench")
    programs = bench / "wine" / "bench" / "prefix" / "drive_c" / "Program Files"
    file = programs / ("uv" if name == "uv.exe" else "Python313") / name
    return file if file.is_file() else None


@pytest.mark.parametrize("name", sorted(REAL_FILES))
def test_real_files(name: str) -> None:
    """uv 0.13.8 and the Python Software Foundation's Python 3.13.2."""
    file = real_file(name)
    if file is None:
        pytest.skip("shared: needs the Windows bench's files")
    identity = identify(file)
    digest, expected = REAL_FILES[name]
    assert digest.fullmatch(identity.authenticode_sha256 or "")
    assert (identity.publisher, identity.product, identity.binary, identity.version) == expected
    assert identity.authenticode_sha256 == lief_digest(file.read_bytes())
    assert identity.problems == ()
