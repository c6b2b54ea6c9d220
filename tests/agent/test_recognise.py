"""Which uv.exe may be run to be asked: known by its signer, its release or an administrator's list; no other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import uv

from agent import recognise
from agent.canary import WINDOWS_AUTHENTICODE_SHA256, WINDOWS_CANARY
from agent.catalogue.load import own
from agent.catalogue.model import Release
from agent.discover import discover
from agent.pe.identity import FileIdentity, identify
from agent.recognise import identity_of, is_known_uv, publishers_of_uv

OPENAI = 'O="OPENAI OPCO, LLC", L=SAN FRANCISCO, S=CALIFORNIA, C=US'


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "uv.exe"
    path.write_bytes(WINDOWS_CANARY)
    return str(path)


def never(_path: str) -> str | None:
    raise AssertionError("nothing has to be asked about an unsigned file")


def test_only_uvs_own_signer_counts() -> None:
    assert publishers_of_uv(own()) == {OPENAI}


def test_an_unsigned_stranger_is_not_known(program: str) -> None:
    assert not is_known_uv(program, own(), never)
    assert not is_known_uv(program + ".missing", own(), never)
    Path(program).write_bytes(b"@echo off")
    assert not is_known_uv(program, own(), never)


def test_a_listed_hash_is_known(program: str) -> None:
    release = Release(version="0", target="x", authenticode_sha256=WINDOWS_AUTHENTICODE_SHA256, sources=("test",))
    assert is_known_uv(program, replace(own(), releases=(release,)), never)
    assert is_known_uv(program, own(), never, baseline=[WINDOWS_AUTHENTICODE_SHA256.upper()])
    assert not is_known_uv(program, own(), never, baseline=["0" * 64])


@pytest.mark.parametrize(
    ("publisher", "trust", "known"),
    [
        (OPENAI, "trusted", True),
        (OPENAI, "0x800b0109", False),  # a root that is not trusted: anybody can write a name
        (OPENAI, "0x80096010", False),  # changed after it was signed
        (OPENAI, None, False),
        ("O=SOMEBODY, L=X, S=Y, C=US", "trusted", False),
        ("O=PYTHON SOFTWARE FOUNDATION, L=BEAVERTON, S=OREGON, C=US", "trusted", False),
    ],
)
def test_a_signature_counts_if_windows_trusts_it_and_it_is_uvs(
    program: str, monkeypatch: pytest.MonkeyPatch, publisher: str, trust: str | None, known: bool
) -> None:
    def signed(path: str) -> FileIdentity:
        return replace(identify(path), publisher=publisher)

    monkeypatch.setattr(recognise, "identify", signed)
    recognise._identify.cache_clear()
    assert is_known_uv(program, own(), lambda _path: trust) is known
    recognise._identify.cache_clear()


def test_a_file_that_changed_is_read_anew(program: str) -> None:
    first = identity_of(program)
    assert first is not None
    assert identity_of(program) is first
    Path(program).write_bytes(WINDOWS_CANARY + b"x")
    assert identity_of(program) != first


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")
def test_a_uv_that_is_not_known_is_not_run_and_its_places_are_computed(tmp_path: Path) -> None:
    trap = tmp_path / "uv"
    trap.write_text(f"#!/bin/sh\n: > {tmp_path}/was-run\n")
    trap.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": str(tmp_path)}
    found = discover(own(), environment, search_projects=False, is_known=lambda _path: False)
    assert [(one.path, one.version) for one in found.uvs] == [(str(trap), None)]
    assert found.answers == {}
    assert not (tmp_path / "was-run").exists()
    discover(own(), environment, search_projects=False, is_known=lambda path: path == str(trap))
    assert (tmp_path / "was-run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")
def test_of_several_only_the_known_one_is_asked(tmp_path: Path) -> None:
    real = Path(uv.find_uv_bin())
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{real.parent}"}
    trap = tmp_path / "uv"
    trap.write_text(f"#!/bin/sh\n: > {tmp_path}/was-run\n")
    trap.chmod(0o755)
    found = discover(own(), environment, search_projects=False, is_known=lambda path: path != str(trap))
    assert [one.version is None for one in found.uvs][:2] == [True, False]
    assert found.answers["cache_dir"].startswith(str(tmp_path))
    assert not (tmp_path / "was-run").exists()
