"""What is tried where, and what is made of several answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.canary import (
    LIBRARY_AUTHENTICODE_SHA256,
    LINUX_CANARY,
    WINDOWS_AUTHENTICODE_SHA256,
    WINDOWS_SHA256,
)
from agent.catalogue import Machine, load
from agent.contract.facts import Engine, Method, Outcome, Probe, Specimen, Why
from agent.judge import SaferAnswer
from agent.placement import Journal, new_token, place, plan_placement
from agent.policy import PolicyInForce, RegistryCollection
from agent.probe import Surroundings, run_trials
from agent.trials import Trial, plan_trials

WINDOWS = Machine(
    env={
        "USERPROFILE": r"C:\\Users\\jo",
        "LOCALAPPDATA": r"C:\\Users\\jo\\AppData\\Local",
        "APPDATA": r"C:\\Users\\jo\\AppData\\Roaming",
        "TEMP": r"C:\\Users\\jo\\AppData\\Local\\Temp",
    },
    platform="windows",
)
RULES = PolicyInForce(collections={"Exe": RegistryCollection(mode=1, rules=("<FilePathRule/>",))})


class Bench:
    """Runs trials in a folder, with a start that answers as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[str] = []
        self.answers: Iterator[int] = iter(())

    def canary(self, name: str = "p") -> Trial:
        path = str(self.folder / ".tmpWLVabc" / name)
        return Trial(pattern=name, specimen=Specimen.CANARY, paths=(path,))

    def run(
        self,
        *trials: Trial,
        answers: tuple[int, ...] = (),
        policy: PolicyInForce = RULES,
        last: dict[str, Probe] | None = None,
        start: Callable[[str], int] | None = None,
        administrator: bool = False,
    ) -> tuple[Probe, ...]:
        left = iter(answers)

        def answer(path: str) -> int:
            self.started.append(path)
            return next(left)

        probes = run_trials(
            trials,
            surroundings=Surroundings(
                platform="windows", canary=LINUX_CANARY, start=start or answer, mode_allows=lambda _path: True
            ),
            journal=Journal(self.folder / "journal.json", os.path.islink),
            policy=policy,
            is_administrator=administrator,
            last=last,
        )
        assert not (self.folder / ".tmpWLVabc").exists()
        return probes


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_refusal_is_told_with_its_number_and_engine(bench: Bench) -> None:
    (probe,) = bench.run(bench.canary(), answers=(1260,))
    assert probe == Probe(
        pattern="p",
        specimen=Specimen.CANARY,
        method=Method.START,
        outcome=Outcome.BLOCKED,
        engine=Engine.APPLOCKER,
        error=1260,
        collection="Exe",
    )


def test_a_start_is_told_with_why(bench: Bench) -> None:
    (probe,) = bench.run(bench.canary(), answers=(0,))
    assert (probe.outcome, probe.why, probe.engine) == (Outcome.ALLOWED, Why.RULE, None)
    (probe,) = bench.run(bench.canary(), answers=(0,), administrator=True)
    assert probe.why is Why.ADMINISTRATOR


def test_of_two_files_the_worse_counts(bench: Bench) -> None:
    two = Trial(pattern="p", specimen=Specimen.REAL, paths=("/a", "/b"))
    (probe,) = bench.run(two, answers=(0, 1260))
    assert (probe.outcome, probe.error) == (Outcome.BLOCKED, 1260)
    (probe,) = bench.run(two, answers=(2, 0))
    assert probe.outcome is Outcome.ALLOWED


def test_the_moments_trouble_keeps_the_last_outcome(bench: Bench) -> None:
    last = Probe(pattern="p", specimen=Specimen.CANARY, method=Method.START, outcome=Outcome.BLOCKED, error=1260)
    assert bench.run(bench.canary(), answers=(32,), last={"p Exe canary": last, "p Exe real": last}) == (last,)
    assert bench.run(bench.canary(), answers=(32,)) == ()
    two = Trial(pattern="p", specimen=Specimen.REAL, paths=("/a", "/b"))
    (probe,) = bench.run(two, answers=(32, 0), last={"p Exe canary": last, "p Exe real": last})
    assert probe.outcome is Outcome.ALLOWED


def test_the_canary_stands_while_it_is_started_and_only_then(bench: Bench) -> None:
    def start(path: str) -> int:
        assert Path(path).read_bytes() == LINUX_CANARY
        return 0

    bench.run(bench.canary("a"), bench.canary("b"), start=start)


