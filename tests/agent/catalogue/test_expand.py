"""Roots, globs and canary places of a machine, read back by classification and by AppLocker's wildcards."""

from __future__ import annotations

import ntpath
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalogue import Machine, Pattern, canary_paths, classify, expand, load, roots

WINDOWS = Machine(
    env={
        "USERPROFILE": r"C:\Users\jdoe",
        "LOCALAPPDATA": r"C:\Users\jdoe\AppData\Local",
        "APPDATA": r"C:\Users\jdoe\AppData\Roaming",
        "TEMP": r"C:\Users\jdoe\AppData\Local\Temp",
        "TMP": r"C:\Users\jdoe\AppData\Local\Temp",
    },
    project_roots=(r"C:\src", r"\\nas.example\work"),
)
RELOCATED = Machine(
    env={
        "UserProfile": r"D:\home\jdoe",
        "UV_CACHE_DIR": r"E:\uvc",
        "UV_PYTHON_INSTALL_DIR": r"E:\py",
        "UV_TOOL_DIR": r"E:\tools",
        "UV_TOOL_BIN_DIR": r"E:\tbin",
        "UV_PYTHON_BIN_DIR": r"E:\pbin",
        "TMP": r"E:\tmp",
        "CARGO_HOME": r"E:\cargo",
        "PIPX_HOME": r"E:\pipx",
        "UV_INSTALL_DIR": r"E:\uv",
    },
    project_roots=(r"E:\src",),
)
LINUX = Machine(env={"HOME": "/home/jo"}, platform="linux", project_roots=("/home/jo/src",))
MACHINES = [WINDOWS, RELOCATED]
PATTERNS = load().patterns
PRIORITY = {pattern.id: pattern.priority for pattern in PATTERNS}

# What the wildcards of a glob are filled with where only some forms are uv's; the first that fits.
REAL = [
    ("????????-????-????-????-????????????", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
    (r"\files-v0\??\*", "\\files-v0\\ab\\" + "ab" * 32),
    (r"\git-v?\checkouts\????????????????\*", r"\git-v1\checkouts\8dab139913c4b566\0f1e2d3"),
    (r"\archive-v0\*", r"\archive-v0\QEM3f65eDmyn_lht"),
    (r"\wheels-v?", r"\wheels-v3"),
    (r"\environments-v2\*-cp3.*-", r"\environments-v2\app-cp3.13-"),
    (r"\sdists-v*", r"\sdists-v10"),
    (r"\binaries-v0\ruff\*\*\*.exe", r"\binaries-v0\ruff\0.17.5\x86_64-pc-windows-msvc\ruff.exe"),
    (r"\binaries-v0\ty\*\*\*.exe", r"\binaries-v0\ty\0.0.104\aarch64-pc-windows-msvc\ty.exe"),
    (r"\cpython-3.*.*-windows-*-none", r"\cpython-3.12.11-windows-x86_64-none"),
    (r"\cpython-3.?-windows-*-none", r"\cpython-3.9-windows-x86_64-none"),
    (r"\cpython-3.??-windows-*-none", r"\cpython-3.12-windows-x86_64-none"),
    (r"\*-windows-*-none", r"\cpython-3.12.11-windows-x86_64-none"),
    (r"\pypy-3.*", r"\pypy-3.11.13-windows-x86_64-none"),
    (r"\graalpy-3.*", r"\graalpy-3.12.0-windows-x86_64-none"),
    (r"\apps\uv\*", r"\apps\uv\current"),
    (r"\windows\uv\*\*", r"\windows\uv\0.13.8\x86_64"),
    ("uv-trampoline-*", "uv-trampoline-4711"),
    ("uv@*.exe", "uv@0.12.24.exe"),
    (r"\python\**\*.py", r"\python\packaging\_elffile.py"),
    (r"3.*.exe", "3.13.exe"),
    (r"\python*.exe", r"\python.exe"),
    (r"\pypy*.exe", r"\pypy3.exe"),
    ("tmp????????.", "tmpabcd1_34."),
    ("?" * 32, "qhzkwmfbnaxrtyclpvdguejsoiqwtrbz"),
    ("?" * 16, "9f86d081884c7d65"),
    ("?" * 6, "Ab12Cd"),
]


def made_real(glob: str) -> list[str]:
    """Paths of the form that a glob stands for."""
    for form, real in REAL:
        glob = glob.replace(form, real)
    endings = [".exe", ".dll", ".whl"] if glob.endswith("**") else [""]
    return [glob.replace("**", r"some\folder").replace("*", "thing") + ending for ending in endings]


def _concrete(pattern: Pattern, machine: Machine) -> list[str]:
    return [path for glob in expand(pattern, machine) for path in made_real(glob)]


@pytest.mark.parametrize("machine", MACHINES, ids=["default", "relocated"])
@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern.match], ids=lambda p: p.id)
def test_places_of_a_pattern_are_classified_as_it_or_one_before_it(pattern: Pattern, machine: Machine) -> None:
    for path in _concrete(pattern, machine):
        found = classify(path, machine=machine)
        if found is None and path.endswith(".whl"):
            continue  # a glob of everything below a folder: only programs and libraries are told
        assert found is not None, path
        assert PRIORITY[found] <= pattern.priority, (path, found)


