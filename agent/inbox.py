"""Taking what users left, as the system account: by handle, from whoever owns the file, and nothing else.

The inbox of a user is a folder that the system half made and owns; only that user may put files into it. The system
half opens one name in it, looks at what it opened, and reads that very handle. It writes, removes, renames and starts
nothing there: a user who swaps the file or the folder for a link while we look gains nothing but a refusal.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from agent.left import Left, judge_left
from agent.notes import MAX_NOTE_BYTES, Note, NoteError, read_note
from agent.places import NOTE_NAME

if sys.platform == "win32":
    from agent._inbox_windows import claim, list_people, make_inbox, open_left
else:
    from agent._inbox_posix import claim, list_people, make_inbox, open_left

__all__ = ["Refusal", "Taken", "claim", "list_people", "make_inbox", "take_notes"]


OpenLeft = Callable[[Path, str, str], AbstractContextManager[Left]]
"""The inbox, the user's SID and the file's name. Raises OSError; FileNotFoundError if nothing was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A file that was not taken, and why."""

    sid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The notes of this look, by the SID of the file's owner, and what was refused."""

    notes: Mapping[str, Note] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()


def take_notes(inbox: Path, people: Iterable[str], *, open_file: OpenLeft = open_left) -> Taken:
    """Look into the inbox of each user once."""
    notes: dict[str, Note] = {}
    refused = []
    for sid in people:
        try:
            with open_file(inbox, sid, NOTE_NAME) as left:
                reason = judge_left(left.facts, sid)
                content = b"" if reason else left.read(MAX_NOTE_BYTES + 1)
            if reason is None:
                notes[sid] = read_note(content)
        except FileNotFoundError:
            continue
        except NoteError as error:
            reason = f"it is no note: {error}"
        except OSError as error:
            reason = _words(error)
        if reason is not None:
            refused.append(Refusal(sid=sid, reason=reason))
    return Taken(notes=notes, refused=tuple(refused))


def _words(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "it is a link"
    if error.errno == errno.ENOTDIR:
        return "the folder is none"
    number = getattr(error, "winerror", None) or error.errno
    return f"it cannot be opened (error {number})"
