"""Finding files by globs, within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import search
from agent.search import find_files


def make(base: Path, *names: str) -> None:
    for age, name in enumerate(names):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_globs(tmp_path: Path) -> None:
    make(tmp_path, "a/.tmpAb12Cd/bin/python", "a/.tmpAb12Cd/bin/tool", "a/.tmpLonger12/bin/python", "a/x/y/z/python")

    def found(*globs: str) -> list[str]:
        paths = find_files([f"{tmp_path}/{glob}" for glob in globs], limit=10)
        return [str(Path(path).relative_to(tmp_path)) for path in paths]

    assert found("a/.tmp??????/bin/python*") == ["a/.tmpAb12Cd/bin/python"]
    assert found("a/*/bin/*") == ["a/.tmpAb12Cd/bin/python", "a/.tmpAb12Cd/bin/tool", "a/.tmpLonger12/bin/python"]
    assert found("a/**/python") == ["a/.tmpAb12Cd/bin/python", "a/.tmpLonger12/bin/python", "a/x/y/z/python"]
    assert found("a/x/y/z/python", "a/x/**") == ["a/x/y/z/python"]
    assert found("nowhere/*", "a/.tmpAb12Cd") == []
    assert found() == []
    assert find_files(["*/relative"], limit=10) == ()


def test_the_newest_come_first_and_no_more_than_asked(tmp_path: Path) -> None:
    make(tmp_path, "new", "older", "oldest")
    assert find_files([f"{tmp_path}/*"], limit=2) == (f"{tmp_path}/new", f"{tmp_path}/older")


def test_a_link_up_is_no_endless_way(tmp_path: Path) -> None:
    make(tmp_path, "a/file")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert find_files([f"{tmp_path}/**/file"], limit=10) == (f"{tmp_path}/a/file",)


def test_only_so_many_directories_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *(f"d{number:02}/file" for number in range(30)))
    monkeypatch.setattr(search, "MAX_DIRECTORIES", 11)
    assert len(find_files([f"{tmp_path}/*/fil*"], limit=100)) == 10