def test_a_canary_that_vanishes_is_absent_and_not_ours_to_mourn(bench: Bench) -> None:
    def start(path: str) -> int:
        Path(path).unlink()
        return 2

    (probe,) = bench.run(bench.canary(), start=start)
    assert probe.outcome is Outcome.ABSENT


def test_a_rule_for_the_canary_itself_makes_its_answer_worthless(bench: Bench) -> None:
    rule = f'<FileHashRule><FileHash Type="SHA256" Data="0x{WINDOWS_AUTHENTICODE_SHA256.upper()}"/></FileHashRule>'
    policy = PolicyInForce(collections={"Exe": RegistryCollection(mode=1, rules=(rule,))})
    real = Trial(pattern="r", specimen=Specimen.REAL, paths=("/real",))
    unknown, probed = bench.run(bench.canary(), real, answers=(0,), policy=policy)
    assert (unknown.outcome, unknown.method, unknown.why) == (Outcome.UNKNOWN, Method.NONE, Why.CANARY_NAMED)
    assert probed.outcome is Outcome.ALLOWED
    assert bench.started == ["/real"]


def test_every_pattern_that_uv_runs_programs_of_is_planned() -> None:
    catalogue = load()
    trials = [trial for trial in plan_trials(catalogue, WINDOWS, new_token()) if trial.collection == "Exe"]
    planned = {trial.pattern: trial for trial in trials}
    wanted = {pattern.id for pattern in catalogue.patterns if pattern.is_executed and "Exe" in pattern.collections}
    assert planned.keys() <= wanted
    assert {pattern.id for pattern in catalogue.patterns if pattern.templates} & wanted <= planned.keys()


def test_without_a_project_root_environments_are_unknown_and_never_allowed(tmp_path: Path) -> None:
    def of(*roots: str) -> Trial:
        machine = Machine(env={"HOME": str(tmp_path)}, platform="linux", project_roots=roots)
        return next(trial for trial in plan_trials(load(), machine, new_token()) if trial.pattern == "venv-python")

    assert of() == Trial(pattern="venv-python", specimen=Specimen.NONE, otherwise=Outcome.UNKNOWN)
    assert of(str(tmp_path)).specimen is Specimen.CANARY


def test_a_real_file_goes_before_the_canary_and_a_link_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".local" / "bin"
    folder.mkdir(parents=True)
    machine = Machine(env={"HOME": str(tmp_path)}, platform="linux")

    def trial() -> Trial:
        return next(trial for trial in plan_trials(load(), machine, new_token()) if trial.pattern == "tool-bin-exe")

    (folder / "linked").symlink_to("/bin/true")
    (folder / "not-executable").write_bytes(b"")
    assert trial().specimen is Specimen.CANARY
    (folder / "tool").write_bytes(b"")
    (folder / "tool").chmod(0o755)
    assert trial() == Trial(pattern="tool-bin-exe", specimen=Specimen.REAL, paths=(str(folder / "tool"),))
    both = [one for one in plan_trials(load(), machine, new_token()) if one.pattern == "tool-bin-exe"]
    assert [(one.specimen, one.is_second) for one in both] == [(Specimen.REAL, False), (Specimen.CANARY, True)]


def test_a_rule_that_names_the_canary_in_any_way_is_seen(bench: Bench) -> None:
    for rule in (
        f'<FileHash Type="SHA256Flat" Data="0x{WINDOWS_SHA256.upper()}"/>',
        f'<FileHash Type="SHA256" Data="0x{LIBRARY_AUTHENTICODE_SHA256}"/>',
        r'<FilePathCondition Path="*\Wayleave-Probe.exe"/>',
        r'<FilePathCondition Path="%OSDRIVE%\Users\*\.tmpWLV*\*"/>',
    ):
        policy = PolicyInForce(collections={"Dll": RegistryCollection(mode=1, rules=(rule,))})
        (probe,) = bench.run(bench.canary(), policy=policy)
        assert probe.why is Why.CANARY_NAMED, rule
        assert probe.specimen is Specimen.CANARY
    harmless = PolicyInForce(collections={"Exe": RegistryCollection(mode=1, rules=(r'Path="*\wayleave\*"',))})
    (probe,) = bench.run(bench.canary(), answers=(0,), policy=harmless)
    assert probe.outcome is Outcome.ALLOWED


