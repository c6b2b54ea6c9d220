"""A file that a user left for the system account, as the opened handle shows it, and whether it may be read. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.notes import MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the platform says of an opened file. `in_place`: it lies where it was opened, and not behind a link."""

    owner: str
    size: int
    links: int = 1
    is_regular: bool = True
    is_reparse: bool = False
    in_place: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An opened file: what it is, and its content up to a number of bytes."""

    facts: FileFacts
    read: Callable[[int], bytes]


def judge_left(facts: FileFacts, sid: str) -> str | None:
    """Why an opened file is not taken as the word of a user; None if it is. `sid`: whose folder it lies in.

    >>> judge_left(FileFacts(owner="S-1-5-21-1-1001", size=10, links=2), "S-1-5-21-1-1001")
    'it has more than one name'
    """
    if facts.is_reparse:
        return "it is a link"
    if not facts.is_regular:
        return "it is no regular file"
    if not facts.in_place:
        return "it lies elsewhere"
    if facts.links != 1:
        return "it has more than one name"
    if facts.size > MAX_NOTE_BYTES:
        return "it is too large"
    if facts.owner.upper() != sid.upper():
        return "it belongs to somebody else"
    return None