def test_every_pattern_has_a_place_that_is_its_own() -> None:
    for pattern in PATTERNS:
        if not pattern.match or not pattern.templates:
            continue
        found = {classify(path, machine=m) for m in MACHINES for path in _concrete(pattern, m)}
        assert pattern.id in found, (pattern.id, found)


def test_patterns_without_places_say_so() -> None:
    without = {pattern.id for pattern in PATTERNS if not pattern.templates}
    assert without == {"pip-target-entrypoint-exe", "discovered-interpreter", "external-helper-exe"}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({"USERPROFILE": r"C:\Users\a"}, {"cache": r"C:\Users\a\AppData\Local\uv\cache", "home": r"C:\Users\a"}),
        ({"USERPROFILE": r"C:\Users\a"}, {"tools": r"C:\Users\a\AppData\Roaming\uv\tools"}),
        ({"USERPROFILE": r"C:\Users\a"}, {"temp": r"C:\Users\a\AppData\Local\Temp"}),
        ({"LOCALAPPDATA": r"E:\l", "APPDATA": r"E:\r"}, {"cache": r"E:\l\uv\cache", "python": r"E:\r\uv\python"}),
        ({"userprofile": r"C:\U", "XDG_BIN_HOME": r"D:\b"}, {"tool_bin": r"D:\b", "python_bin": r"D:\b"}),
        ({"userprofile": r"C:\U", "XDG_BIN_HOME": "b"}, {"tool_bin": r"C:\U\.local\bin"}),
        ({"userprofile": r"C:\U", "XDG_DATA_HOME": r"D:\x\share"}, {"tool_bin": r"D:\x\bin"}),
        ({"XDG_BIN_HOME": r"D:\b", "UV_TOOL_BIN_DIR": r"D:\t"}, {"tool_bin": r"D:\t", "python_bin": r"D:\b"}),
        ({"userprofile": r"C:\U", "XDG_CACHE_HOME": r"D:\x"}, {"cache": r"C:\U\AppData\Local\uv\cache"}),
        ({"TMP": r"D:\1", "TEMP": r"D:\2"}, {"temp": r"D:\1"}),
        ({"UV_CACHE_DIR": r"%LOCALAPPDATA%\c", "LOCALAPPDATA": r"E:\l"}, {"cache": r"E:\l\c"}),
        ({"UV_CACHE_DIR": r"\\?\D:\c"}, {"cache": r"D:\c"}),
    ],
)
def test_roots_follow_the_variables(env: dict[str, str], wanted: dict[str, str]) -> None:
    found = roots(Machine(env=env))
    assert {name: found.get(name) for name in wanted} == wanted


def test_answers_of_uv_win_over_variables() -> None:
    machine = Machine(env={"UV_CACHE_DIR": r"D:\a"}, answers={"cache_dir": r"D:\b", "tool_dir": r"relative"})
    assert roots(machine)["cache"] == r"D:\b"
    assert "tools" not in roots(machine)


def test_a_machine_that_nothing_is_known_of_has_no_places() -> None:
    nothing = Machine()
    assert roots(nothing) == {}
    assert expand(load().pattern("cache-builds-venv-python"), nothing) == ()
    assert canary_paths(load().pattern("venv-python"), nothing, "abc") == ()


