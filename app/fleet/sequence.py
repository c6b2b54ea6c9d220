"""Whether a report is new, late, a replay, or from a clone: told from the tags of the last 16 sequences of an epoch."""

from __future__ import annotations

from enum import Enum

SLOTS = 16
TAG_BYTES = 8
EMPTY_TAG = bytes(TAG_BYTES)
EMPTY_RECENT = bytes(SLOTS * TAG_BYTES)


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
