"""After an export: for whom its patterns are open, for whom they are still blocked, and why, in numbers.

Users that are alike to the rules (policy, the SIDs that rules can tell apart, what probes found) are judged once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from agent.catalogue import Catalogue
from app.fleet.standing import Standing
from app.fleet.tables import NO_SET, SERVICE_STOPPED, Host, Subject, Tally
from app.policies.after_judge import AfterJudge, Because, first_reason, summed
from app.policies.profiles import Profile, read_profiles

AT_ONCE_USERS = 5_000
"""Fleets up to this size are judged anew each time a page is looked at: within 0.1 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedFor:
    """For how many users one reason holds. `patterns`: those that it keeps closed."""

    because: Because
    users: int
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternAfter:
    """One of the export's patterns: users for whom it is open, blocked, not told, and why it is blocked."""

    pattern: str
    open: int
    blocked: int
    untold: int
    reasons: tuple[tuple[Because, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """What became of an export, in counted users. A user is blocked if any of its patterns is, else open if one was
    found open. `arrived_*`: the same among those who have all rules. `reasons`: each user once, by the first reason.
    `service_disabled`, `service_stopped`: blocked users on whose host AppIDSvc cannot start, or does not run.
    """

    base: int
    open: int
    blocked: int
    untold: int
    arrived: int
    arrived_open: int
    arrived_blocked: int
    arrived_untold: int
    service_disabled: int
    service_stopped: int
    reasons: tuple[BlockedFor, ...]
    patterns: tuple[PatternAfter, ...]


def read_after(
    session: Session, export_id: int, *, group_id: int | None = None, catalogue: Catalogue | None = None
) -> After:
    """What became of an export in the fleet, or in one group of hosts. raises: NotFoundError"""
    judge = AfterJudge(session, export_id, catalogue=catalogue)
    profiles = _profiles(session, judge, group_id)
    judge.read_probes(one.probes_id for one in profiles)
    totals: Counter[tuple[bool, str]] = Counter()
    because: Counter[Because] = Counter()
    kept_closed: dict[Because, set[str]] = defaultdict(set)
    by_pattern: dict[str, Counter[Because | None]] = {pattern: Counter() for pattern in judge.patterns}
    service_disabled = 0
    for one in profiles:
        states = judge.states(one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only)
        for pattern, state in states.items():
            by_pattern[pattern][state.because] += one.subjects
        first = first_reason(states)
        totals[judge.has_arrived(one.policy_id), summed(states)] += one.subjects
        if first is not None:
            because[first] += one.subjects
            kept_closed[first] |= {pattern for pattern, state in states.items() if state.because == first}
            policy = judge.policies.get(one.policy_id or 0)
            service_disabled += one.subjects if policy is not None and policy.service_disabled else 0
    base = sum(totals.values())
    return After(
        base=base,
        open=totals[True, "open"] + totals[False, "open"],
        blocked=totals[True, "blocked"] + totals[False, "blocked"],
        untold=totals[True, "untold"] + totals[False, "untold"],
        arrived=sum(users for (arrived, _), users in totals.items() if arrived),
        arrived_open=totals[True, "open"],
        arrived_blocked=totals[True, "blocked"],
        arrived_untold=totals[True, "untold"],
        service_disabled=service_disabled,
        service_stopped=_count_stopped(session, judge, group_id) if profiles else 0,
        reasons=tuple(
            BlockedFor(because=why, users=users, patterns=tuple(sorted(kept_closed[why])))
            for why, users in sorted(because.items(), key=lambda item: (-item[1], item[0]))
        ),
        patterns=tuple(
            PatternAfter(
                pattern=pattern,
                open=counts[None],
                blocked=sum(counts.values()) - counts[None],
                untold=base - sum(counts.values()),
                reasons=tuple(
                    (why, users)
                    for why, users in sorted(
                        ((why, users) for why, users in counts.items() if why is not None),
                        key=lambda item: (-item[1], item[0]),
                    )
                ),
            )
            for pattern, counts in by_pattern.items()
        ),
    )


def has_users(session: Session, group_id: int) -> bool:
    """Whether a group of hosts has counted users; of one that there is not, nobody is looked at."""
    query = select(func.sum(Tally.subjects)).where(Tally.group_id == group_id, Tally.set_id == NO_SET)
    return bool(session.scalar(query.where(Tally.standing == Standing.COUNTED.value)))


def _profiles(session: Session, judge: AfterJudge, group_id: int | None) -> list[Profile]:
    if group_id is None:
        return read_profiles(session, judge.named)
    if not has_users(session, group_id):
        return []
    return [one for one in read_profiles(session, judge.named) if one.group_id == group_id]


def _count_stopped(session: Session, judge: AfterJudge, group_id: int | None) -> int:
    """The blocked users of hosts whose Application Identity service does not run: a hint, and no reason of its own."""
    stopped = select(Subject.id).join(Host, Host.id == Subject.host_id).where(text(SERVICE_STOPPED))
    total = 0
    for one in read_profiles(session, judge.named, subject_ids=stopped):
        judge.read_probes((one.probes_id,))
        states = judge.states(one.policy_id, one.environment_id, one.probes_id, one.sids, one.deny_only)
        if (group_id is None or one.group_id == group_id) and summed(states) == "blocked":
            total += one.subjects
    return total
