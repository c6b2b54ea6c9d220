"""What leaves a workstation in place of a path: uv's own words, and nothing of a person, a project or a random name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import Machine, templated, templated_directory

TABLE = tomllib.loads((Path(__file__).parent / "paths.toml").read_text("utf-8"))
WINDOWS = Machine(
    env={
        "USERNAME": "jdoe",
        "USERPROFILE": r"C:\Users\jdoe",
        "LOCALAPPDATA": r"C:\Users\jdoe\AppData\Local",
        "APPDATA": r"C:\Users\jdoe\AppData\Roaming",
        "TEMP": r"C:\Users\jdoe\AppData\Local\Temp",
        "TMP": r"C:\Users\jdoe\AppData\Local\Temp",
        "ProgramFiles": r"C:\Program Files",
    },
    project_roots=(r"C:\src",),
)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (
            r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe",
            r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe",
        ),
        (
            r"%OSDRIVE%\USERS\JDOE\APPDATA\LOCAL\UV\CACHE\BUILDS-V0\.TMPAB12CD\SCRIPTS\PYTHON.EXE",
            r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmp??????\Scripts\python.exe",
        ),
        (
            r"C:\Users\jdoe\AppData\Local\uv\cache\archive-v0\QEM3f65eDmyn_lht\Scripts\acme-secret.exe",
            r"%LOCALAPPDATA%\uv\cache\archive-v0\*\Scripts\*.exe",
        ),
        (
            r"C:\Users\jdoe\AppData\Roaming\uv\python\cpython-3.12.11-windows-x86_64-none\python.exe",
            r"%APPDATA%\uv\python\cpython-3.*.*-windows-*-none\python.exe",
        ),
        (r"C:\Users\jdoe\AppData\Roaming\uv\tools\acme\Scripts\python.exe", r"%APPDATA%\uv\tools\*\Scripts\python.exe"),
        (r"C:\Users\jdoe\.local\bin\uv.exe", r"%USERPROFILE%\.local\bin\uv.exe"),
        (r"C:\Users\jdoe\.local\bin\acme.exe", r"%USERPROFILE%\.local\bin\*.exe"),
        (r"C:\src\acme\.venv\Scripts\acme.exe", r"<project>\**\.venv\Scripts\*.exe"),
        (r"C:\src\.venv\Scripts\python.exe", r"<project>\.venv\Scripts\python.exe"),
        (r"D:\acme\.venv\Scripts\python.exe", r"*\.venv\Scripts\python.exe"),
        (r"D:\acme\.venv\Scripts\pytest.exe", r"*\.venv\Scripts\*.exe"),
        (r"C:\Users\jdoe\AppData\Local\Temp\.tmpAb12Cd\uv-installer.ps1", r"%TEMP%\.tmp??????\uv-installer.ps1"),
        (
            r"C:\Users\other\AppData\Local\uv\cache\builds-v0\.tmpAb12Cd\Scripts\python.exe",
            r"*\builds-v0\.tmp??????\Scripts\python.exe",
        ),
        (r"C:\Program Files\Python313\python.exe", r"%PROGRAMFILES%\Python313\python.exe"),
        (r"C:\Program Files\Acme Rocket\uv\uv.exe", r"%PROGRAMFILES%\*\uv\uv.exe"),
        (r"C:\Windows\System32\cmd.exe", r"%WINDIR%\System32\*.exe"),
        (r"C:\Users\jdoe\AppData\Local\Programs\Python\Python312\python.exe", r"%LOCALAPPDATA%\**\python.exe"),
        (r"C:\Users\jdoe\secret\acme.rocket", r"%USERPROFILE%\**\*"),
        (r"\\nas.acme.example\jdoe\uv.exe", r"\\*\**\uv.exe"),
        (r"relative\acme.exe", r"*\**\*.exe"),
        ("C:\\a\0", "*"),
    ],
)
def test_templates_of_paths(path: str, wanted: str) -> None:
    assert templated(path, WINDOWS) == wanted


def test_a_relocated_directory_keeps_its_catalogue_name() -> None:
    machine = Machine(env={"UV_CACHE_DIR": r"D:\rocket\jdoe\c", "UV_TOOL_DIR": r"C:\ProgramData\uv\tools"})
    path = r"D:\rocket\jdoe\c\builds-v0\.tmpAb12Cd\Scripts\acme.exe"
    assert templated(path, machine) == r"<cache>\builds-v0\.tmp??????\Scripts\*.exe"
    path = r"C:\ProgramData\uv\tools\acme\Scripts\acme.exe"
    assert templated(path, machine) == r"%PROGRAMDATA%\uv\tools\*\Scripts\*.exe"
    inside = Machine(env={"USERPROFILE": r"C:\Users\jo", "UV_CACHE_DIR": r"C:\Users\jo\rocket\c"})
    path = r"C:\Users\jo\rocket\c\builds-v0\.tmpAb12Cd\Scripts\acme.exe"
    assert templated(path, inside) == r"<cache>\builds-v0\.tmp??????\Scripts\*.exe"


def test_the_directory_beside_xdg_data_home() -> None:
    machine = Machine(env={"XDG_DATA_HOME": r"D:\xdg\share"})
    assert templated(r"D:\xdg\bin\uv.exe", machine) == r"%XDG_DATA_HOME%\..\bin\uv.exe"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (r"D:\uvc", r"D:\uvc"),
        (r"C:\Users\jdoe\AppData\Local\uv\cache", r"%LOCALAPPDATA%\uv\cache"),
        (r"D:\cache\jdoe", r"D:\cache\*"),
        (r"D:\cache-of-JDoe", r"D:\cache-of-*"),
        (r"\\nas.example\home$\jdoe\uv", r"\\*\*\uv"),
    ],
)
def test_directories_that_uv_was_told_to_use(path: str, wanted: str) -> None:
    assert templated_directory(path, WINDOWS) == wanted


def test_directories_on_linux() -> None:
    machine = Machine(env={"HOME": "/home/jo-secret", "USER": "jo-secret"}, platform="linux")
    assert templated_directory("/home/jo-secret/.cache/uv", machine) == "%HOME%/.cache/uv"
    assert templated_directory("/srv/jo-secret/uv", machine) == "/srv/*/uv"
    assert templated_directory("/srv/uv", machine) == "/srv/uv"


USER, PROJECT, RANDOM = "zqxjkuser", "zqxproject", "Zq9Xj8"
SECRET = re.compile("zqx|zq9", re.IGNORECASE)
RANDOM_LONG = (RANDOM * 6)[:32]


def _planted(path: str) -> str:
    """A path of the table with secrets wherever a person's, a project's or a random name stands."""
    path = re.sub("jdoe", USER, path, flags=re.IGNORECASE)
    path = re.sub(r"([\\/])(?:src|inetpub|svc|job|out)(?=[\\/])", rf"\g<1>{PROJECT}", path, flags=re.IGNORECASE)
    path = re.sub(r"\.tmp[a-z0-9]{6}(?=[\\/])", f".tmp{RANDOM}", path, flags=re.IGNORECASE)
    return re.sub(
        r"(archive-v0[\\/])[A-Za-z0-9_-]{16}(?=[\\/])", rf"\g<1>{RANDOM_LONG[:16]}", path, flags=re.IGNORECASE
    )


PLANTED = sorted({_planted(path) for rows in TABLE.values() for path in rows["yes"]})
MACHINES = [
    Machine(env={"USERPROFILE": rf"C:\Users\{USER}", "USERNAME": USER}, project_roots=(rf"C:\{PROJECT}",)),
    Machine(env={"UV_CACHE_DIR": rf"D:\{PROJECT}\{USER}", "TMP": rf"D:\{USER}", "UV_TOOL_DIR": rf"D:\{PROJECT}"}),
    Machine(
        env={"LOCALAPPDATA": rf"E:\{USER}\l", "APPDATA": rf"\\nas.example\{USER}"}, project_roots=(rf"\{PROJECT}",)
    ),
    Machine(),
]


@pytest.mark.parametrize("machine", MACHINES, ids=["default", "relocated", "redirected", "unknown"])
def test_no_secret_of_the_tables_paths_survives(machine: Machine) -> None:
    planted = 0
    for path in PLANTED:
        planted += bool(SECRET.search(path))
        left = templated(path, machine)
        assert not SECRET.search(left), (path, left)
        assert left
    assert planted > 300


PLACES = [
    rf"C:\Users\{USER}",
    rf"C:\Users\{USER[:6].upper()}~1",
    rf"C:\{PROJECT}",
    rf"\\{PROJECT}.example\{USER}",
    r"C:\Program Files",
    r"C:\ProgramData",
    r"C:\Windows",
    rf"D:\{USER}",
    rf"\\?\C:\Users\{USER}",
    rf"%OSDRIVE%\USERS\{USER.upper()}",
    "",
]
PARTS = [
    "AppData",
    "Local",
    "Roaming",
    "uv",
    "cache",
    "builds-v0",
    f".tmp{RANDOM}",
    "Scripts",
    "archive-v0",
    RANDOM_LONG[:16],
    "environments-v2",
    f"{PROJECT}-9f86d081884c7d65",
    "tools",
    PROJECT,
    "python",
    ".venv",
    ".local",
    "bin",
    USER,
    "Temp",
    "cpython-3.12.11-windows-x86_64-none",
    f"zqx.{PROJECT}",
    ".uv",
    "dist",
    "sdists-v10",
    "pypi",
    "src",
    "Lib",
    "site-packages",
]
FILES = [
    "python.exe",
    "uv.exe",
    f"{PROJECT}.exe",
    f"{PROJECT}.pyd",
    f"a.{PROJECT}",
    f"{PROJECT}",
    f"{USER}.ps1",
    "activate.bat",
    f".uv.{'zqxjkuserabcdefghijklmnopqrstuvw'}.__selfdelete__.exe",
    f"{PROJECT}{RANDOM}.py",
    f"uv@0.1.{USER}.exe",
    f"python{USER}.exe",
]


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(PLACES),
    st.lists(st.sampled_from(PARTS), max_size=8),
    st.sampled_from(FILES),
    st.sampled_from(MACHINES),
    st.sampled_from(["\\", "/"]),
)
def test_no_planted_secret_survives(place: str, parts: list[str], name: str, machine: Machine, separator: str) -> None:
    path = separator.join([place, *parts, name])
    left = templated(path, machine)
    assert not SECRET.search(left), (path, left)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*PARTS, "bin", "wheels-v7", ".cache", ".tmpAb12Cd"]), max_size=8), st.sampled_from(FILES)
)
def test_no_planted_secret_survives_on_linux(parts: list[str], name: str) -> None:
    machine = Machine(
        env={"HOME": f"/home/{USER}", "USER": USER, "UV_CACHE_DIR": f"/srv/{PROJECT}"},
        platform="linux",
        project_roots=(f"/home/{USER}/{PROJECT}",),
    )
    for place in (f"/home/{USER}", f"/home/{USER}/{PROJECT}", f"/srv/{PROJECT}", f"/{PROJECT}", "/usr/bin"):
        left = templated("/".join([place, *parts, name]), machine)
        assert not SECRET.search(left), left
