"""How the Application Identity service stands, as one word: its state, and when it is to start. Pure.

While AppIDSvc is stopped, AppLocker takes up no changed policy; what it enforced before may stay in force. So its state
is a hint and never a verdict. `_service_windows` asks, with what every user may ask.

source: QueryServiceStatusEx (SERVICE_STATUS_PROCESS), QueryServiceConfigW; applocker, merge and prerequisites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.contract.facts import SERVICE_STATES, SERVICE_WORDS

APPID_SERVICE = "AppIDSvc"
ERROR_ACCESS_DENIED, ERROR_SERVICE_DOES_NOT_EXIST = 5, 1060

_STATES: Mapping[int, str] = {
    1: "stopped",
    2: "starting",
    3: "stopping",
    4: "running",
    5: "resuming",
    6: "pausing",
    7: "paused",
}
_CHANGING = frozenset({"resuming", "pausing", "paused"})
_STARTS: Mapping[int, str] = {0: "automatic", 1: "automatic", 2: "automatic", 3: "manual", 4: "disabled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAnswers:
    """What Windows said of a service. `state`, `start`: its numbers, None where it was not told; `error`: why not."""

    state: int | None = None
    start: int | None = None
    error: int = 0


def service_word(answers: ServiceAnswers | None) -> str:
    """One of SERVICE_WORDS: the state, and how it starts where that was told; empty where nothing was asked.

    >>> service_word(ServiceAnswers(state=4, start=2)), service_word(ServiceAnswers(state=1, start=3))
    ('running-automatic', 'stopped-manual')
    >>> service_word(ServiceAnswers(error=1060)), service_word(ServiceAnswers(error=5)), service_word(ServiceAnswers())
    ('absent', 'denied', 'unknown')
    """
    if answers is None:
        return ""
    state = _STATES.get(answers.state or 0)
    if state in _CHANGING:
        state = "paused"
    if state is None:
        if answers.start is not None and _STARTS.get(answers.start) == "disabled":
            return "stopped-disabled" if answers.error != ERROR_SERVICE_DOES_NOT_EXIST else "absent"
        return {ERROR_SERVICE_DOES_NOT_EXIST: "absent", ERROR_ACCESS_DENIED: "denied"}.get(answers.error, "unknown")
    start = _STARTS.get(answers.start) if answers.start is not None else None
    word = f"{state}-{start}" if start else state
    assert word in SERVICE_WORDS  # noqa: S101 - the server takes no other
    return word


def is_stopped(word: str) -> bool:
    """Whether the service does not run.

    >>> is_stopped("stopped-manual"), is_stopped("running-automatic"), is_stopped("unknown")
    (True, False, False)
    """
    return word.partition("-")[0] in SERVICE_STATES and word.partition("-")[0] in ("stopped", "stopping", "paused")
