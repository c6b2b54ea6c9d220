"""Other products by what the machine says of services and settings; and that nothing is started beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent import observe as observe_module
from agent.contract.facts import Method, Outcome, ProbeSet
from agent.controls import SERVICES, ControlAnswers, choose_method, find_controls, read_asr_list
from agent.observe import Observation, observe
from agent.occasion import Memory
from agent.options import Options
from agent.spool import locked

PREVALENCE = "01443614-cd74-433a-b99e-2ecdc07bfc25"
CREDENTIALS = "9e6c4e1f-7d60-472f-ba1a-a39ef669e4b2"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_of_another_product_is_found_unless_disabled(service: str) -> None:
    assert find_controls(ControlAnswers(services={service: 2})) == (SERVICES[service],)
    assert find_controls(ControlAnswers(services={service: 3})) == (SERVICES[service],)
    assert find_controls(ControlAnswers(services={service: 4})) == ()


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (ControlAnswers(), ()),
        (ControlAnswers(services={"WinDefend": 2, "AppIDSvc": 2}), ()),
        (ControlAnswers(asr={PREVALENCE: "1"}), ("attack surface reduction",)),
        (ControlAnswers(asr={f"{{{PREVALENCE.upper()}}}": " 6 "}), ("attack surface reduction",)),
        (ControlAnswers(asr={PREVALENCE: "2"}), ()),
        (ControlAnswers(asr={PREVALENCE: "0"}), ()),
        (ControlAnswers(asr={CREDENTIALS: "1"}), ()),
        (ControlAnswers(smart_app=1), ("Smart App Control",)),
        (ControlAnswers(smart_app=2), ()),
        (ControlAnswers(smart_app=0), ()),
        (
            ControlAnswers(services={"vf_agent": 2, "CybKernelTracker": 1}, smart_app=1),
            ("CyberArk EPM", "Smart App Control"),
        ),
    ],
)
def test_what_the_machine_says_and_who_acts_on_a_probe(answers: ControlAnswers, found: tuple[str, ...]) -> None:
    assert find_controls(answers) == found


def test_the_list_of_device_management_is_read() -> None:
    assert read_asr_list(f"{PREVALENCE}=1|{CREDENTIALS.upper()}=2|garbage||=1") == {PREVALENCE: "1", CREDENTIALS: "2"}
    assert read_asr_list("") == {}


def test_who_asks_for_starts_gets_them() -> None:
    assert [choose_method(wanted, ("x",)) for wanted in ("auto", "start", "policy")] == ["policy", "start", "policy"]
    assert [choose_method(wanted, ()) for wanted in ("auto", "start", "policy")] == ["start", "start", "policy"]


pytest_linux = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


def look(folder: Path, method: str) -> Observation:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    uv = folder / "bin" / "uv"
    uv.parent.mkdir(exist_ok=True)
    uv.write_text(f"#!/bin/sh\n: > {folder}/started\n")
    uv.chmod(0o755)
    options = Options(state_dir=folder / "state", search_projects=False, method=method)
    environment = {"HOME": str(home), "PATH": str(uv.parent), "TMPDIR": str(home)}
    with locked(options.state_dir) as state_dir:
        return observe(options, environment, state_dir, memory=Memory(), now=1e9, records={}, force=True)


@pytest_linux
def test_beside_another_product_nothing_is_started_or_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe_module, "read_controls", lambda: ControlAnswers(smart_app=1))
    monkeypatch.setattr(observe_module, "run_trials", lambda *_a, **_n: pytest.fail("something was started"))
    found = look(tmp_path, "auto")
    assert not (tmp_path / "started").exists(), "not even uv"
    assert not any((tmp_path / "home").iterdir()), "nothing was placed"
    assert not found.probed
    probes = found.facts.sets["probes"]
    assert isinstance(probes, ProbeSet)
    assert {probe.method for probe in probes.probes} == {Method.POLICY, Method.NONE}
    assert {probe.outcome for probe in probes.probes if probe.method is Method.POLICY} == {Outcome.UNKNOWN}
    assert found.facts.sets["environment"].to_json()["controls"] == ["Smart App Control"]
    assert found.memory.starts == 0


@pytest_linux
def test_without_one_programs_are_started_as_ever(tmp_path: Path) -> None:
    found = look(tmp_path, "auto")
    assert found.probed
    assert (tmp_path / "started").exists()
    assert "controls" not in found.facts.sets["environment"].to_json()
