"""Archives are read as if they were hostile: bounded, by no name of theirs, through to the programs in them."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from agent.pe import identify
from app.errors import InvalidError
from app.policies import archives
from app.policies.archives import identify_archive

SPEC = spec_from_file_location("small_program", Path(__file__).parents[1] / "small_program.py")
assert SPEC is not None
assert SPEC.loader is not None
_module = module_from_spec(SPEC)
SPEC.loader.exec_module(_module)
small_program = _module.small_program

UV, UVX = small_program(b"uv"), small_program(b"uvx", is_dll=True)
MEMBERS = {"uv/uv.exe": UV, "uv/lib/uvx.dll": UVX, "uv/activate.ps1": b"exit 0", "uv/README.md": b"text"}


def made_zip(path: Path, members: dict[str, bytes], **how: int) -> Path:
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def made_tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", ["zip", "stored", "tar", "tar.gz", "pax"])
def test_every_program_in_it_is_identified_as_the_file_alone_would_be(tmp_path: Path, form: str) -> None:
    path = tmp_path / "archive"
    if form in ("zip", "stored"):
        made_zip(path, MEMBERS, compression=zipfile.ZIP_DEFLATED if form == "zip" else zipfile.ZIP_STORED)
    elif form == "pax":
        made_tar(path, {"x" * 300 + "/" + name: data for name, data in MEMBERS.items()})
    else:
        made_tar(path, MEMBERS, "w" if form == "tar" else "w:gz")
    found = identify_archive(path, "archive")
    assert [(file.identity.name, file.identity.kind) for file in found.files] == [
        ("uv.exe", "exe"),
        ("uvx.dll", "dll"),
        ("activate.ps1", "script"),
    ]
    assert found.files[0].identity == identify(UV, name="uv.exe")
    assert found.files[1].identity.authenticode_sha256 == identify(UVX).authenticode_sha256
    assert (found.others, found.left_out) == (1, ())


def test_a_program_alone_is_an_archive_of_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(UV)
    assert [file.identity.name for file in identify_archive(tmp_path / "x", "uv.exe").files] == ["uv.exe"]


@pytest.mark.parametrize(
    "name", ["../uv.exe", "a/../../uv.exe", "/uv.exe", "C:\\uv.exe", "a\\..\\uv.exe", "\\\\server\\uv.exe"]
)
@pytest.mark.parametrize("make", [made_zip, made_tar])
def test_a_member_outside_the_archive_refuses_all_of_it(tmp_path: Path, name: str, make: object) -> None:
    path = make(tmp_path / "a", {"ok.exe": UV, name: UV})
    with pytest.raises(InvalidError, match="outside"):
        identify_archive(path, "uv.zip")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a"]


def test_links_are_left_out_and_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        for name, kind in (
            ("link.exe", tarfile.SYMTYPE),
            ("hard.exe", tarfile.LNKTYPE),
            ("pipe.exe", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("uv.exe")
        info.size = len(UV)
        archive.addfile(info, io.BytesIO(UV))
    found = identify_archive(tmp_path / "a", "uv.tar.gz")
    assert [file.path for file in found.files] == ["uv.exe"]
    assert [path for path, _ in found.left_out] == ["link.exe", "hard.exe", "pipe.exe"]
    link = zipfile.ZipInfo("link.exe")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b", "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("uv.exe", UV)
    assert [path for path, _ in identify_archive(tmp_path / "b", "b").left_out] == ["link.exe"]


def test_bombs_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    program = UV + bytes(128 * 1024**2)
    paths = [
        made_zip(tmp_path / "zip", {"uv.exe": program}, compression=zipfile.ZIP_DEFLATED),
        made_tar(tmp_path / "tar", {"uv.exe": program}),
        made_tar(tmp_path / "filler", {"filler.bin": program}),
    ]
    del program
    tracemalloc.start()
    for path in paths:
        began = time.monotonic()
        with pytest.raises(InvalidError, match="times its size"):
            identify_archive(path, path.name)
        assert time.monotonic() - began < 20
    assert tracemalloc.get_traced_memory()[1] < 40 * 1024**2
    tracemalloc.stop()


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    """tarfile reads a pax header as long as it says."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 8 * 1024**3
    (tmp_path / "a").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(InvalidError, match="headers"):
        identify_archive(tmp_path / "a", "a.tar")
    # And a zip whose directory claims to be most of the file.
    many = bytes(archives.MAX_DIRECTORY_BYTES + 1000)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, len(many), 0, 0)
    (tmp_path / "b").write_bytes(b"PK\x03\x04" + many + end)
    with pytest.raises(InvalidError, match="directory"):
        identify_archive(tmp_path / "b", "b.zip")


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_FILES", "MAX_MEMBER_BYTES", "MAX_UNPACKED_BYTES"])
@pytest.mark.parametrize("make", [made_zip, made_tar])
def test_each_limit_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, make: object) -> None:
    path = make(tmp_path / "a", {f"{number}.exe": small_program(bytes([number])) for number in range(5)})
    assert len(identify_archive(path, "a").files) == 5
    monkeypatch.setattr(archives, limit, 3)
    with pytest.raises(InvalidError, match=r"^a: It") as refused:
        identify_archive(path, "a")
    assert refused.value.field == "archive"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(50), "Zstandard"),
        (b"BZh9" + bytes(50), "bzip2"),
        (b"\xfd7zXZ\x00" + bytes(50), "xz"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z"),
        (b"hello", "Neither a zip"),
        (b"", "Neither a zip"),
        (b"PK\x03\x04" + bytes(50), "can't be read"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "can't be read"),
    ],
)
def test_what_is_not_read_says_so(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InvalidError, match=said):
        identify_archive(tmp_path / "a", "a.zip")


def test_encrypted_packed_otherwise_and_doubled_members_are_refused(tmp_path: Path) -> None:
    plain = made_zip(tmp_path / "a", {"uv.exe": UV}).read_bytes()
    (tmp_path / "b").write_bytes(plain.replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"))
    with pytest.raises(InvalidError, match="encrypted"):
        identify_archive(tmp_path / "b", "b")
    made_zip(tmp_path / "c", {"uv.exe": UV}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(InvalidError, match="deflate"):
        identify_archive(tmp_path / "c", "c")
    made_zip(tmp_path / "d", {"uv.exe": UV, "UV.exe": UVX})
    with pytest.raises(InvalidError, match="twice"):
        identify_archive(tmp_path / "d", "d")


def test_names_that_are_no_names_are_left_out(tmp_path: Path) -> None:
    found = identify_archive(made_zip(tmp_path / "a", {"a\n\u202eexe.exe": UV, "ok.exe": UVX}), "a")
    assert [file.path for file in found.files] == ["ok.exe"]
    assert found.left_out == (("a??exe.exe", "its name has control characters, or is too long"),)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_damaged_archives_are_refused_or_read_and_never_more(tmp_path: Path, form: str) -> None:
    whole = made_zip if form == "zip" else made_tar
    source = (whole(tmp_path / "a", MEMBERS) if form != "tar" else made_tar(tmp_path / "a", MEMBERS, "w")).read_bytes()
    chance = random.Random(form)
    for _ in range(300):
        data = bytearray(source)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice((0, 1, 1, 4))] = chance.randbytes(chance.choice((0, 1, 1, 4)))
        (tmp_path / "b").write_bytes(bytes(data[: chance.choice((len(data), chance.randrange(len(data)))) or 1]))
        try:
            found = identify_archive(tmp_path / "b", "b.zip")
        except InvalidError:
            continue
        assert len(found.files) <= 4
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]
