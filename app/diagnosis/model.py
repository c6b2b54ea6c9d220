"""What a diagnosis says: whether a policy blocked something, which file, and what helps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing that helps. `kind`: rule, relocate, python-m, in-process, no-build, other-python, configure, ask."""

    audience: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that was refused.

    `path` is None if the text does not name it. `certainty`: `certain` the text names the file and the number;
    `likely` one of the two is inferred; `possible` the same text may have another cause. `workflow` is an id of the
    catalogue. `explanation` says in a sentence how the file is known.
    """

    path: str | None
    pattern: str | None
    certainty: str
    workflow: str | None
    explanation: str
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The answer. `engine`: applocker-or-srp, applocker-or-wdac, wdac, antivirus, other, unknown; None if not blocked.

    `error_code` is the Windows error number that decided, if one did. `reason` says why in a sentence or two.
    """

    blocked: bool
    engine: str | None
    error_code: int | None
    reason: str
    findings: tuple[Finding, ...] = ()
