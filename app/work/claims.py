"""Who is at work on a row: a word that names machine, process and start, and whether its owner is still there."""

from __future__ import annotations

import os
import platform
import secrets
from datetime import datetime, timedelta

from app.db.base import now

UNHEARD_FOR = timedelta(seconds=60)
"""Whoever wrote nothing for so long is gone."""

# A process that was started anew, in a container for instance, may have the machine's name and number of the old one.
_PROCESS = secrets.token_hex(4)


def make_claim() -> str:
    """A word by which this process knows a row as its own; another each time."""
    return f"{platform.node()[:60]}:{os.getpid()}:{_PROCESS}{secrets.token_hex(8)}"


def is_held(claim: str, beat_at: datetime) -> bool:
    """Whether the owner of a claim is at work. `beat_at`: when it last wrote that it is.

    >>> is_held("", now())
    False
    >>> is_held(make_claim(), now())
    True
    """
    rest, _, word = claim.rpartition(":")
    node, _, process = rest.rpartition(":")
    if not process.isdecimal():
        return False
    if word.startswith(_PROCESS):
        return True
    if now() - beat_at >= UNHEARD_FOR:
        return False
    return node != platform.node()[:60] or (int(process) != os.getpid() and _is_there(int(process)))


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
