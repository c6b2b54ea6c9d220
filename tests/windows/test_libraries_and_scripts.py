"""Libraries and scripts as the agent tries them, in a real Windows Python: loaded without running, asked about.

Libraries are refused here by the bench's shim. Wine's Safer answers every question alike, so what is made of its
answers is tested over recorded ones (`tests/agent/test_judge.py`); here only that asking works and starts nothing.
"""

from __future__ import annotations

import shutil

import pytest

from agent.canary import WINDOWS_LIBRARY, WINDOWS_SCRIPT
from tests.windows.bench.agent import forget_state, probe_all
from tests.windows.bench.places import LOCAL_APPDATA, PYTHON, SHIM_POLICY, on_disk
from tests.windows.bench.run import run_under_policy

pytestmark = pytest.mark.windows

LOAD = r"""
import sys
from agent._platform import load_library
from agent.loading import Loader
with Loader() as loader:
    for path in sys.argv[1:]:
        print(load_library(path), loader.load(path), path)
"""
FOLDER = r"C:\src\libraries"


@pytest.fixture
def libraries(clean_bench: None, agent_installed: None) -> None:
    """The canary's library, a real extension module, one whose needs cannot be met, and a file that is none."""
    folder = on_disk(FOLDER)
    folder.mkdir(parents=True)
    (folder / "canary.pyd").write_bytes(WINDOWS_LIBRARY)
    shutil.copy(on_disk(PYTHON).parent / "DLLs/_socket.pyd", folder / "_socket.pyd")
    (folder / "junk.dll").write_bytes(b"no library")


def load(*names: str) -> list[tuple[int, int]]:
    paths = [rf"{FOLDER}\{name}" for name in names]
    finished = run_under_policy([PYTHON, "-I", "-c", LOAD, *paths])
    found = [line.split() for line in finished.output.splitlines() if line.endswith(tuple(names))]
    assert len(found) == len(names), finished
    return [(int(here), int(child)) for here, child, _ in found]


def test_a_library_is_loaded_or_refused_with_its_number(libraries: None) -> None:
    names = ("canary.pyd", "_socket.pyd", "junk.dll", "missing.dll")
    assert load(*names) == [(0, 0), (0, 0), (193, 193), (126, 126)]
    rules = "dll\tenforced\ndll\tallow\tpath\t%PROGRAMFILES%\\*\ndll\tallow\tpath\t%WINDIR%\\*\n"
    on_disk(SHIM_POLICY).write_text(rules, encoding="utf-8")
    assert load("canary.pyd", "_socket.pyd", "missing.dll") == [(1260, 1260), (1260, 1260), (126, 126)]
    on_disk(SHIM_POLICY).write_text(rules + f"dll\tallow\tpath\t{FOLDER}\\canary.pyd\n", encoding="utf-8")
    assert load("canary.pyd", "_socket.pyd") == [(0, 0), (1260, 1260)]


def test_what_the_agent_tells_of_libraries_follows_the_rules_for_libraries(
    clean_bench: None, agent_installed: None
) -> None:
    on_disk(r"C:\src\demo").mkdir(parents=True, exist_ok=True)

    def outcomes() -> dict[str, tuple[str, int | None]]:
        return {one["pattern"]: (one["outcome"], one["error"]) for one in probe_all() if one["method"] == "load"}

    opened = outcomes()
    assert opened["cache-builds-venv-native-lib"] == ("allowed", 0)
    assert opened["venv-native-lib"] == ("allowed", 0)
    rules = (
        "dll\tenforced",
        "dll\tallow\tpath\t%PROGRAMFILES%\\*",
        "dll\tallow\tpath\t%WINDIR%\\*",
        "dll\tallow\tpath\t%OSDRIVE%\\Users\\*\\AppData\\Local\\uv\\cache\\builds-v0\\*",
    )
    on_disk(SHIM_POLICY).write_text("".join(f"{rule}\n" for rule in rules), encoding="utf-8")
    forget_state()
    closed = outcomes()
    assert closed["cache-builds-venv-native-lib"] == ("allowed", 0)
    assert closed["venv-native-lib"] == ("blocked", 1260)
    assert closed["cache-archive-wheel-native-lib"] == ("blocked", 1260)
    left = [path for path in on_disk(LOCAL_APPDATA).rglob("*.pyd") if path.read_bytes() == WINDOWS_LIBRARY]
    assert left == []


def test_scripts_are_asked_about_and_nothing_of_them_stays(clean_bench: None, agent_installed: None) -> None:
    asked = {one["pattern"]: one for one in probe_all() if one["method"] == "safer"}
    assert {"venv-activation-script", "self-update-installer-ps1"} <= asked.keys()
    assert {one["collection"] for one in asked.values()} == {"Script"}
    assert asked["self-update-installer-ps1"]["specimen"] == "canary"
    assert asked["managed-python-script"]["specimen"] == "real"
    # Wine says yes to everything: that is no finding, only that the call was made and understood.
    assert {one["outcome"] for one in asked.values()} == {"allowed"}
    left = [path for path in on_disk(LOCAL_APPDATA).rglob("*.ps1") if path.read_bytes() == WINDOWS_SCRIPT]
    assert left == []


def test_the_hosts_own_launcher_is_tried_where_uv_would_copy_it(clean_bench: None, agent_installed: None) -> None:
    found = [one for one in probe_all() if one["pattern"] == "cache-builds-venv-python"]
    assert {one["specimen"]: one["outcome"] for one in found} == {"launcher": "allowed", "canary": "allowed"}
