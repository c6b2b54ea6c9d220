"""Classification: every pattern's paths and their look-alikes, every written form, relocations, evidence."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.catalogue import Machine, classify, load

TABLE = tomllib.loads((Path(__file__).parent / "paths.toml").read_text("utf-8"))
EXAMPLES = Path(__file__).parents[4] / "shared" / "reference" / "uv-path-examples.json"

YES = [(pattern, path) for pattern, rows in TABLE.items() for path in rows["yes"]]
NO = [(pattern, path, other) for pattern, rows in TABLE.items() for path, other in rows["no"]]


@pytest.mark.parametrize(("pattern", "path"), YES)
def test_path_of_a_pattern(pattern: str, path: str) -> None:
    assert classify(path) == pattern


@pytest.mark.parametrize(("pattern", "path", "other"), NO)
def test_path_that_only_looks_like_a_pattern(pattern: str, path: str, other: str) -> None:
    assert other != pattern
    assert (classify(path) or "-") == other


def test_table_has_enough_paths_of_every_pattern() -> None:
    # These two are known by a directory that is given to uv, and have their own tests below.
    without = {"uv-exe-custom-dir", "pip-target-entrypoint-exe"}
    wanted = {pattern.id for pattern in load().patterns if pattern.match} - without
    assert set(TABLE) == wanted
    for pattern, rows in TABLE.items():
        assert len(set(rows["yes"])) >= 5, pattern
        assert len({path for path, _ in rows["no"]}) >= 3, pattern


def test_reference_examples() -> None:
    if not EXAMPLES.exists():
        pytest.skip("shared: the reference's examples are not there")
    wrong = []
    examples: list[dict[str, Any]] = json.loads(EXAMPLES.read_text("utf-8"))
    assert len(examples) >= 50
    for example in examples:
        answer = classify(example["path"], example.get("context"))
        if answer != example["expected_id"]:
            wrong.append((example["path"], answer, example["expected_id"]))
    assert not wrong


BUILD = r"Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe"
FORMS = [
    rf"C:\{BUILD}",
    rf"c:\{BUILD.lower()}",
    rf"C:\{BUILD.upper()}",
    rf"\\?\C:\{BUILD}",
    rf"\\.\C:\{BUILD}",
    rf"\??\C:\{BUILD}",
    rf"\DosDevices\C:\{BUILD}",
    rf"\Device\HarddiskVolume3\{BUILD}",
    rf"\device\harddiskvolume12\{BUILD}",
    rf"\\?\GLOBALROOT\Device\HarddiskVolume3\{BUILD}",
    rf"\\?\Volume{{4c1b02c1-d990-11dc-99ae-806e6f6e6963}}\{BUILD}",
    rf"%OSDRIVE%\{BUILD.upper()}",
    rf"%SystemDrive%\{BUILD}",
    r"%LOCALAPPDATA%\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe",
    r"%localappdata%\UV\CACHE\BUILDS-V0\.TMPSJH3VI\SCRIPTS\PYTHON.EXE",
    r"%USERPROFILE%\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe",
    rf"\\files.example\home$\{BUILD}",
    rf"\\?\UNC\files.example\home$\{BUILD}",
    rf"\??\UNC\files.example\home$\{BUILD}",
    rf"\Device\Mup\files.example\home$\{BUILD}",
    rf"\Device\Mup\;LanmanRedirector\;Z:00000000000a1b2c\files.example\home$\{BUILD}",
    rf"\Device\LanmanRedirector\;Z:00000000000a1b2c\files.example\home$\{BUILD}",
    rf"%REMOVABLE%\{BUILD}",
    rf"%HOT%\{BUILD}",
    r"%WINDIR%\System32\config\systemprofile\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe",
    r"%SYSTEM32%\CONFIG\SYSTEMPROFILE\APPDATA\LOCAL\UV\CACHE\BUILDS-V0\.TMPSJH3VI\SCRIPTS\PYTHON.EXE",
    r"\SystemRoot\ServiceProfiles\LocalService\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe",
    rf"C:\{BUILD}".replace("\\", "/"),
    rf"\\?\C:\{BUILD}".replace("\\", "/"),
    r"C:\Users\jdoe\AppData\Local\uv\cache\archive-v0\..\builds-v0\.\.tmpSJh3Vi\Scripts\.\python.exe",
    rf"C:\..\..\{BUILD}",
    rf"C:\\{BUILD}".replace(r"\Scripts", r"\\Scripts"),
    rf"C:\{BUILD}.",
    rf"C:\{BUILD}  ",
    rf"C:\{BUILD}. . .",
    rf"  C:\{BUILD}",
    rf'"C:\{BUILD}"',
    rf"'C:\{BUILD}'",
    r"C:\Users\jdoe\AppData\Local.\uv \cache\builds-v0\.tmpSJh3Vi\Scripts\python.exe",
]


@pytest.mark.parametrize("form", FORMS)
def test_every_written_form_of_a_path(form: str) -> None:
    assert classify(form) == "cache-builds-venv-python"


@pytest.mark.parametrize(
    "path",
    [
        "",
        " ",
        "\\",
        "C:",
        "C:\\",
        "\\\\?\\",
        "\\\\files.example",
        "%LOCALAPPDATA%",
        rf"C:\{BUILD}\..\..",
        rf"C:\{BUILD}\..\..\..\..\..\evil.exe",
        rf"C:\{BUILD}" + "\0",
        rf"C:\{BUILD}".replace("SJh3Vi", "*"),
        rf"C:\{BUILD}".replace("SJh3Vi", "SJh3V?"),
        rf"C:\{BUILD}:evil.exe",
        rf"C:\{BUILD}::$DATA",
        r"\\?\C:\Users\jdoe\.local\bin\ruff.exe.",
        r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3Vé\Scripts\python.exe",
        r"C:\Users\jdoe\AppData\Local\uv\cache\builds-v0\.tmpSJh3ı\Scripts\python.exe",
        "C:\\Users\\jdoe\\AppData\\Local\\uv\\cac\u212ae\\.tmpJu1K2g\\a.exe",
        "C:\\Users\\jdoe\\AppData\\Local\\Temp\\uv-9f86d081884c7d6\u0665.lock",
        r"C:\PROGRA~1\builds-v0\TMPSJH~1\Scripts\python.exe",
        r"C:\Users\jdoe\AppData\Local\uv\evil.exe",
        r"C:\Users\jdoe\AppData\Local\uv\cache\evil.exe",
        r"C:\Users\jdoe\AppData\Local\uv\cache\archive-v0\evil.exe",
        r"C:\Users\jdoe\AppData\Roaming\uv\tools\evil.exe",
        r"C:\Users\jdoe\AppData\Roaming\uv\python\evil.exe",
        r"C:\Windows\System32\cmd.exe",
        r"C:\Users\jdoe\AppData\Local\Programs\Python\Python312\python.exe",
        r"C:\Program Files\Git\cmd\git.exe",
    ],
)
def test_paths_of_nobody(path: str) -> None:
    assert classify(path) is None


RELOCATED: list[tuple[dict[str, str], str, str]] = [
    ({"UV_CACHE_DIR": r"D:\uvc"}, r"D:\uvc\.tmpJu1K2g\torch\lib\c10.dll", "cache-wheel-staging-temp"),
    ({"UV_CACHE_DIR": "D:/uvc/"}, r"d:\UVC\.tmpJu1K2g\.venv\Scripts\python.exe", "cache-root-temp-venv-legacy"),
    ({"UV_CACHE_DIR": "D:\\"}, r"D:\.tmpJu1K2g\a.dll", "cache-wheel-staging-temp"),
    ({"UV_CACHE_DIR": r"\\nas.example\c"}, r"\\?\UNC\nas.example\c\.tmpJu1K2g\a.dll", "cache-wheel-staging-temp"),
    ({"UV_CACHE_DIR": r"build\uv-cache"}, r"C:\job\build\uv-cache\.tmpJu1K2g\a.dll", "cache-wheel-staging-temp"),
    ({"LOCALAPPDATA": r"E:\local"}, r"E:\local\uv\cache\.tmpJu1K2g\a.dll", "cache-wheel-staging-temp"),
    ({"UV_TOOL_DIR": r"D:\tools"}, r"D:\tools\ruff\Scripts\ruff.exe", "tool-env-entrypoint-exe"),
    ({"UV_TOOL_DIR": r"D:\tools"}, r"D:\tools\ruff\Scripts\python.exe", "tool-env-python"),
    ({"UV_TOOL_DIR": r"%SystemDrive%\tools"}, r"%OSDRIVE%\TOOLS\RUFF\SCRIPTS\X.BAT", "tool-env-scripts"),
    ({"APPDATA": r"\\nas.example\r$\jo"}, r"\\nas.example\r$\jo\uv\tools\a\Lib\b.pyd", "tool-env-native-lib"),
    ({"UV_TOOL_BIN_DIR": r"S:\tools\bin"}, r"S:\tools\bin\mypy.exe", "tool-bin-exe"),
    ({"UV_PYTHON_INSTALL_DIR": r"D:\Py"}, r"D:\Py\.temp\.tmpXy12Zw\python\python.exe", "managed-python-staging"),
    ({"UV_TOOLCHAIN_DIR": r"D:\Py"}, r"D:\Py\.cache\.tmpXy12Zw\python\python.exe", "managed-python-staging"),
    ({"UV_PYTHON_BIN_DIR": r"D:\bin"}, r"D:\bin\python3.13.exe", "python-bin-shim"),
    ({"XDG_BIN_HOME": r"D:\xdg"}, r"D:\xdg\uvx.exe", "uv-exe-standalone"),
    ({"XDG_BIN_HOME": r"D:\xdg"}, r"D:\xdg\python3.exe", "python-bin-shim"),
    ({"XDG_BIN_HOME": r"D:\xdg"}, r"D:\xdg\ruff.exe", "tool-bin-exe"),
    ({"XDG_DATA_HOME": r"D:\xdg\share"}, r"D:\xdg\bin\uv.exe", "uv-exe-standalone"),
    ({"XDG_DATA_HOME": r"D:\xdg\share"}, r"D:\xdg\bin\ruff.exe", "tool-bin-exe"),
    ({"CARGO_HOME": r"D:\rust"}, r"D:\rust\bin\uv.exe", "uv-exe-cargo-bin"),
    ({"PIPX_HOME": r"D:\px"}, r"D:\px\venvs\uv\Scripts\uv.exe", "uv-exe-pipx"),
    ({"SCOOP": r"D:\apps\sc"}, r"D:\apps\sc\apps\uv\current\uv.exe", "uv-exe-scoop"),
    ({"ChocolateyInstall": r"D:\choco"}, r"D:\choco\bin\uv.exe", "uv-exe-chocolatey"),
    ({"RUNNER_TOOL_CACHE": r"D:\rtc"}, r"D:\rtc\uv\0.13.8\x86_64\uv.exe", "uv-exe-ci-toolcache"),
    ({"UV_INSTALL_DIR": r"C:\Program Files\Astral\uv"}, r"C:\Program Files\Astral\uv\uv.exe", "uv-exe-custom-dir"),
    ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\uv@0.12.24.exe", "uv-exe-custom-dir"),
    ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\uvx@0.12.24.exe", "uv-exe-custom-dir"),
    ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\UV\UVW.EXE", "uv-exe-custom-dir"),
    ({"UV_UNMANAGED_INSTALL": r"D:\uv"}, r"D:\uv\uvx.exe", "uv-exe-custom-dir"),
    ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\.tmpAb12Cd\uv.exe", "self-update-renamed-exe-legacy"),
    ({"TMP": r"D:\T"}, r"D:\T\.tmpAb12Cd\uv-installer.ps1", "self-update-installer-ps1"),
    ({"TEMP": r"D:\T"}, r"D:\T\.tmpAb12Cd\uv-installer.ps1", "self-update-installer-ps1"),
    ({"TMP": "relative", "TEMP": r"D:\T"}, r"D:\T\uv-9f86d081884c7d65.lock", "temp-lock-files"),
    ({"TMP": r"D:\T", "TEMP": r"D:\U"}, r"D:\U\tmpabcd1234.build-temp\a.exe", "build-backend-python-temp"),
    ({"TEMP": r"C:\Users\jo\AppData\Local\Temp\2"}, r"D:\.venv\Scripts\ruff.exe", "venv-entrypoint-exe"),
    ({"UV_PROJECT_ENVIRONMENT": r"D:\envs\app"}, r"D:\envs\app\Scripts\python.exe", "venv-python"),
    ({"UV_PROJECT_ENVIRONMENT": "env"}, r"C:\src\app\env\Scripts\pytest.exe", "venv-entrypoint-exe"),
    ({"UV_PROJECT_ENVIRONMENT": "env"}, r"C:\src\app\.venv\Scripts\pytest.exe", "venv-entrypoint-exe"),
    ({"VIRTUAL_ENV": r"C:\src\app\venv"}, r"C:\src\app\venv\Scripts\activate.ps1", "venv-activation-script"),
    ({"VIRTUAL_ENV": r"C:\src\app\venv"}, r"C:\src\app\venv\Lib\site-packages\a.pyd", "venv-native-lib"),
    ({"PIP_TARGET": r"D:\deploy\libs"}, r"D:\deploy\libs\bin\flask.exe", "pip-target-entrypoint-exe"),
    # A relocation does not take the usual places away: what was made before it is still there.
    ({"UV_CACHE_DIR": r"D:\uvc"}, r"C:\Users\jo\AppData\Local\uv\cache\.tmpJu1K2g\a.dll", "cache-wheel-staging-temp"),
    ({"UV_TOOL_DIR": r"D:\t"}, r"C:\Users\jo\AppData\Roaming\uv\tools\a\Scripts\a.exe", "tool-env-entrypoint-exe"),
]


@pytest.mark.parametrize(("env", "path", "pattern"), RELOCATED)
def test_relocated_directories(env: dict[str, str], path: str, pattern: str) -> None:
    assert classify(path, {"env": env}) == pattern
    assert classify(path, machine=Machine(env={name.lower(): value for name, value in env.items()})) == pattern


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({}, r"D:\uvc\.tmpJu1K2g\torch\lib\c10.dll"),
        ({"UV_CACHE_DIR": r"D:\uvc"}, r"D:\uvc2\.tmpJu1K2g\a.dll"),
        ({"UV_CACHE_DIR": r"D:\uvc"}, r"E:\D\uvc\.tmpJu1K2g\a.dll"),
        ({"UV_CACHE_DIR": "."}, r"C:\src\.tmpJu1K2g\a.dll"),
        ({"UV_CACHE_DIR": ""}, r"C:\src\.tmpJu1K2g\a.dll"),
        ({"UV_CACHE_DIR": "D:\\a|b"}, r"D:\a\.tmpJu1K2g\a.dll"),
        ({"UV_CACHE_DIR": r"D:\a.c"}, r"D:\abc\.tmpJu1K2g\a.dll"),
        ({"UV_TOOL_DIR": r"D:\tools"}, r"D:\tools\ruff.exe"),
        ({"UV_TOOL_BIN_DIR": r"S:\bin"}, r"S:\bin\x\mypy.exe"),
        ({"UV_PYTHON_BIN_DIR": r"D:\bin"}, r"D:\bin\ruff.exe"),
        # uv takes XDG's directories only if they are absolute.
        ({"XDG_BIN_HOME": "bin"}, r"C:\src\bin\ruff.exe"),
        ({"XDG_DATA_HOME": "share"}, r"C:\src\bin\ruff.exe"),
        ({"XDG_DATA_HOME": r"D:\xdg\share"}, r"D:\xdg\share\ruff.exe"),
        ({"XDG_CACHE_HOME": r"D:\xdg"}, r"D:\xdg\uv\.tmpJu1K2g\a.dll"),
        # GetTempPath2W asks TMP first.
        ({"TMP": r"D:\T", "TEMP": r"D:\U"}, r"D:\U\.tmpAb12Cd\uv-installer.ps1"),
        ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\uv@latest.exe"),
        ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\uvicorn.exe"),
        ({"UV_INSTALL_DIR": r"D:\uv"}, r"D:\uv\bin\uv.exe"),
        ({}, r"D:\deploy\libs\bin\flask.exe"),
        ({"PIP_TARGET": r"D:\deploy\libs"}, r"D:\deploy\libs\Scripts\flask.exe"),
        ({"PIP_TARGET": r"D:\deploy\libs"}, r"D:\deploy\bin\flask.exe"),
        ({"VIRTUAL_ENV": r"C:\src\app\venv"}, r"C:\src\app\venv2\Scripts\python.exe"),
    ],
)
def test_paths_outside_relocated_directories(env: dict[str, str], path: str) -> None:
    assert classify(path, {"env": env}) is None


@pytest.mark.parametrize(
    "volume",
    [
        r"\Device\HarddiskVolume4",
        r"\\?\GLOBALROOT\Device\HarddiskVolume4",
        r"\\?\Volume{4c1b02c1-d990-11dc-99ae-806e6f6e6963}",
        "%REMOVABLE%",
        "%HOT%",
    ],
)
def test_a_volume_without_a_letter_may_be_any_drive_of_the_machine(volume: str) -> None:
    context = {"env": {"UV_CACHE_DIR": r"D:\uvc", "UV_TOOL_BIN_DIR": r"\\?\E:\b"}}
    assert classify(volume + r"\uvc\.tmpJu1K2g\a.dll", context) == "cache-wheel-staging-temp"
    assert classify(volume + r"\b\ruff.exe", context) == "tool-bin-exe"
    assert classify(volume + r"\c\ruff.exe", context) is None
    assert classify(r"C:\uvc\.tmpJu1K2g\a.dll", context) is None


def test_answers_of_uv_itself() -> None:
    machine = Machine(answers={"cache_dir": r"D:\uvc", "tool_bin_dir": r"D:\b", "python_dir": r"D:\p"})
    assert classify(r"D:\uvc\.tmpJu1K2g\a.dll", machine=machine) == "cache-wheel-staging-temp"
    assert classify(r"D:\b\ruff.exe", machine=machine) == "tool-bin-exe"
    assert classify(r"D:\p\.temp\.tmpXy12Zw\a", machine=machine) == "managed-python-staging"
    assert classify(r"D:\q\.temp\.tmpXy12Zw\a", machine=machine) is None


TEMP = r"C:\Users\jdoe\AppData\Local\Temp"
INSTALLED = {"UV_INSTALL_DIR": r"D:\uv"}
EVIDENCE: list[tuple[str, Mapping[str, object], str, str | None]] = [
    # path, other context, key, pattern when that evidence is known to be missing
    (TEMP + r"\.tmpAb12Cd\installer.ps1", {}, "parent_is_uv", None),
    (TEMP + r"\.tmpAb12Cd\installer.ps1", {}, "ancestor_is_uv", None),
    (TEMP + r"\analyzeQ8w7Er.py", {}, "parent_is_uv", None),
    (TEMP + r"\tmpabcd1234.build-temp\a.exe", {}, "ancestor_is_uv", None),
    (r"C:\Program Files\Python313\Scripts\uv.exe", {}, "uv_dist_info", None),
    (r"C:\Program Files\Python313\Scripts\uv.exe", {}, "publisher_or_hash_ok", None),
    (r"C:\src\app\.venv\Scripts\uv.exe", {}, "uv_dist_info", "venv-entrypoint-exe"),
    (r"D:\uv\uv.exe", {"env": INSTALLED}, "publisher_or_hash_ok", None),
    (r"C:\Users\jdoe\.local\bin\black.exe", {}, "uv_tool_receipt_lists_path", None),
    (r"C:\src\app\.venv\Scripts\python.exe", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Scripts\pytest.exe", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Scripts\activate.ps1", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Scripts\tool.cmd", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Lib\site-packages\a.pyd", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Lib\site-packages\a.exe", {}, "pyvenv_cfg_uv", None),
    (r"C:\src\app\.venv\Lib\site-packages\a.js", {}, "pyvenv_cfg_uv", None),
    (r"D:\libs\bin\flask.exe", {"env": {"PIP_TARGET": r"D:\libs"}}, "known_pip_target", None),
]


@pytest.mark.parametrize(("path", "context", "key", "without"), EVIDENCE)
def test_evidence_that_is_missing_there_or_unknown(
    path: str, context: Mapping[str, object], key: str, without: str | None
) -> None:
    unknown = classify(path, context)
    assert unknown is not None
    assert key in load().pattern(unknown).needs_evidence
    assert classify(path, {**context, key: True}) == unknown
    assert classify(path, {**context, key: None}) == unknown
    assert classify(path, {**context, key: False}) == without


def test_every_pattern_that_needs_evidence_is_tested() -> None:
    tested = {(classify(path, context), key) for path, context, key, _ in EVIDENCE}
    needed = {(pattern.id, key) for pattern in load().patterns for key in pattern.needs_evidence if pattern.match}
    # A parent is an ancestor: the one key stands for the other.
    assert needed - tested <= {("build-backend-python-temp", "parent_is_uv")}


def test_one_piece_of_evidence_is_enough() -> None:
    path = r"C:\Program Files\Python313\Scripts\uv.exe"
    assert classify(path, {"uv_dist_info": False, "publisher_or_hash_ok": True}) == "uv-exe-python-scripts"


def test_a_file_known_to_be_of_a_pip_target() -> None:
    path = r"D:\deploy\libs\bin\flask.exe"
    assert classify(path) is None
    assert classify(path, {"known_pip_target": True}) == "pip-target-entrypoint-exe"
    assert classify(path, {"known_pip_target": r"D:\deploy\libs"}) == "pip-target-entrypoint-exe"
    assert classify(path, {"known_pip_target": r"D:\deploy"}) is None
    assert classify(path, {"known_pip_target": False}) is None
    assert classify(r"D:\deploy\libs\Scripts\flask.exe", {"known_pip_target": True}) is None


def test_evidence_decides_nothing_where_the_path_does() -> None:
    for key in ("parent_is_uv", "pyvenv_cfg_uv", "uv_tool_receipt_lists_path", "uv_dist_info", "publisher_or_hash_ok"):
        assert classify(r"C:\Windows\System32\cmd.exe", {key: True}) is None
        assert classify(rf"C:\{BUILD}", {key: False}) == "cache-builds-venv-python"


def test_unknown_context_is_ignored() -> None:
    context = {"policy_choice": True, "env": {"X": 1, "UV_CACHE_DIR": None}, "future": object()}
    assert classify(rf"C:\{BUILD}", context) == "cache-builds-venv-python"
    assert classify(rf"C:\{BUILD}", {"env": "not a mapping"}) == "cache-builds-venv-python"


def test_the_context_wins_over_the_machine() -> None:
    machine = Machine(env={"UV_TOOL_BIN_DIR": r"D:\a"})
    assert classify(r"D:\b\x.exe", {"env": {"uv_tool_bin_dir": r"D:\b"}}, machine) == "tool-bin-exe"
    assert classify(r"D:\a\x.exe", {"env": {"uv_tool_bin_dir": r"D:\b"}}, machine) is None
