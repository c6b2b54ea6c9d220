"""Reading the event channels in one cycle: from where the last cycle ended, in bounded batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from agent.catalogue import Machine
from agent.contract.messages import Sighting
from agent.events import (
    CHANNELS,
    MAX_SIGHTINGS,
    ChannelRead,
    Reading,
    Window,
    explain_error,
    first_record,
    parse_event,
    sort_events,
)

_RECORD = re.compile(r"<EventRecordID>\s*([0-9]{1,18})\s*<")

ReadChannel = Callable[[str, tuple[int, ...], int, int], ChannelRead]
"""Channel, event ids, the record after which to begin, and how many at most."""


def read_events(
    read_channel: ReadChannel,
    records: Mapping[str, int],
    *,
    machine: Machine,
    sid: str,
    windows: Sequence[Window] = (),
) -> Reading:
    """What the channels hold that was not read yet. `records`: the last record read, by channel."""
    sightings: list[Sighting] = []
    went_on = dict(records)
    left_out: dict[str, int] = {}
    findings: list[str] = []
    for channel, wanted in CHANNELS.items():
        known = records.get(channel, 0)
        read = read_channel(channel, wanted, known, MAX_SIGHTINGS)
        if read.error:
            finding = explain_error(channel, read.error)
            findings += [finding] if finding else []
            continue
        after, lost = first_record(known, read)
        if lost:
            findings.append(f"{channel}: {lost}")
        if after != known:
            read = read_channel(channel, wanted, after, MAX_SIGHTINGS)
            went_on[channel] = after
        parsed = [parse_event(text) for text in read.events]
        events = [event for event in parsed if event is not None]
        if len(events) < len(parsed):
            left_out["unreadable"] = left_out.get("unreadable", 0) + len(parsed) - len(events)
        found = sort_events(channel, events, machine=machine, sid=sid, windows=windows)
        sightings += found.sightings
        for reason, count in found.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
        # Also what could not be read has been read: it would come again for ever.
        seen = [int(record[1]) for text in read.events if (record := _RECORD.search(text))]
        if seen:
            went_on[channel] = max(seen)
    return Reading(sightings=tuple(sightings), records=went_on, left_out=left_out, findings=tuple(findings))
