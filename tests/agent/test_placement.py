"""What is placed is removed, and nothing else ever is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.canary import LINUX_CANARY, WINDOWS_CANARY
from agent.catalogue import Machine, canary_paths, load
from agent.placement import Journal, has_marker, new_token, place, plan_placement

WINDOWS = Machine(
    env={
        "USERPROFILE": r"C:\Users\jo",
        "LOCALAPPDATA": r"C:\Users\jo\AppData\Local",
        "APPDATA": r"C:\Users\jo\AppData\Roaming",
        "TEMP": r"C:\Users\jo\AppData\Local\Temp",
    },
    platform="windows",
    project_roots=(r"C:\src\thing",),
)
LINUX = Machine(env={"HOME": "/home/jo"}, platform="linux", project_roots=("/home/jo/src/thing",))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.json", os.path.islink)


def again(journal: Journal) -> Journal:
    """The journal as the next start reads it."""
    return Journal(journal.path, os.path.islink)


@pytest.mark.parametrize("machine", [WINDOWS, LINUX], ids=["windows", "linux"])
def test_every_place_of_the_catalogue_carries_a_marker(machine: Machine) -> None:
    paths = [path for pattern in load().patterns for path in canary_paths(pattern, machine, new_token())]
    assert len(paths) >= 9
    assert [path for path in paths if not has_marker(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        "/home/jo/.cache/uv/builds-v0/.tmpAb12Cd/bin/python",
        "/home/jo/awlv/python",
        "/tmp/.tmpwlv123/x",
        "C:\\x\\uv.exe",
    ],
)
def test_no_place_without_a_marker_is_planned(path: str) -> None:
    assert not has_marker(path)
    with pytest.raises(ValueError, match="no marker"):
        plan_placement(path)


def test_all_missing_directories_are_made_and_removed(tmp_path: Path, journal: Journal) -> None:
    placement = plan_placement(str(tmp_path / "cache" / "builds-v0" / ".tmpWLVabc" / "bin" / "python"))
    journal.add((placement,))
    place(placement, LINUX_CANARY)
    assert Path(placement.path).read_bytes() == LINUX_CANARY

    journal.remove(placement)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.json"]
    assert journal.clear() == ()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_was_there_stays_though_empty(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / "cache").mkdir()
    placement = plan_placement(str(tmp_path / "cache" / ".tmpWLVabc" / "python"))
    journal.add((placement,))
    place(placement, LINUX_CANARY)
    assert again(journal).sweep() == ()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("content", [b"", WINDOWS_CANARY[:700], WINDOWS_CANARY], ids=["empty", "half", "whole"])
def test_a_half_written_canary_is_swept(tmp_path: Path, journal: Journal, content: bytes) -> None:
    placement = plan_placement(str(tmp_path / ".tmpWLVabc" / "python.exe"))
    journal.add((placement,))
    place(placement, content)
    assert again(journal).sweep() == ()
    assert list(tmp_path.iterdir()) == []


def test_what_others_put_there_stays(tmp_path: Path, journal: Journal) -> None:
    placement = plan_placement(str(tmp_path / ".tmpWLVabc" / "bin" / "python"))
    journal.add((placement,))
    place(placement, LINUX_CANARY)
    Path(placement.path).write_bytes(LINUX_CANARY + b"more")
    assert again(journal).sweep() == ()
    assert Path(placement.path).read_bytes() == LINUX_CANARY + b"more"


def test_something_already_there_is_neither_overwritten_nor_removed(tmp_path: Path, journal: Journal) -> None:
    target = tmp_path / "wayleave-probe"
    target.write_bytes(b"somebody else's")
    placement = plan_placement(str(target))
    journal.add((placement,))
    with pytest.raises(FileExistsError):
        place(placement, LINUX_CANARY)
    journal.remove(placement)
    journal.clear()
    assert target.read_bytes() == b"somebody else's"


def test_a_link_in_the_place_of_our_directory_is_not_followed(tmp_path: Path, journal: Journal) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "python").write_bytes(LINUX_CANARY)  # even if it looks like ours
    placement = plan_placement(str(tmp_path / ".tmpWLVabc" / "python"))
    journal.add((placement,))
    (tmp_path / ".tmpWLVabc").symlink_to(precious)

    assert again(journal).sweep() == ()

    assert (precious / "python").exists()
    assert (tmp_path / ".tmpWLVabc").is_symlink()


def test_a_link_in_the_place_of_our_file_is_not_followed(tmp_path: Path, journal: Journal) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(LINUX_CANARY)
    placement = plan_placement(str(tmp_path / ".tmpWLVabc" / "python"))
    journal.add((placement,))
    (tmp_path / ".tmpWLVabc").mkdir()
    Path(placement.path).symlink_to(precious)

    again(journal).sweep()

    assert precious.read_bytes() == LINUX_CANARY
    assert Path(placement.path).is_symlink()


def test_a_forged_journal_removes_nothing(tmp_path: Path, journal: Journal) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_bytes(b"precious")
    marked = tmp_path / "wayleave-probe"
    marked.write_bytes(b"precious too")
    folder.mkdir()
    (folder / "kept").write_bytes(b"")
    journal.path.write_text(
        f'{{"files": ["{victim}", "{marked}", 7, null], "directories": ["{folder}", {{}}]}}', encoding="utf-8"
    )
    again(journal).sweep()
    assert victim.exists()
    assert marked.exists()
    assert folder.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b"\xff\xfe"])
def test_a_broken_journal_stops_nothing(journal: Journal, content: bytes) -> None:
    journal.path.write_bytes(content)
    assert again(journal).sweep() == ()
    assert not journal.path.exists()


def test_the_journal_is_on_disk_before_anything_is_made(tmp_path: Path, journal: Journal) -> None:
    placement = plan_placement(str(tmp_path / ".tmpWLVabc" / "python"))
    journal.add((placement,))
    assert journal.path.exists()
    assert not (tmp_path / ".tmpWLVabc").exists()