def test_a_copy_of_the_launcher_is_tried_and_taken_away(bench: Bench, tmp_path: Path) -> None:
    launcher = tmp_path / "nt" / "python.exe"
    launcher.parent.mkdir()
    launcher.write_bytes(b"MZ launcher")
    path = str(tmp_path / ".tmpWLVabc" / "Scripts" / "python.exe")

    def start(started: str) -> int:
        assert started == path
        assert Path(started).read_bytes() == b"MZ launcher"
        return 1260

    trial = Trial(pattern="p", specimen=Specimen.LAUNCHER, paths=(path,), source=str(launcher))
    (probe,) = bench.run(trial, start=start)
    assert (probe.outcome, probe.specimen, probe.method) == (Outcome.BLOCKED, Specimen.LAUNCHER, Method.START)
    assert launcher.exists()
    # Also where the policy speaks of the canary: a copy of the host's own file is none.
    named = PolicyInForce(collections={"Exe": RegistryCollection(mode=1, rules=(WINDOWS_SHA256,))})
    (probe,) = bench.run(trial, start=start, policy=named)
    assert probe.outcome is Outcome.BLOCKED


def test_a_copy_left_by_a_kill_is_swept_but_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / ".tmpWLVabc"
    journal = Journal(tmp_path / "journal.json", os.path.islink)
    placement = replace(plan_placement(str(folder / "python.exe")), copy_bytes=10)
    journal.add((placement,))
    place(placement, b"MZ launche")
    (folder / "other.exe").write_bytes(b"MZ somebody's")
    assert Journal(tmp_path / "journal.json", os.path.islink).sweep() == ()
    assert [path.name for path in folder.iterdir()] == ["other.exe"]
    journal.add((placement,))
    (folder / "python.exe").write_bytes(b"somebody put a larger one here")
    Journal(tmp_path / "journal.json", os.path.islink).sweep()
    assert (folder / "python.exe").exists()


def test_libraries_are_loaded_and_scripts_asked_about(bench: Bench, tmp_path: Path) -> None:
    seen: list[tuple[str, bytes]] = []

    def load_(path: str) -> int:
        seen.append((path, Path(path).read_bytes()))
        return 1260

    def ask(path: str) -> SaferAnswer:
        seen.append((path, Path(path).read_bytes()))
        return SaferAnswer(identified=True, computed=True, restricts=True)

    library, script = (str(tmp_path / ".tmpWLVabc" / name) for name in ("x.pyd", "x.ps1"))
    policy = PolicyInForce(collections={"Dll": RegistryCollection(mode=1, rules=("<FilePathRule/>",))})
    probes = run_trials(
        (
            Trial(pattern="d", specimen=Specimen.CANARY, paths=(library,), collection="Dll"),
            Trial(pattern="s", specimen=Specimen.CANARY, paths=(script,), collection="Script"),
        ),
        surroundings=Surroundings(
            platform="windows",
            canary=b"",
            start=lambda _path: 1 // 0,
            mode_allows=lambda _path: True,
            library=b"library",
            script=b"script",
            load=load_,
            ask=ask,
        ),
        journal=Journal(tmp_path / "journal.json", os.path.islink),
        policy=policy,
        is_administrator=False,
    )
    assert seen == [(library, b"library"), (script, b"script")]
    told = [(one.collection, one.method, one.outcome, one.engine, one.error) for one in probes]
    assert told == [
        ("Dll", Method.LOAD, Outcome.BLOCKED, Engine.APPLOCKER, 1260),
        ("Script", Method.SAFER, Outcome.BLOCKED, Engine.UNKNOWN, 0),
    ]


def test_a_limited_administrator_is_one_for_programs_alone(bench: Bench, tmp_path: Path) -> None:
    rules = RegistryCollection(mode=1, rules=("<FilePathRule/>",))
    probes = run_trials(
        (
            Trial(pattern="e", specimen=Specimen.REAL, paths=("/e",)),
            Trial(pattern="d", specimen=Specimen.REAL, paths=("/d",), collection="Dll"),
        ),
        surroundings=Surroundings(
            platform="windows",
            canary=b"",
            start=lambda _path: 0,
            mode_allows=lambda _path: True,
            load=lambda _path: 0,
        ),
        journal=Journal(tmp_path / "journal.json", os.path.islink),
        policy=PolicyInForce(collections={"Exe": rules, "Dll": rules}),
        is_administrator=True,
        is_full_administrator=False,
    )
    assert [probe.why for probe in probes] == [Why.ADMINISTRATOR, Why.RULE]
