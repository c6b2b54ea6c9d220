"""What is told of a workstation, and what never leaves it."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.parse
from pathlib import Path

import pytest

from agent.catalogue import Machine
from agent.contract.canonical import parse_canonical
from agent.contract.messages import MAX_BODY_BYTES
from agent.discover import Discovery, Uv
from agent.report import (
    applocker_form,
    build_environment,
    build_report,
    build_uv,
    encode_report,
    facts_of,
    read_settings,
    settings_files,
    tell_choice,
    tell_place,
    tell_root,
    tell_settings,
    tell_variables,
)

WINDOWS = {
    "USERPROFILE": r"C:\Users\jane",
    "USERNAME": "jane",
    "LOCALAPPDATA": r"C:\Users\jane\AppData\Local",
    "APPDATA": r"C:\Users\jane\AppData\Roaming",
    "TEMP": r"C:\Users\jane\AppData\Local\Temp",
    "SYSTEMDRIVE": "C:",
}


def windows(**variables: str) -> Machine:
    return Machine(env={**WINDOWS, **variables}, platform="windows")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (r"C:\Users\jane\AppData\Local\uv\cache", r"%LOCALAPPDATA%\uv\cache"),
        (r"C:\Users\jane\AppData\Local\secret\cache", r"%LOCALAPPDATA%\*\cache"),
        (r"D:\jane\project-x\uv", r"D:\*\*\uv"),
        (r"C:\Users\jane\.local\bin", r"%USERPROFILE%\.local\bin"),
        (r"\\fileserver\jane$\uv\cache", r"*"),
        (r"relative\cache", "(relative)"),
        ("", "(relative)"),
        (r"C:\Users\JANE~1\AppData\Local\uv", r"C:\users\*\AppData\Local\uv"),
    ],
)
def test_places_are_known_folders_and_uvs_words(place: str, told: str) -> None:
    found = tell_place(place, windows())
    assert found.lower() == told.lower() or (
        place.startswith("\\\\") and "fileserver" not in found and "jane" not in found
    )


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (r"C:\Users\jane\AppData\Local\uv\cache", r"%OSDRIVE%\Users\*\AppData\Local\uv\cache"),
        (r"\\?\C:\Users\jane\.local\bin", r"%OSDRIVE%\Users\*\.local\bin"),
        (r"C:\Users\tools\uv", r"%OSDRIVE%\Users\*\uv"),  # a person called tools
        (r"d:\jane\uv\cache", r"D:\*\uv\cache"),
        (r"\\server\home$\jane\uv\tools", r"\\*\*\*\uv\tools"),
        (r"\\?\UNC\server\home$\jane\uv", r"\\*\*\*\uv"),
        (r"C:\Program Files\uv\python", r"%PROGRAMFILES%\uv\python"),
        (r"C:\Windows\Temp", r"%WINDIR%\Temp"),
        (r"C:\jane", r"%OSDRIVE%\*"),
        ("jane", "*"),
    ],
)
def test_roots_are_told_as_applocker_writes_them(place: str, told: str) -> None:
    assert applocker_form(place, "C:") == told


def test_a_root_is_told_where_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "cache").mkdir(parents=True)
    (tmp_path / "uv").symlink_to(tmp_path / "elsewhere")
    machine = Machine(env={"HOME": str(tmp_path)}, platform="linux")
    assert tell_root(str(tmp_path / "uv" / "cache"), machine) == "%HOME%/*/cache"


def test_folders_that_an_administrator_set_for_all_are_told() -> None:
    machine = windows(UV_CACHE_DIR=r"D:\DevCache\jane", UV_TOOL_DIR=r"D:\DevTools")
    discovery = Discovery(uvs=(), machine=machine, answers={"tool_dir": r"D:\DevTools"})
    wide = {"UV_CACHE_DIR": r"D:\DevCache\%USERNAME%", "uv_tool_dir": r"D:\DevTools", "SECRET": r"C:\jane"}
    told = build_environment(discovery, {}, wide)
    assert told.variables["UV_CACHE_DIR"] == r"D:\DevCache\*"
    assert told.variables["UV_TOOL_DIR"] == r"D:\DevTools"
    assert told.answers == {"tool_dir": r"D:\DevTools"}
    assert told.roots["tools"] == r"D:\DevTools"
    assert build_environment(discovery, {}).answers == {"tool_dir": r"D:\*"}


@pytest.mark.parametrize(
    ("value", "words", "told"),
    [
        ("1", (), "true"),
        ("False", (), "false"),
        ("Never", ("never",), "never"),
        ("https://user:pass@index.example", ("never",), "(set)"),
    ],
)
def test_choices_are_told_in_uvs_words(value: str, words: tuple[str, ...], told: str) -> None:
    assert tell_choice(value, words) == told


def test_only_listed_variables_are_told() -> None:
    told = tell_variables(
        windows(
            UV_CACHE_DIR=r"C:\Users\jane\AppData\Local\uv\cache", UV_INDEX_URL="https://u:p@h", PATH="x", UV_OFFLINE="1"
        )
    )
    assert told == {"UV_CACHE_DIR": r"%LOCALAPPDATA%\uv\cache", "UV_OFFLINE": "true", "TEMP": "%TEMP%"}


def test_only_listed_settings_are_told() -> None:
    settings = {
        "cache-dir": r"C:\Users\jane\AppData\Local\uv\cache",
        "index-url": "https://u:p@h",
        "link-mode": "copy",
        "no-build": True,
        "keyring-provider": "my-own",
        "pip": {"extra-index-url": ["https://u:p@h"]},
    }
    assert tell_settings(settings, windows()) == {
        "cache-dir": r"%LOCALAPPDATA%\uv\cache",
        "link-mode": "copy",
        "no-build": "true",
        "keyring-provider": "(set)",
    }


def test_the_users_settings_win_over_the_systems(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text('link-mode = "copy"\n')
    named = tmp_path / "named.toml"
    named.write_text('link-mode = "symlink"\n')
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "UV_NO_SYSTEM_CONFIG": "1"}

    def found(**more: str) -> dict[str, object]:
        return read_settings(Discovery(uvs=(), machine=Machine(env=env | more, platform="linux")))

    assert found() == {"link-mode": "copy"}
    assert found(UV_CONFIG_FILE=str(named)) == {"link-mode": "symlink"}
    assert found(UV_NO_CONFIG="1") == {}
    named.write_text("broken [")
    assert found(UV_CONFIG_FILE=str(named)) == {}


def test_windows_settings_files() -> None:
    files = [str(path).replace("/", "\\") for path in settings_files(windows())]
    assert files == [r"C:\ProgramData\uv\uv.toml", r"C:\Users\jane\AppData\Roaming\uv\uv.toml"]


def spellings(secret: str) -> set[str]:
    """A secret as it may turn up elsewhere."""
    return {
        secret,
        secret.lower(),
        secret.upper(),
        urllib.parse.quote(secret),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        secret[:6].upper() + "~1",
    }


@pytest.mark.parametrize("platform", ["windows", "linux"])
def test_planted_secrets_never_leave(platform: str) -> None:
    user, project, password = (f"zq{secrets.token_hex(6)}" for _ in range(3))
    if platform == "windows":
        home, slash = rf"C:\Users\{user}", "\\"
        env = {
            "USERPROFILE": home,
            "USERNAME": user,
            "LOCALAPPDATA": rf"{home}\AppData\Local",
            "APPDATA": rf"{home}\AppData\Roaming",
            "TEMP": rf"C:\Users\{user[:6].upper()}~1\AppData\Local\Temp",
        }
    else:
        home, slash = f"/home/{user}", "/"
        env = {"HOME": home, "TMPDIR": f"/tmp/{user}"}
    inside = slash.join((home, "src", project))
    index = f"https://{user}:{password}@index.example/{project}"
    planted = {
        **dict.fromkeys(("UV_CACHE_DIR", "UV_TOOL_DIR", "XDG_DATA_HOME", "UV_CONFIG_FILE", "UV_PYTHON"), inside),
        **dict.fromkeys(("UV_PROJECT_ENVIRONMENT", "UV_LINK_MODE", "UV_KEYRING_PROVIDER", "UV_PREVIEW"), project),
        **dict.fromkeys(("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_PYTHON_DOWNLOADS"), index),
        "UV_PUBLISH_TOKEN": password,
        "UV_PYTHON_SEARCH_PATH": f"{inside};{home}",
        "NETRC": password,
    }
    machine = Machine(
        env=env | planted,
        platform="windows" if platform == "windows" else "linux",
        project_roots=(inside,),
        answers={"cache_dir": inside, "tool_dir": slash.join((home, project, "tools"))},
    )
    uv = slash.join((inside, ".venv", "Scripts" if platform == "windows" else "bin", "uv"))
    discovery = Discovery(
        uvs=(Uv(path=uv + (".exe" if platform == "windows" else ""), version="0.13.8"),),
        machine=machine,
        preferred=uv,
        answers=machine.answers,
    )
    settings = {"cache-dir": inside, "link-mode": project, "index-url": index, "python-downloads": index}
    facts = facts_of((build_environment(discovery, settings), build_uv(discovery)))
    report = build_report(facts, report_id="r", epoch=1, sequence=1, now=0.0, subject="S-1-22-1-0")

    sent = encode_report(report).decode()

    for secret in (user, project, password):
        for spelling in spellings(secret):
            assert spelling not in sent, (spelling, json.loads(sent))
    assert "0.13.8" in sent


def test_bodies_are_canonical_and_small() -> None:
    discovery = Discovery(uvs=(), machine=windows())
    facts = facts_of((build_environment(discovery, {}), build_uv(discovery)))
    report = build_report(facts, report_id="r", epoch=1, sequence=1, now=1.5, subject="S-1-1-0")
    assert report.sent_at == "1970-01-01T00:00:01Z"
    assert set(report.sets) == {"uv", "environment"}
    for body in report.bodies.values():
        parse_canonical(body)
    assert len(encode_report(report)) < MAX_BODY_BYTES
