"""The note that the user's half leaves for the system's half, read as if an attacker had written it. Pure.

A note holds what only the user's session can know: the outcomes of the probes, the uvs found, the settings in force,
the token. The machine's own facts (host, policies, events) are not taken from it, and neither is the user's identity:
that is who owns the file. A note says how things stand and not what happened, so a newer one replaces an older one and
none has to be kept, acknowledged or removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from agent.catalogue import Machine
from agent.contract.canonical import ContractError, Json, canonical_json, parse_canonical
from agent.contract.facts import EnvironmentSet, FactSet
from agent.events import MAX_WINDOWS, Window
from agent.report import PLACE_VARIABLES

MAX_NOTE_BYTES = 256 << 10
FORM = 1

KINDS = ("environment", "probes", "token", "uv")
"""The sets that a user's half may speak of. The others are the machine's own."""

USER_VARIABLES = frozenset((*PLACE_VARIABLES, "APPDATA", "HOME", "LOCALAPPDATA", "USER", "USERPROFILE", "VIRTUAL_ENV"))
"""Variables by which the system's half recognises the user's files in event logs. They stay on the machine."""

_MAX_TEXT = 1_024
_MAX_ENTRIES = 16
_MAX_WINDOW_S = 3_600.0
_MAX_WINDOW_PATHS = 400
_DIGEST = re.compile(r"[0-9a-f]{32}")
_MAX_MOMENT_S = 2**40


class NoteError(ValueError):
    """A note that cannot be taken. The message names the place and repeats nothing of the note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one user's half found. `bodies`: canonical texts by kind; `made_at`: seconds since 1970, by its clock."""

    made_at: int
    bodies: Mapping[str, str]
    machine: Machine
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSet(FactSet):
    """A fact set whose canonical text is there already."""

    name: str
    text: str

    @property
    def kind(self) -> str:
        return self.name

    def to_json(self) -> dict[str, Json]:
        value = parse_canonical(self.text)
        return dict(value) if isinstance(value, Mapping) else {}

    def body(self) -> str:
        return self.text


def encode_note(sets: Mapping[str, FactSet], machine: Machine, windows: Sequence[Window], *, now: float) -> bytes:
    """A note as it is left. Sets that are not the user's to tell are not in it."""
    value = {
        "form": FORM,
        "made_at": int(now),
        "bodies": {kind: facts.body() for kind, facts in sets.items() if kind in KINDS},
        "machine": {
            "platform": machine.platform,
            "env": {name: text for name, text in machine.env.items() if name.upper() in USER_VARIABLES},
            "project_roots": list(machine.project_roots),
            "answers": dict(machine.answers),
        },
        "windows": [
            {
                "begun": int(window.begun * 1000),
                "ended": int(window.ended * 1000),
                "process_id": window.process_id,
                "paths": sorted(window.paths),
            }
            for window in windows
        ],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def read_note(content: bytes) -> Note:
    """A note from the bytes of a file. raises: NoteError"""
    if len(content) > MAX_NOTE_BYTES:
        raise NoteError("too large")
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NoteError("not whole JSON") from error
    top = _object(value, "note")
    if top.get("form") != FORM:
        raise NoteError("form: not a form that this agent knows")
    return Note(
        made_at=int(_number(top.get("made_at"), "made_at", most=_MAX_MOMENT_S)),
        bodies=_read_bodies(_object(top.get("bodies"), "bodies")),
        machine=_read_machine(_object(top.get("machine"), "machine")),
        windows=_read_windows(_list(top.get("windows", []), "windows", MAX_WINDOWS)),
    )


def with_event_logs(body: str, states: Mapping[str, str]) -> str:
    """The text of an environment set that also tells how the logs stand, which only the system's half can read."""
    value = parse_canonical(body)
    told: dict[str, Json] = dict(value) if isinstance(value, Mapping) else {}
    told.pop("event_logs", None)
    return canonical_json(told | {"event_logs": dict(states)} if states else told)


def _read_bodies(value: Mapping[str, Any]) -> dict[str, str]:
    if set(value) != set(KINDS):
        raise NoteError("bodies: not the sets that a user's half tells")
    for kind, text in value.items():
        if not isinstance(text, str):
            raise NoteError(f"bodies.{kind}: not a text")
        try:
            body = parse_canonical(text)
        except (ContractError, RecursionError) as error:
            raise NoteError(f"bodies.{kind}: not canonical JSON") from error
        if not isinstance(body, Mapping):
            raise NoteError(f"bodies.{kind}: not an object")
    environment = parse_canonical(value["environment"])
    known = {item.name for item in fields(EnvironmentSet)}
    if not isinstance(environment, Mapping) or not set(environment) <= known:
        raise NoteError("bodies.environment: unknown parts")
    return dict(value)


def _read_machine(value: Mapping[str, Any]) -> Machine:
    platform = value.get("platform")
    if platform not in ("windows", "linux"):
        raise NoteError("machine.platform: unknown")
    env = _texts(value.get("env"), "machine.env", most=len(USER_VARIABLES) + 8)
    if any(name.upper() not in USER_VARIABLES for name in env):
        raise NoteError("machine.env: a variable that no file is recognised by")
    roots = _list(value.get("project_roots"), "machine.project_roots", _MAX_ENTRIES)
    return Machine(
        env=env,
        platform=platform,
        project_roots=tuple(_text(root, "machine.project_roots") for root in roots),
        answers=_texts(value.get("answers"), "machine.answers", most=_MAX_ENTRIES),
    )


def _read_windows(values: Sequence[Any]) -> tuple[Window, ...]:
    windows = []
    for item in values:
        one = _object(item, "windows")
        begun = _number(one.get("begun"), "windows.begun", most=_MAX_MOMENT_S * 1000) / 1000
        ended = _number(one.get("ended"), "windows.ended", most=_MAX_MOMENT_S * 1000) / 1000
        if not 0 <= ended - begun <= _MAX_WINDOW_S:
            # A window that is open for ever would hide every event of its user.
            raise NoteError("windows: longer than a probing may take")
        paths = _list(one.get("paths"), "windows.paths", _MAX_WINDOW_PATHS)
        if not all(isinstance(path, str) and _DIGEST.fullmatch(path) for path in paths):
            raise NoteError("windows.paths: not digests")
        process_id = int(_number(one.get("process_id"), "windows.process_id", most=2**32))
        windows.append(Window(begun=begun, ended=ended, process_id=process_id, paths=frozenset(paths)))
    return tuple(windows)


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NoteError(f"{place}: not an object")
    return value


def _list(value: object, place: str, most: int) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise NoteError(f"{place}: not a list of at most {most}")
    return value


def _number(value: object, place: str, *, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise NoteError(f"{place}: not a number in range")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or any(ord(letter) < 32 for letter in value):
        raise NoteError(f"{place}: not a short text")
    return value


def _texts(value: object, place: str, *, most: int) -> dict[str, str]:
    found = _object(value, place)
    if len(found) > most:
        raise NoteError(f"{place}: more than {most} entries")
    return {_text(name, place): _text(text, place) for name, text in found.items()}