def test_linux_roots() -> None:
    assert roots(LINUX)["cache"] == "/home/jo/.cache/uv"
    assert roots(LINUX)["tools"] == "/home/jo/.local/share/uv/tools"
    moved = Machine(env={"HOME": "/h", "XDG_DATA_HOME": "/d/share", "XDG_CACHE_HOME": "/c"}, platform="linux")
    assert roots(moved)["tool_bin"] == "/d/bin"
    assert roots(moved)["cache"] == "/c/uv"
    assert expand(load().pattern("cache-builds-venv-python"), LINUX) == (
        "/home/jo/.cache/uv/builds-v0/.tmp??????/bin/python*",
    )


def _admits(rule: str, path: str) -> bool:
    """AppLocker's wildcards: `*` is any text, also across segments; nothing else is special."""
    written = rule.replace("%OSDRIVE%", "C:").replace("%PROGRAMFILES%", r"C:\Program Files")
    return re.fullmatch(".*".join(map(re.escape, written.split("*"))), path, re.IGNORECASE | re.DOTALL) is not None


def _rules(pattern: Pattern, machine: Machine) -> list[str]:
    filled = [rule.replace("<project>", project) for rule in pattern.project_paths for project in machine.project_roots]
    return [*pattern.applocker_paths, *filled]


CANARIES = [pattern for pattern in PATTERNS if pattern.probe.canary]


@pytest.mark.parametrize("pattern", CANARIES, ids=lambda pattern: pattern.id)
def test_canaries_are_of_their_pattern_and_admitted_by_its_rules(pattern: Pattern) -> None:
    for token in ("abc", "0123456789abc", "A"):
        places = canary_paths(pattern, WINDOWS, token)
        assert places
        for place in places:
            assert classify(place, machine=WINDOWS) == pattern.id
            collection = "Exe" if "Exe" in pattern.collections else pattern.collections[0]
            assert ntpath.splitext(place)[1] == {"Exe": ".exe", "Dll": ".pyd", "Script": ".ps1"}[collection]
            if not place.startswith("\\\\") or pattern.project_paths:
                assert any(_admits(rule, place) for rule in _rules(pattern, WINDOWS)), place
        for place in canary_paths(pattern, RELOCATED, token):
            assert classify(place, machine=RELOCATED) == pattern.id


@pytest.mark.parametrize("pattern", CANARIES, ids=lambda pattern: pattern.id)
@settings(deadline=None)
@given(token=st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=3, max_size=13))
def test_canaries_keep_their_marker_whatever_the_token(pattern: Pattern, token: str) -> None:
    for place in canary_paths(pattern, WINDOWS, token):
        assert re.search(r"\.tmpWLV|WLV|wayleave-?probe|\.wlv-probe|tmpwlv", place), place
        assert classify(place, machine=WINDOWS) == pattern.id


def test_canaries_stay_out_of_where_uv_looks() -> None:
    for machine in (WINDOWS, RELOCATED, LINUX):
        known = roots(machine)
        for pattern in PATTERNS:
            for place in canary_paths(pattern, machine, "abc"):
                below = place.lower()
                for root in ("tools", "python"):
                    assert not below.startswith(known[root].lower()), (pattern.id, place)
                if re.match(r"(?:python|pypy|graalpy)", ntpath.basename(below)):
                    assert not below.startswith((known["tool_bin"].lower(), known["python_bin"].lower())), place


def test_canaries_of_one_run_are_told_from_those_of_another() -> None:
    pattern = load().pattern("cache-builds-venv-python")
    assert canary_paths(pattern, WINDOWS, "abc") != canary_paths(pattern, WINDOWS, "abd")
    assert canary_paths(pattern, WINDOWS, "abc") == canary_paths(pattern, WINDOWS, "abc")


def test_patterns_that_may_only_be_tried_with_real_files_say_why() -> None:
    for pattern in PATTERNS:
        if pattern.probe.real_only:
            assert pattern.probe.why_not.endswith(".")
            assert not pattern.probe.canary
            assert not pattern.probe.posix_canary


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern.probe.posix_canary], ids=lambda p: p.id)
def test_linux_canaries_fit_a_glob_of_their_pattern(pattern: Pattern) -> None:
    globs = [
        re.escape(glob).replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        for glob in expand(pattern, LINUX)
    ]
    for place in canary_paths(pattern, LINUX, "abc"):
        assert place.startswith(("/home/jo/", "/tmp/"))
        assert any(re.fullmatch(glob.replace("/.*/", "/(?:.*/)?"), place) for glob in globs), (place, globs)
