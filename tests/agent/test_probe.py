"""What is tried where, and what is made of several answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.canary import LINUX_CANARY, WINDOWS_AUTHENTICODE_SHA256
from agent.catalogue import Machine, load
from agent.contract.facts import Engine, Method, Outcome, Probe, Specimen, Why
from agent.placement import Journal, new_token
from agent.policy import PolicyInForce, RegistryCollection
from agent.probe import Surroundings, Trial, plan_trials, run_trials

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
    assert bench.run(bench.canary(), answers=(32,), last={"p": last}) == (last,)
    assert bench.run(bench.canary(), answers=(32,)) == ()
    two = Trial(pattern="p", specimen=Specimen.REAL, paths=("/a", "/b"))
    (probe,) = bench.run(two, answers=(32, 0), last={"p": last})
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
    assert (unknown.outcome, unknown.method, unknown.specimen) == (Outcome.UNKNOWN, Method.NONE, Specimen.NONE)
    assert probed.outcome is Outcome.ALLOWED
    assert bench.started == ["/real"]


def test_every_pattern_that_uv_runs_programs_of_is_planned() -> None:
    catalogue = load()
    planned = {trial.pattern: trial for trial in plan_trials(catalogue, WINDOWS, new_token())}
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
