"""What a list of hosts is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from app.fleet.queries import JUDGED_OUTCOMES
from app.fleet.standing import HostState, Standing
from app.fleet.workflows import CLOSED_OUTCOMES

OUTCOME_GROUPS = {
    "tried": JUDGED_OUTCOMES,
    "untried": ("absent", "unknown", "error"),
    "closed": tuple(sorted(CLOSED_OUTCOMES)),
}
"""Outcomes that are listed together: what a share at a pattern is of, what it leaves out, what stops a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFilter:
    """What to list. `name`: how the host's name begins; `outcome`: at `pattern` (there `blocked` if none is
    given), else at any; `verdict` belongs to `workflow`.

    `engine`: who blocked, at the pattern if one is named, else anywhere; `seen`: `day` (in the last 24 hours), `week`
    (before that, in the last 7 days), `older`; `seen_from` and `seen_to`: days (UTC), both included; `policy_id`: the
    set in force; `agent_version`: of the agent, '' before the first report; `older_than`: with an older uv than that;
    `install`: the pattern of the place that their uv runs from, '' for a place that none names.
    """

    name: str = ""
    group_id: int | None = None
    standing: Standing | None = None
    state: HostState | None = None
    pattern: str | None = None
    outcome: str = ""
    version: str | None = None
    older_than: str | None = None
    workflow: str | None = None
    verdict: str = "blocked"
    tag: str | None = None
    attested: bool | None = None
    has_gap: bool = False
    seen: str | None = None
    seen_from: date | None = None
    seen_to: date | None = None
    engine: str | None = None
    policy_id: int | None = None
    agent_version: str | None = None
    install: str | None = None
