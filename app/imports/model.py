"""What reading a file of events gives: what may become sightings, what was left out and why, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_PROBLEMS = 50
"""Faults that are told one by one; all are counted."""


NO_RECORD = -1
"""The event is known again by all else that it says."""
NO_TIME = -2
"""It is known again by its file: a list of files says no more."""


class Seen(NamedTuple):
    """An event of one of uv's patterns. `record`: or NO_RECORD, or NO_TIME where the file does not say when either.

    `sid`: empty where the file does not say whose try it was; `at`: milliseconds since 1970; `path`: a template.
    """

    computer: str
    sid: str
    channel: str
    record: int
    at: int
    event_id: int
    pattern: str
    path: str
    collection: str | None = None
    rule_id: str | None = None
    sha256: str | None = None
    fqbn: str | None = None


class Problem(NamedTuple):
    """A fault in a file. `place`: `line 17`, `chunk 3`, `record 4711`."""

    place: str
    message: str


Position = Mapping[str, int]
"""Where to go on reading: `offset` in bytes, and what else a format needs (`line`, `rows`)."""


@dataclass(slots=True, kw_only=True)
class Part:
    """What one stretch of a file gave. `after`: where the next one begins; `read`: events looked at."""

    after: Position
    read: int = 0
    seen: list[Seen] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add_problem(self, place: str | int, message: str, reason: str) -> None:
        """Counts a fault under a reason, and tells it if not too many were told. `place`: a number is a record's."""
        self.left_out[reason] += 1
        self.faults += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(f"record {place}" if isinstance(place, int) else place, message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a person says of a file that does not say it. `computer` and `event_type` (`denied`, `audited`): of a list
    of files, which has neither; `at`: its time, in milliseconds; `env`: variables that moved uv's directories.
    """

    computer: str = ""
    event_type: str = ""
    at: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


class FileError(ValueError):
    """The file can't be read at all. `place`: where, if that is known."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place


class Reasons:
    """Why an event is no sighting, in the words of the report."""

    NOT_OF_UV = "file is none of uv's"
    ALLOWED = "allowed: neither blocked nor audited"
    OTHER_EVENT = "another event"
    NO_PATH = "names no file"
    NO_TIME = "has no time"
    NO_COMPUTER = "names no computer"
    NO_RECORD = "has no record number"
    OWN_PROBE = "a probe of Wayleave's agent"
    POWERSHELL_TEST = "PowerShell's own test"
    FUTURE = "lies in the future"
    TOO_OLD = "older than sightings are kept"
    DAMAGED = "damaged"
    CORRUPT_CHUNK = "in a corrupt chunk"
    UNREADABLE = "unreadable"
