"""When a workstation is probed: only if something changed that could change an answer, else once a day. Pure.

And never with more than a fixed number of starts a day, so that an agent whose surroundings never rest (a policy that
flaps, a folder that changes by the minute) does not become a nuisance to whoever watches process starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.contract.canonical import Json
from agent.contract.facts import Outcome, Probe
from agent.trials import Trial

DAY_S = 86_400
MAX_STARTS_A_DAY = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of earlier probing: `probes` by their trials' keys, `starts` made on `day` (since 1970)."""

    probes: Mapping[str, Probe] = field(default_factory=dict)
    fingerprint: str = ""
    probed_at: float = 0.0
    day: int = 0
    starts: int = 0


def fingerprint(parts: Sequence[Json]) -> str:
    """A digest of everything that could change an answer."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def is_occasion(memory: Memory, found: str, *, now: float) -> bool:
    """Whether to probe: something changed, a day has passed, or the clock went back behind the last time."""
    return memory.fingerprint != found or not 0 <= now - memory.probed_at < DAY_S


def starts_left(memory: Memory, *, now: float) -> int:
    """How many starts may still be made today."""
    return max(0, MAX_STARTS_A_DAY - (memory.starts if memory.day == int(now // DAY_S) else 0))


def choose_trials(trials: Sequence[Trial], memory: Memory, *, now: float) -> tuple[Trial, ...]:
    """The trials that fit into the day: first what was never tried or was closed, which somebody waits for; last the
    canaries beside something better.
    """

    def rank(trial: Trial) -> int:
        last = memory.probes.get(trial.key)
        opened = last is not None and last.outcome in (Outcome.ALLOWED, Outcome.ABSENT)
        return (2 if trial.is_second else 0) + opened

    left = starts_left(memory, now=now)
    chosen = []
    for trial in sorted(trials, key=rank):
        if trial.starts <= left:
            chosen.append(trial)
            left -= trial.starts
    return tuple(chosen)


def remember(
    memory: Memory, probes: Mapping[str, Probe], *, found: str, starts: int, complete: bool, now: float
) -> Memory:
    """What to remember of a probing just done. One that did not fit into the day is taken up again."""
    day = int(now // DAY_S)
    return Memory(
        probes=probes,
        fingerprint=found if complete else "",
        probed_at=now,
        day=day,
        starts=starts + (memory.starts if memory.day == day else 0),
    )
