"""Whether a report is new, late, a replay, or from a clone: told from the tags of the last 16 sequences of an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SLOTS = 16
TAG_BYTES = 8
EMPTY_TAG = bytes(TAG_BYTES)
EMPTY_RECENT = bytes(SLOTS * TAG_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportNumber:
    """One of the newest numbers of an epoch, and whether its report arrived."""

    number: int
    arrived: bool


class Place(Enum):
    """Where a report stands among those known."""

    NEW = "new"
    LATE = "late"
    REPLAY = "replay"
    REUSED = "reused"
    TOO_OLD = "too_old"


def place(epoch: int, sequence: int, recent: bytes, its_epoch: int, its_sequence: int, its_tag: bytes) -> Place:
    """Where a report stands, given the subject's epoch, highest sequence and recent tags.

    >>> recent = remember(EMPTY_RECENT, 0, 3, b"report-3")
    >>> place(1, 3, recent, 1, 3, b"report-3"), place(1, 3, recent, 1, 3, b"a clone!")
    (<Place.REPLAY: 'replay'>, <Place.REUSED: 'reused'>)
    >>> place(1, 3, recent, 1, 2, b"report-2")
    <Place.LATE: 'late'>
    """
    if its_epoch > epoch or (its_epoch == epoch and its_sequence > sequence):
        return Place.NEW
    if its_epoch < epoch or its_sequence <= sequence - SLOTS:
        return Place.TOO_OLD
    start = its_sequence % SLOTS * TAG_BYTES
    tag = recent[start : start + TAG_BYTES]
    if tag == its_tag:
        return Place.REPLAY
    # An empty slot is a hole in the sequence: this report was sent before, and arrives only now.
    return Place.LATE if tag in (EMPTY_TAG, b"") else Place.REUSED


def remember(recent: bytes, highest: int, sequence: int, tag: bytes) -> bytes:
    """The tags after a report: its own in its slot, empty ones for those skipped since the highest known."""
    slots = bytearray(recent.ljust(SLOTS * TAG_BYTES, b"\0"))
    if sequence - highest > SLOTS:
        slots = bytearray(EMPTY_RECENT)
    else:
        for skipped in range(highest + 1, sequence):
            start = skipped % SLOTS * TAG_BYTES
            slots[start : start + TAG_BYTES] = EMPTY_TAG
    start = sequence % SLOTS * TAG_BYTES
    slots[start : start + TAG_BYTES] = tag
    return bytes(slots)


def list_recent(sequence: int, recent: bytes, missed: int) -> tuple[ReportNumber, ...]:
    """The newest numbers up to the highest, at most SLOTS, each with whether it arrived.

    `missed`: the holes known in all of the epoch. Empty slots before the first that arrived are holes only if those
    count them too; else the server heard of this epoch later, and they are left out.

    >>> recent = remember(remember(EMPTY_RECENT, 2, 3, b"report-3"), 3, 5, b"report-5")
    >>> [(one.number, one.arrived) for one in list_recent(5, recent, 1)]
    [(3, True), (4, False), (5, True)]
    >>> [one.number for one in list_recent(5, recent, 3)]
    [1, 2, 3, 4, 5]
    """
    slots = recent.ljust(SLOTS * TAG_BYTES, b"\0")
    numbers = []
    for number in range(max(min(1, sequence), sequence - SLOTS + 1), sequence + 1):
        start = number % SLOTS * TAG_BYTES
        numbers.append(ReportNumber(number=number, arrived=slots[start : start + TAG_BYTES] != EMPTY_TAG))
    first = next((index for index, one in enumerate(numbers) if one.arrived), len(numbers))
    holes = sum(not one.arrived for one in numbers)
    return tuple(numbers if missed >= holes else numbers[first:])
