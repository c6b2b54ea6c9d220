"""Reading the event logs in one cycle: from where the last one ended, in bounded batches, no gap passed in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.catalogue import Machine
from agent.channels import (
    CHANNELS,
    Channel,
    ChannelRead,
    explain_error,
    explain_loss,
    find_loss,
    mark_key,
    name_state,
    query_of,
    query_of_record,
)
from agent.contract.messages import Sighting
from agent.events import Event, Person, Sorted, Window, find_person, parse_event, sort_events, sort_nobodys

BATCH = 100
MAX_EVENTS = 5_000
"""So many events of one channel are looked at in one cycle."""

_RECORD = re.compile(r"<EventRecordID>\s*([0-9]{1,16})\s*<")

_WRITTEN = re.compile(r"SystemTime\s*=\s*['\"]([0-9]{4}-[0-9:T.-]{6,28})Z?['\"]", re.ASCII)

ReadChannel = Callable[[str, str, int], ChannelRead]
"""The channel's name, the query, and how many events at most."""

Sort = Callable[[str, Sequence[Event]], Sorted]
"""The channel's name and a batch of its events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the channels gave in one cycle: sightings, where to go on, what was left out, and findings for a person.

    `states`: by channel's key, how it stands: `read`, `behind` (more waits for the next cycle), `overwritten`,
    `cleared`, `denied` or `error N`; channels that the machine does not have are not in it.
    """

    sightings: tuple[Sighting, ...] = ()
    records: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)


def read_events(
    read_channel: ReadChannel,
    records: Mapping[str, int],
    *,
    machine: Machine,
    sid: str,
    windows: Sequence[Window] = (),
) -> Reading:
    """What the channels hold of one user that was not read yet. `records`: the last record read, by channel."""

    def sort(channel: str, events: Sequence[Event]) -> Sorted:
        return sort_events(channel, events, machine=machine, sid=sid, windows=windows)

    return read_sorted(read_channel, records, sort)


def read_events_of_all(
    read_channel: ReadChannel, records: Mapping[str, int], people: Sequence[Person]
) -> tuple[Reading, Mapping[str, tuple[Sighting, ...]]]:
    """What the channels hold of several users that was not read yet; and the sightings of each, by SID."""
    told: dict[str, list[Sighting]] = {}

    def sort(channel: str, events: Sequence[Event]) -> Sorted:
        sightings: list[Sighting] = []
        left_out: dict[str, int] = {}
        for event in events:
            person = find_person(event, people)
            if person is None:
                found = sort_nobodys(event)
            else:
                found = sort_events(channel, (event,), machine=person.machine, sid=person.sid, windows=person.windows)
                told.setdefault(person.sid, []).extend(found.sightings)
            sightings += found.sightings
            add_counts(left_out, found.left_out)
        return Sorted(sightings=tuple(sightings), left_out=left_out)

    reading = read_sorted(read_channel, records, sort)
    return reading, {sid: tuple(sightings) for sid, sightings in told.items()}


def read_sorted(read_channel: ReadChannel, records: Mapping[str, int], sort: Sort) -> Reading:
    """What the channels hold that was not read yet, as `sort` tells sightings from the rest."""
    sightings: list[Sighting] = []
    went_on = dict(records)
    left_out: dict[str, int] = {}
    findings: list[str] = []
    states: dict[str, str] = {}
    for channel in CHANNELS:
        found = _read_one(
            read_channel, channel, records.get(channel.name, 0), sort, mark=records.get(mark_key(channel.name))
        )
        sightings += found.sightings
        went_on.pop(mark_key(channel.name), None)
        went_on |= found.records
        findings += found.findings
        states |= found.states
        add_counts(left_out, found.left_out)
    return Reading(
        sightings=tuple(sightings), records=went_on, left_out=left_out, findings=tuple(findings), states=states
    )


def _read_one(
    read_channel: ReadChannel, channel: Channel, known: int, sort: Sort, *, mark: int | None = None
) -> Reading:
    after, state, looked_at, is_first = known, "read", 0, True
    begun_anew = has_begun_anew(read_channel, channel, known, mark)
    sightings: list[Sighting] = []
    left_out: dict[str, int] = {}
    findings: list[str] = []
    while True:
        # No more than may still be told: what is asked for beyond would have to be read again.
        read = read_channel(channel.name, query_of(channel, after), min(BATCH, channel.most - len(sightings)))
        if read.error:
            finding = explain_error(channel, read.error)
            findings += [finding] if finding else []
            state = name_state(read.error)
            break
        if is_first:
            is_first = False
            after, lost = (0, 0) if begun_anew else find_loss(known, read)
            if lost is not None:
                findings.append(explain_loss(channel, lost))
                state = "overwritten" if lost else "cleared"
                add_counts(left_out, {"overwritten before they were read": lost} if lost else {})
            if after != known:
                continue
        parsed = [parse_event(text) for text in read.events]
        events = [event for event in parsed if event is not None]
        add_counts(left_out, {"unreadable": len(parsed) - len(events) + read.unreadable})
        sorted_ = sort(channel.name, events)
        sightings += sorted_.sightings
        add_counts(left_out, sorted_.left_out)
        # Also what could not be read has been read: it would come again for ever. At the end of the log all up to the
        # newest has been seen, also what was not asked for: else records long passed would later count as lost.
        seen = find_records(read.events)
        after = max((after, *seen, read.newest if read.is_end else 0))
        looked_at += len(read.events) + read.unreadable
        if read.is_end:
            break
        if len(sightings) >= channel.most or looked_at >= MAX_EVENTS or not seen:
            state = "behind" if state == "read" else state
            break
    if begun_anew or after != known:
        mark = None  # of another record
    kept = {} if read.error and mark is None else keep_mark(read_channel, channel, channel.name, after, mark)
    return Reading(
        sightings=tuple(sightings),
        records={channel.name: after, **kept} if kept or after != known or known else {},
        left_out=left_out,
        findings=tuple(findings),
        states={} if state == "absent" else {channel.key: state},
    )


def has_begun_anew(read_channel: ReadChannel, channel: Channel, known: int, mark: int | None) -> bool:
    """Whether the last record read was not written when it was: the log was cleared, and has grown past it since."""
    if not known or mark is None:
        return False
    written = _find_written(read_channel, channel, known)
    return written is not None and written != mark


def keep_mark(read_channel: ReadChannel, channel: Channel, place: str, after: int, mark: int | None) -> dict[str, int]:
    """What is kept beside the last record read: when it was written, if that can be read. `mark`: where it is known."""
    written = mark if mark is not None or not after else _find_written(read_channel, channel, after)
    return {} if written is None else {mark_key(place): written}


def _find_written(read_channel: ReadChannel, channel: Channel, record: int) -> int | None:
    for text in read_channel(channel.name, query_of_record(record), 1).events:
        if find_records([text]) == [record] and (found := _WRITTEN.search(text)):
            return int(re.sub(r"[^0-9]", "", found[1]))
    return None


def find_records(events: Sequence[str]) -> list[int]:
    """The record numbers of events, also of those that could not be read otherwise."""
    return [int(record[1]) for text in events if (record := _RECORD.search(text))]


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Adds counts to those of the same reasons."""
    for reason, count in more.items():
        if count:
            counts[reason] = counts.get(reason, 0) + count
