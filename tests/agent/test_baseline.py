"""A baseline lists every program below a folder, follows nothing, hides nothing, and is the same each time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent import baseline
from agent.baseline import TooMuch, take_baseline
from agent.cli import main
from agent.pe import identify
from agent.pe.listing import ListingError, encode_listing, read_listing


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    folder = tmp_path / "Python313"
    (folder / "Lib" / "venv").mkdir(parents=True)
    (folder / "setup.msi").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "Lib" / "venv" / "Activate.PS1").write_bytes(b"exit 0")
    (folder / "Lib" / "os.py").write_bytes(b"pass")
    (folder / "empty.bat").write_bytes(b"")
    (folder / "broken.exe").write_bytes(b"MZ" + bytes(0x3A) + b"\x40\0\0\0PE\0\0")
    (folder / "a\u202eb.cmd").write_bytes(b"exit")
    (folder / "link.ps1").symlink_to(folder / "Lib" / "venv" / "Activate.PS1")
    (folder / "loop").symlink_to(folder)
    return folder


def test_what_collections_check_is_listed_and_the_rest_is_told(installed: Path) -> None:
    listing = take_baseline([installed], source="golden image")
    assert [(one.path, one.identity.kind) for one in listing.files] == [
        ("Python313/Lib/venv/Activate.PS1", "script"),
        ("Python313/setup.msi", "msi"),
    ]
    assert listing.files[0].identity == identify(installed / "Lib" / "venv" / "Activate.PS1")
    told = {one.path: one.reason for one in listing.left_out}
    assert set(told) == {
        "Python313/a\\x202eb.cmd",
        "Python313/broken.exe",
        "Python313/link.ps1",
        "Python313/loop",
    }
    assert told["Python313/loop"] == "a link or junction, not followed"


def test_the_same_files_give_the_same_bytes_wherever_they_are_mounted(installed: Path, tmp_path: Path) -> None:
    one = encode_listing(take_baseline([installed]))
    (tmp_path / "mnt").mkdir()
    moved = installed.rename(tmp_path / "mnt" / "Python313")
    (moved / "link.ps1").unlink()
    (moved / "link.ps1").symlink_to("elsewhere")
    assert encode_listing(take_baseline([moved])) == one
    assert read_listing(one) == take_baseline([moved])
    assert str(tmp_path).encode() not in one


def test_what_cannot_be_read_is_listed(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(folder: Path) -> object:
        if str(folder).endswith("venv"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = take_baseline([installed])
    assert [one.path for one in listing.files] == ["Python313/setup.msi"]
    assert ("Python313/Lib/venv", "Permission denied") in [(one.path, one.reason) for one in listing.left_out]


def test_it_is_bounded(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_FILES", 1)
    with pytest.raises(TooMuch, match="more than 1 files"):
        take_baseline([installed])
    monkeypatch.setattr(baseline, "MAX_FILES", 100)
    monkeypatch.setattr(baseline, "MAX_ENTRIES", 2)
    with pytest.raises(TooMuch, match="look at"):
        take_baseline([installed])
    monkeypatch.setattr(baseline, "MAX_ENTRIES", 100)
    monkeypatch.setattr(baseline, "MAX_DEPTH", 1)
    assert [one.path for one in take_baseline([installed]).files] == ["Python313/setup.msi"]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("kind", "other", r"files\[0\]\.kind"),
        ("sha256", "A" * 64, r"files\[0\]\.sha256"),
        ("authenticode_sha256", "a" * 64, r"files\[0\]\.authenticode_sha256"),
        ("name", "a\nb.ps1", r"files\[0\]\.name"),
        ("size_bytes", -1, r"files\[0\]\.size_bytes"),
        ("size_bytes", True, r"files\[0\]\.size_bytes"),
        ("version", "1.x", r"files\[0\]\.version"),
        ("publisher", "O=EXAMPLE", r"files\[0\]\.publisher"),
        ("problems", "x", r"files\[0\]\.problems"),
        ("more", 1, r"files\[0\]: needs"),
        ("size_bytes", 7, "was changed"),
        ("product", "X", "was changed"),
    ],
)
def test_a_list_that_was_tampered_with_is_refused_with_the_place(
    installed: Path, place: str, value: object, said: str
) -> None:
    listed = json.loads(encode_listing(take_baseline([installed])))
    listed["files"][0][place] = value
    with pytest.raises(ListingError, match=said):
        read_listing(json.dumps(listed).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"format": "wayleave-baseline/2"}', b"[" * 10_000])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(ListingError):
        read_listing(data)


def test_the_command_writes_the_list_and_prints_its_digest(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "F.json"
    assert main(["baseline", str(installed), "--out", str(out), "--source", "golden image"]) == 0
    said = capsys.readouterr()
    assert f"sha256:{read_listing(out.read_bytes()).sha256}" in said.out
    assert "2 files listed" in said.out
    assert "left out: Python313/broken.exe" in said.err
    assert main(["baseline", str(tmp_path / "absent"), "--out", str(out)]) == 2
    (tmp_path / "none").mkdir()
    assert main(["baseline", str(tmp_path / "none"), "--out", str(out)]) == 1
