"""The canary's bytes are those that were published, and what they claim to be."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
from pathlib import Path

import lief
import pytest

from agent.canary import (
    CANARIES,
    CANARY_HASHES,
    LIBRARY_AUTHENTICODE_SHA256,
    LIBRARY_SHA256,
    LINUX_CANARY,
    LINUX_SHA256,
    SCRIPT_SHA256,
    WINDOWS_AUTHENTICODE_SHA256,
    WINDOWS_CANARY,
    WINDOWS_LIBRARY,
    WINDOWS_SCRIPT,
    WINDOWS_SHA256,
    is_canary,
)
from agent.pe.identity import identify

DOCUMENT = Path(__file__).parents[2] / "docs" / "agent.md"


def test_published_hashes_hold() -> None:
    assert hashlib.sha256(WINDOWS_CANARY).hexdigest() == WINDOWS_SHA256
    assert hashlib.sha256(LINUX_CANARY).hexdigest() == LINUX_SHA256
    assert hashlib.sha256(WINDOWS_LIBRARY).hexdigest() == LIBRARY_SHA256
    assert hashlib.sha256(WINDOWS_SCRIPT).hexdigest() == SCRIPT_SHA256
    assert identify(WINDOWS_CANARY).authenticode_sha256 == WINDOWS_AUTHENTICODE_SHA256
    assert identify(WINDOWS_LIBRARY).authenticode_sha256 == LIBRARY_AUTHENTICODE_SHA256
    assert {hashlib.sha256(content).hexdigest() for content in CANARIES} < CANARY_HASHES


def test_published_hashes_are_the_documented_ones() -> None:
    documented = set(re.findall(r"\b[0-9a-f]{64}\b", DOCUMENT.read_text(encoding="utf-8")))
    assert documented >= CANARY_HASHES


def test_another_reader_agrees_on_the_windows_canary() -> None:
    image = lief.PE.parse(list(WINDOWS_CANARY))
    assert image is not None
    assert image.authentihash(lief.PE.ALGORITHMS.SHA_256).hex() == WINDOWS_AUTHENTICODE_SHA256
    assert image.header.machine == lief.PE.Header.MACHINE_TYPES.AMD64
    assert image.optional_header.subsystem == lief.PE.OptionalHeader.SUBSYSTEM.WINDOWS_GUI
    assert image.optional_header.checksum == image.compute_checksum()
    assert not image.has_imports
    assert not image.has_signatures
    text = image.get_section(".text")
    assert bytes(text.content)[:3] == b"\x31\xc0\xc3"  # xor eax, eax; ret


def test_the_library_has_nothing_to_run() -> None:
    image = lief.PE.parse(list(WINDOWS_LIBRARY))
    assert image is not None
    assert image.authentihash(lief.PE.ALGORITHMS.SHA_256).hex() == LIBRARY_AUTHENTICODE_SHA256
    assert image.header.has_characteristic(lief.PE.Header.CHARACTERISTICS.DLL)
    assert image.optional_header.addressof_entrypoint == 0
    assert image.optional_header.sizeof_code == 0
    assert image.optional_header.checksum == image.compute_checksum()
    assert not image.has_imports
    assert not image.has_exports
    assert not image.has_tls
    assert not image.has_signatures
    assert [section.name for section in image.sections] == [".rsrc"]
    assert not any(
        section.has_characteristic(lief.PE.Section.CHARACTERISTICS.MEM_EXECUTE) for section in image.sections
    )
    assert identify(WINDOWS_LIBRARY).binary == "WAYLEAVE-CANARY.DLL"


def test_the_script_is_one_comment() -> None:
    assert WINDOWS_SCRIPT.startswith(b"# ")
    assert WINDOWS_SCRIPT.count(b"\n") == 1


def test_it_names_itself_for_whoever_finds_it() -> None:
    identity = identify(WINDOWS_CANARY)
    assert (identity.product, identity.binary, identity.signature) == ("WAYLEAVE", "WAYLEAVE-CANARY.EXE", "none")
    assert b"Wayleave canary" in LINUX_CANARY


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="needs linux on x86_64")
def test_the_linux_canary_runs_and_ends(tmp_path: Path) -> None:
    program = tmp_path / "wayleave-probe"
    program.write_bytes(LINUX_CANARY)
    program.chmod(0o700)
    assert subprocess.run([program], check=False, timeout=10).returncode == 0


def test_only_canaries_and_their_beginnings_are_ours() -> None:
    assert is_canary(WINDOWS_CANARY)
    assert is_canary(LINUX_CANARY)
    assert is_canary(WINDOWS_CANARY[:100])
    assert is_canary(b"")
    assert not is_canary(WINDOWS_CANARY + b"\0")
    assert not is_canary(b"MZ" + bytes(2046))
