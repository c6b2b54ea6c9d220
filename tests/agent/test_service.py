"""How AppIDSvc stands, over recorded answers of the service manager: a word the server knows, and no verdict."""

from __future__ import annotations

import itertools

import pytest

from agent.contract.facts import SERVICE_WORDS, HostFacts
from agent.doctor import Condition, diagnose
from agent.service import ServiceAnswers, is_stopped, service_word


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        # Windows 11 with rules in force: started by its trigger, and left running.
        (ServiceAnswers(state=4, start=3), "running-manual"),
        (ServiceAnswers(state=4, start=2), "running-automatic"),
        # Windows 10 as it comes: nobody needs it.
        (ServiceAnswers(state=1, start=3), "stopped-manual"),
        (ServiceAnswers(state=1, start=4), "stopped-disabled"),
        # Disabled while it ran: it goes on until the next start.
        (ServiceAnswers(state=4, start=4), "running-disabled"),
        (ServiceAnswers(state=2, start=2), "starting-automatic"),
        (ServiceAnswers(state=3, start=2), "stopping-automatic"),
        (ServiceAnswers(state=7, start=2), "paused-automatic"),
        (ServiceAnswers(state=5, start=2), "paused-automatic"),
        # The state was told and the configuration was not.
        (ServiceAnswers(state=4), "running"),
        (ServiceAnswers(state=4, start=9), "running"),
        # The configuration alone.
        (ServiceAnswers(start=4, error=5), "stopped-disabled"),
        (ServiceAnswers(start=3, error=5), "denied"),
        (ServiceAnswers(error=1060), "absent"),
        (ServiceAnswers(error=5), "denied"),
        (ServiceAnswers(error=1722), "unknown"),
        (ServiceAnswers(state=99, start=2), "unknown"),
        (None, ""),
    ],
)
def test_an_answer_is_a_word(answers: ServiceAnswers | None, word: str) -> None:
    assert service_word(answers) == word


def test_whatever_windows_says_is_a_word_that_the_server_knows() -> None:
    numbers = (None, *range(-1, 12), 2**31)
    for state, start, error in itertools.product(numbers, numbers, (0, 5, 1060, 1722)):
        assert service_word(ServiceAnswers(state=state, start=start, error=error)) in SERVICE_WORDS


def test_only_a_service_that_does_not_run_is_a_hint() -> None:
    assert {word for word in SERVICE_WORDS if is_stopped(word)} == {
        f"{state}{start}"
        for state in ("stopped", "stopping", "paused")
        for start in ("", "-automatic", "-manual", "-disabled")
    }


def test_it_is_told_only_where_it_was_asked() -> None:
    assert "appid_service" not in HostFacts(name="PC-1", platform="linux", os="Debian").body()
    said = HostFacts(name="PC-1", platform="windows", os="Windows 11", appid_service="stopped-manual").body()
    assert '"appid_service":"stopped-manual"' in said


def test_doctor_says_it_as_a_note() -> None:
    (found,) = (one for one in diagnose(Condition(service="stopped-manual")) if "Identity" in one.what)
    assert found.weight == "note"
    assert "sc.exe query AppIDSvc" in found.command
    assert not [one for one in diagnose(Condition(service="running-manual")) if "Identity" in one.what]
