"""The user's half: probes in the user's own session and leaves a note. It has no network, no token and no rights.

What it found is written into the folder that the system's half made for this user, in place of the last note. Without
such a folder (the machine has just been set up) the next cycle tries again; the outcomes are remembered meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.inbox import claim
from agent.notes import MAX_NOTE_BYTES, encode_note
from agent.observe import LOCAL_SYSTEM, Observation, observe, recall, recall_windows, window_json
from agent.options import Options
from agent.places import NOTE_NAME, Places, read_orders
from agent.spool import load_progress, locked, save_progress


class WrongAccount(Exception):
    """This half runs as an account for which it was not made; the message says which one is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserResult:
    """What one cycle of the user's half came to. `trouble`: why no note was left; empty if one was."""

    observation: Observation
    trouble: str = ""


def run_user_cycle(
    options: Options,
    environment: Mapping[str, str],
    places: Places,
    *,
    clock: Callable[[], float] = time.time,
    force: bool = False,
) -> UserResult:
    """Probe if there is an occasion, and leave a note. raises: WrongAccount, AgentBusy, OSError"""
    with locked(options.state_dir) as state_dir:
        progress = load_progress(state_dir)
        allowed = options.probing and read_orders(places).probing
        observation = observe(
            replace(options, probing=allowed, read_events=False),
            environment,
            state_dir,
            memory=recall(progress),
            now=clock(),
            records={},
            windows=recall_windows(progress),
            force=force and allowed,
            catalogue_dir=places.orders,
        )
        sid = observation.principal.sid
        if sid == LOCAL_SYSTEM:
            raise WrongAccount("this half is for the people of this machine: the system account runs `machine`")
        content = encode_note(observation.facts.sets, observation.discovery.machine, observation.windows, now=clock())
        # Remembered before the note is left: a kill in between costs a note, and no second round of starts.
        save_progress(
            state_dir,
            replace(
                progress,
                probes=tuple(probe.to_json() for probe in observation.memory.probes.values()),
                windows=tuple(window_json(window) for window in observation.windows),
                fingerprint=observation.memory.fingerprint,
                probed_at=observation.memory.probed_at,
                starts_day=observation.memory.day,
                starts=observation.memory.starts,
                cycle_at=clock(),
            ),
        )
        trouble = leave_note(places, sid, content, elevated=observation.principal.elevated)
        return UserResult(observation=observation, trouble=trouble)


def leave_note(places: Places, sid: str, content: bytes, *, elevated: bool = False) -> str:
    """Put a note into this user's inbox in place of the last one. Returns what was in the way, or nothing."""
    folder = places.inbox / sid
    if len(content) > MAX_NOTE_BYTES:
        return f"what was found is too much for a note: {len(content)} bytes"
    if not folder.is_dir():
        return f"there is no inbox at {folder} yet: the system's half makes it at its next start"
    fresh = folder / f"{NOTE_NAME}.{os.getpid()}.new"
    try:
        for leftover in folder.glob(f"{NOTE_NAME}.*.new"):
            leftover.unlink(missing_ok=True)
        _write(fresh, content)
        if elevated:
            claim(fresh, sid)
        fresh.replace(folder / NOTE_NAME)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        return f"{folder}: {error.strerror or error}"
    return ""


def _write(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
