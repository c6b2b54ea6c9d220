"""How often rules let something start, where that is switched on: allowed starts as counts by rule and day. Pure.

Of an allowed start (8002, 8005) nothing is kept but that the rule was used once more on that day (UTC): no path, no
user, no time. Only rules of the policy in force count, which the server knows anyway. A day is told when it is over,
as its total; one that grew since is told again, and the server keeps the larger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent.channels import (
    USE_CHANNELS,
    Channel,
    explain_error,
    explain_loss,
    find_loss,
    mark_key,
    name_state,
    query_of,
)
from agent.contract.messages import RuleUse
from agent.events import MAX_RECORD, Event, Window, is_own, is_powershell_test, parse_event
from agent.watch import BATCH, MAX_EVENTS, ReadChannel, add_counts, find_records, has_begun_anew, keep_mark

MAX_RULES = 500
"""So many rules are counted on one day, and so many counts told in one report."""

KEPT_DAYS = 30

_DAY_FIELD = re.compile(r"rule_uses\.([0-9]{1,6})\.day")
_KEY = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """What is counted so far. `uses`: starts by "rule day"; `records`: where to go on, by `record_key`."""

    uses: Mapping[str, int] = field(default_factory=dict)
    records: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)


def record_key(channel: Channel) -> str:
    """Under which the last allowed start read of a channel is kept, apart from that of the refusals."""
    return f"{channel.name} allowed"


def without_use_records(records: Mapping[str, int]) -> dict[str, int]:
    """Where reading goes on, but for allowed starts: who switches counting on later begins with what comes then."""
    own = tuple(record_key(channel) for channel in USE_CHANNELS)
    return {name: record for name, record in records.items() if not name.startswith(own)}


def count_uses(
    read_channel: ReadChannel,
    records: Mapping[str, int],
    uses: Mapping[str, int],
    *,
    rules: frozenset[str],
    windows: Mapping[str, Sequence[Window]],
    now: float,
    everybody: bool = False,
) -> Counting:
    """Adds the allowed starts since the last cycle to `uses`.

    `rules`: ids of the rules in force, in small letters; `windows`: by SID in capitals, when the agent itself probed as
    that user; `everybody`: count also starts of users who are not among them.
    """
    counted = keep_days(uses, now=now)
    went_on: dict[str, int] = {}
    left_out: dict[str, int] = {}
    findings: list[str] = []
    states: dict[str, str] = {}

    def count(events: Iterable[Event]) -> None:
        for event in events:
            reason = _reason_against(event, rules, windows, counted, now=now, everybody=everybody)
            if reason:
                add_counts(left_out, {reason: 1})
            else:
                key = f"{event.rule_id} {event.at[:10]}"
                counted[key] = counted.get(key, 0) + 1

    for channel in USE_CHANNELS:
        known = records.get(record_key(channel))
        if known is None:
            # What was before somebody switched this on is nobody's to count.
            read = read_channel(channel.name, query_of(channel, MAX_RECORD), 1)
            after, state = None if read.error else read.newest, name_state(read.error) if read.error else "read"
            findings += [finding] if read.error and (finding := explain_error(channel, read.error)) else []
        else:
            mark = records.get(mark_key(record_key(channel)))
            begun_anew = has_begun_anew(read_channel, channel, known, mark)
            after, state = _count_one(read_channel, channel, known, count, left_out, findings, begun_anew=begun_anew)
            if after == known and not begun_anew and mark is not None:
                went_on[mark_key(record_key(channel))] = mark
        if after is not None:
            place = record_key(channel)
            went_on[place] = after
            went_on |= keep_mark(read_channel, channel, place, after, went_on.get(mark_key(place)))
        if state != "absent":
            states[channel.key] = state
    return Counting(uses=counted, records=went_on, left_out=left_out, findings=tuple(findings), states=states)


def _count_one(
    read_channel: ReadChannel,
    channel: Channel,
    known: int,
    count: Callable[[Iterable[Event]], None],
    left_out: dict[str, int],
    findings: list[str],
    *,
    begun_anew: bool,
) -> tuple[int, str]:
    """After which record to go on, and how the channel stands."""
    after, state, looked_at, is_first = known, "read", 0, True
    while True:
        read = read_channel(channel.name, query_of(channel, after), BATCH)
        if read.error:
            finding = explain_error(channel, read.error)
            findings += [finding] if finding else []
            return after, name_state(read.error)
        if is_first:
            is_first = False
            after, lost = (0, 0) if begun_anew else find_loss(known, read)
            if lost is not None:
                findings.append(f"{explain_loss(channel, lost)}; uses of rules are counted too low")
                state = "overwritten" if lost else "cleared"
            if after != known:
                continue
        parsed = [parse_event(text) for text in read.events]
        add_counts(left_out, {"unreadable": sum(event is None for event in parsed) + read.unreadable})
        count(event for event in parsed if event is not None and event.event_id in channel.event_ids)
        seen = find_records(read.events)
        after = max((after, *seen, read.newest if read.is_end else 0))
        looked_at += len(read.events) + read.unreadable
        if read.is_end:
            return after, state
        if looked_at >= MAX_EVENTS or not seen:
            return after, "behind" if state == "read" else state


def _reason_against(
    event: Event,
    rules: frozenset[str],
    windows: Mapping[str, Sequence[Window]],
    counted: Mapping[str, int],
    *,
    now: float,
    everybody: bool,
) -> str | None:
    if not everybody and event.user not in windows:
        return "allowed, of another user"
    if is_own(event, windows.get(event.user or "", ())):
        return "own probe"
    if is_powershell_test(event):
        return "PowerShell's own test"
    if event.rule_id is None or event.rule_id not in rules:
        return "allowed by no rule in force"
    day = event.at[:10]
    if not _day(now, -KEPT_DAYS) <= day <= _day(now, 1):
        return "allowed, of a day that is too far away"
    if f"{event.rule_id} {day}" not in counted and sum(key.endswith(day) for key in counted) >= MAX_RULES:
        return "allowed by more rules than are counted"
    return None


def choose_uses(uses: Mapping[str, int], told: Mapping[str, int], *, now: float) -> tuple[RuleUse, ...]:
    """What the next report tells: totals of days that are over and were not told as they are now; the oldest first."""
    today = _day(now)
    due = [
        RuleUse(rule_id=key[:36], day=key[37:], count=count)
        for key, count in keep_days(uses, now=now).items()
        if key[37:] < today and told.get(key) != count
    ]
    return tuple(sorted(due, key=lambda use: (use.day, use.rule_id))[:MAX_RULES])


def remember_told(told: Mapping[str, int], uses: Iterable[RuleUse], *, now: float) -> dict[str, int]:
    """What the server was told, with what a report tells now."""
    return keep_days({**told, **{f"{use.rule_id} {use.day}": use.count for use in uses}}, now=now)


def without_refused(uses: tuple[RuleUse, ...], field: str) -> tuple[RuleUse, ...]:
    """What may be told again of counts that the server refused, by the field that it named: all but those of that day.

    >>> uses = tuple(RuleUse(rule_id="r", day=f"2026-01-0{day}", count=1) for day in (1, 2))
    >>> [use.day for use in without_refused(uses, "rule_uses.0.day")], without_refused(uses, "rule_uses")
    (['2026-01-02'], ())
    """
    found = _DAY_FIELD.fullmatch(field)
    if found is None or int(found[1]) >= len(uses):
        return ()
    return tuple(use for use in uses if use.day != uses[int(found[1])].day)


def keep_days(counts: Mapping[str, int], *, now: float) -> dict[str, int]:
    """Counts of the last days; what was kept under anything but a rule and a day is forgotten."""
    oldest = _day(now, -KEPT_DAYS)
    return {
        key: count
        for key, count in counts.items()
        if (found := _KEY.fullmatch(key)) is not None and found[2] >= oldest and isinstance(count, int)
    }


def _day(now: float, by: int = 0) -> str:
    return (datetime.fromtimestamp(now, UTC) + timedelta(days=by)).date().isoformat()
