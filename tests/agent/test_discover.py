"""Finding uv, understanding its answers, and learning where projects live."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import uv

from agent.catalogue import Machine, load
from agent.discover import (
    ask_directories,
    ask_versions,
    discover,
    find_uvs,
    learn_project_roots,
    parse_directory,
    parse_version,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("uv 0.13.8 (3d97a6aad 2026-11-12 x86_64-pc-windows-msvc)\r\n", ("0.13.8", "x86_64-pc-windows-msvc")),
        ("uv 0.13.8 (x86_64-unknown-linux-gnu)\n", ("0.13.8", "x86_64-unknown-linux-gnu")),
        ("uv 0.7.12 (dc3fd4647 2025-06-06)\n", ("0.7.12", None)),
        ("uv 0.1.0", ("0.1.0", None)),
        ("uv.exe 0.9.0-alpha.1 (abc 2025-01-01 i686-pc-windows-msvc)", ("0.9.0-alpha.1", "i686-pc-windows-msvc")),
        ("uv-wrapper 1.0", None),
        ("error: blocked by group policy", None),
        ("uv 0.13.8\nuv 0.13.9", None),
        ("", None),
    ],
)
def test_versions(text: str, parsed: tuple[str, str | None] | None) -> None:
    assert parse_version(text) == parsed


@pytest.mark.parametrize(
    ("text", "directory"),
    [
        ("/home/jo/.cache/uv\n", "/home/jo/.cache/uv"),
        ("/home/jo/x/../.local/bin\n", "/home/jo/.local/bin"),
        ("relative/cache\n", None),
        ("/a\n/b\n", None),
        ("/with\tcontrol\n", None),
        ("", None),
        ("/" + "a" * 2000, None),
    ],
)
def test_directories(text: str, directory: str | None) -> None:
    assert parse_directory(text) == directory


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_real_uv_answers_and_makes_nothing(home: dict[str, str], tmp_path: Path) -> None:
    directory = Path(uv.find_uv_bin()).parent
    found = discover(load(), home | {"PATH": f"{directory}:relative::/usr/bin", "UV_TOOL_DIR": "/opt/tools"})
    assert found.preferred == str(directory / "uv")
    assert found.uvs[0].version is not None
    assert found.answers == {
        "cache_dir": f"{tmp_path}/.cache/uv",
        "python_dir": f"{tmp_path}/.local/share/uv/python",
        "python_bin_dir": f"{tmp_path}/.local/bin",
        "tool_dir": "/opt/tools",
        "tool_bin_dir": f"{tmp_path}/.local/bin",
    }
    assert list(tmp_path.iterdir()) == []


def test_settings_of_one_project_or_one_run_do_not_speak(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "uv.toml").write_text('cache-dir = "/wrong"\n')
    real = uv.find_uv_bin()
    answers = ask_directories(real, home | {"UV_WORKING_DIR": str(tmp_path / "p"), "UV_NO_CACHE": "1"})
    assert answers["cache_dir"] == f"{tmp_path}/.cache/uv"


def test_uvs_are_found_on_the_path_first_and_once(home: dict[str, str], tmp_path: Path) -> None:
    first = script(tmp_path / "a" / "uv", "echo uv 1.0.0")
    second = script(tmp_path / ".local" / "bin" / "uv", "echo uv 2.0.0")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    env = home | {"PATH": f"{tmp_path}/a:{tmp_path}/link:."}
    assert find_uvs(load(), Machine(env=env, platform="linux"), env) == (str(first), str(second))


def test_a_uv_that_hangs_lies_or_fails_is_not_waited_for(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.discover.ASK_TIMEOUT_S", 0.5)
    hanging = script(tmp_path / "a" / "uv", "exec sleep 60")
    lying = script(tmp_path / "b" / "uv", "echo not uv at all")
    failing = script(tmp_path / "c" / "uv", "echo uv 1.0.0; exit 3")
    binary = script(tmp_path / "d" / "uv", "printf '\\377\\376'")
    plain = tmp_path / "e" / "uv"
    plain.parent.mkdir()
    plain.write_bytes(b"no program")
    plain.chmod(0o755)
    paths = [str(path) for path in (hanging, lying, failing, binary, plain)]

    began = time.monotonic()
    found = ask_versions(paths, home)

    assert time.monotonic() - began < 5
    assert [item.version for item in found] == [None] * 5
    assert found[-1].error == 8  # ENOEXEC


def test_where_no_uv_may_be_run_none_is(home: dict[str, str], tmp_path: Path) -> None:
    script(tmp_path / "a" / "uv", f"touch {tmp_path}/was-run; echo uv 1.0.0")
    found = discover(load(), home | {"PATH": f"{tmp_path}/a"}, may_ask=False)
    assert [item.version for item in found.uvs] == [None]
    assert found.answers == {}
    assert not (tmp_path / "was-run").exists()


def venv(project: Path, settings: str = "home = /usr/bin\nuv = 0.13.8\n") -> str:
    (project / ".venv").mkdir(parents=True)
    (project / ".venv" / "pyvenv.cfg").write_text(settings)
    return str(project)


def test_projects_are_learnt_from_environments_that_uv_made(home: dict[str, str], tmp_path: Path) -> None:
    mine = venv(tmp_path / "src" / "team" / "thing")
    venv(tmp_path / "src" / "other", "home = /usr/bin\n")  # made by python -m venv
    venv(tmp_path / ".hidden" / "thing")
    venv(tmp_path / "node_modules" / "thing")
    venv(tmp_path / "a" / "b" / "c" / "d" / "e" / "too-deep")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "src")
    assert learn_project_roots(home, deadline=time.monotonic() + 10) == (mine,)


def test_the_search_ends_at_its_deadline(home: dict[str, str], tmp_path: Path) -> None:
    venv(tmp_path / "src")
    assert learn_project_roots(home, deadline=time.monotonic() - 1) == ()


def test_configured_roots_come_first_and_stay_few(home: dict[str, str], tmp_path: Path) -> None:
    for number in range(9):
        venv(tmp_path / f"p{number}")
    found = discover(load(), home, configured_roots=("/srv/projects",))
    assert found.machine.project_roots[0] == "/srv/projects"
    assert len(found.machine.project_roots) == 4
    found = discover(load(), home, configured_roots=("/srv/projects",), search_projects=False)
    assert found.machine.project_roots == ("/srv/projects",)
    assert os.environ.get("HOME") != home["HOME"]
