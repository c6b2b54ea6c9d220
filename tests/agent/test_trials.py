"""What is planned on a Windows machine laid out in a folder: real files, the host's launcher, libraries, scripts."""

from __future__ import annotations

import re

import pytest

from agent import trials as module
from agent.catalogue import Machine, load
from agent.contract.facts import Specimen
from agent.trials import SUFFIXES, Trial, find_launcher, find_real_files, key_of, plan_trials

HOME = r"C:\Users\jo"
WINDOWS = Machine(
    env={
        "USERPROFILE": HOME,
        "LOCALAPPDATA": HOME + r"\AppData\Local",
        "APPDATA": HOME + r"\AppData\Roaming",
        "TEMP": HOME + r"\AppData\Local\Temp",
        "ProgramFiles": r"C:\Program Files",
    },
    project_roots=(r"C:\src",),
)
CACHE = HOME + r"\AppData\Local\uv\cache"


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the machine: each glob finds those that have the given beginnings and endings in common."""
    there: list[str] = []

    def find(globs: list[str], *, limit: int) -> tuple[str, ...]:
        def fits(path: str, glob: str) -> bool:

            expression = re.escape(glob).replace(r"\*\*", ".*").replace(r"\*", r"[^\\]*").replace(r"\?", r"[^\\]")
            return re.fullmatch(expression, path) is not None

        return tuple(path for path in there if any(fits(path, glob) for glob in globs))[:limit]

    monkeypatch.setattr(module, "find_files", find)
    return there


def planned(launcher: str | None = None) -> dict[str, Trial]:
    return {trial.key: trial for trial in plan_trials(load(), WINDOWS, "a" * 13, launcher=launcher)}


def test_where_uv_would_copy_the_launcher_a_copy_is_tried_and_the_canary_after_all_else() -> None:
    trials = list(plan_trials(load(), WINDOWS, "a" * 13, launcher=r"C:\Program Files\Python313\python.exe"))
    copied = [trial for trial in trials if trial.specimen is Specimen.LAUNCHER]
    assert {trial.pattern for trial in copied} == {
        "cache-builds-venv-python",
        "cache-archive-env-python",
        "cache-script-env-python",
        "venv-python",
    }
    assert all(trial.paths[0].endswith("\\python.exe") and trial.source for trial in copied)
    seconds = [trial for trial in trials if trial.is_second]
    assert [trial.pattern for trial in seconds] == [trial.pattern for trial in copied]
    assert trials[-len(seconds) :] == seconds
    assert all(trial.specimen is Specimen.CANARY for trial in seconds)
    assert not [trial for trial in plan_trials(load(), WINDOWS, "a" * 13) if trial.is_second]


def test_a_real_file_goes_before_the_launcher(files: list[str]) -> None:
    files.append(CACHE + r"\builds-v0\.tmpAb12Cd\Scripts\python.exe")
    trials = planned(launcher=r"C:\x\python.exe")
    assert trials["cache-builds-venv-python Exe real"].paths == (files[0],)
    assert trials["cache-builds-venv-python Exe canary"].is_second
    assert "cache-builds-venv-python Exe launcher" not in trials


def test_libraries_and_scripts_are_tried_for_the_patterns_made_of_them() -> None:
    trials = planned().values()
    libraries = {trial.pattern for trial in trials if trial.collection == "Dll"}
    scripts = {trial.pattern for trial in trials if trial.collection == "Script"}
    first = {
        pattern.id: pattern.collections[0] for pattern in load().patterns if pattern.is_executed and pattern.collections
    }
    assert libraries == {name for name, collection in first.items() if collection == "Dll"}
    assert scripts == {name for name, collection in first.items() if collection == "Script"}
    for trial in trials:
        endings = SUFFIXES[trial.collection]
        assert all(path.endswith(endings[0]) for path in trial.paths if trial.specimen is Specimen.CANARY)
    assert sum(trial.starts for trial in trials if trial.collection == "Script") == 0
    assert sum(trial.starts for trial in trials) <= 60


def test_only_files_of_the_collection_stand_for_it(files: list[str]) -> None:
    pattern = load().pattern("tool-env-native-lib")
    folder = HOME + r"\AppData\Roaming\uv\tools\ruff\Lib\site-packages"
    files += [folder + r"\a.pyd", folder + r"\b.exe", folder + r"\c.txt", folder + r"\wayleave-probe.pyd"]
    globs = [HOME + r"\AppData\Roaming\uv\tools\**"]
    assert find_real_files(pattern, globs, WINDOWS, collection="Dll") == (files[0],)
    assert find_real_files(pattern, globs, WINDOWS) == (files[1],)


def test_the_launcher_of_uvs_own_python_goes_first(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    own = HOME + r"\AppData\Roaming\uv\python\cpython-3.13.2-windows-x86_64-none\Lib\venv\scripts\nt"
    system = r"C:\Program Files\Python312\Lib\venv\scripts\nt"
    sizes = {own + r"\venvlauncher.exe": 200_000, system + r"\python.exe": 200_000, system + r"\python3.exe": 1}

    monkeypatch.setattr(module, "_size", sizes.__getitem__)
    assert find_launcher(WINDOWS) is None
    files += [system + r"\python.exe", own + r"\venvlauncher.exe"]
    assert find_launcher(WINDOWS) == own + r"\venvlauncher.exe"
    sizes[own + r"\venvlauncher.exe"] = 50 << 20
    assert find_launcher(WINDOWS) == system + r"\python.exe"
    assert find_launcher(Machine(env={"HOME": "/h"}, platform="linux")) is None


def test_a_try_is_remembered_by_pattern_collection_and_specimen() -> None:
    assert (
        key_of("p", None, Specimen.CANARY) == key_of("p", "Exe", Specimen.CANARY) != key_of("p", "Dll", Specimen.CANARY)
    )
    assert len(planned()) == len(plan_trials(load(), WINDOWS, "a" * 13))
