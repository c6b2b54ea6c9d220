r"""Where a workstation's folders really are, for whoever judges files there: another drive, a share, a mounted volume.

Agents report each root of uv in AppLocker's words, from the opened folder's final path. A rule for
`%OSDRIVE%\Users\*` opens nothing in a profile that lies on a share, so files are judged where the folder is, not where
its name says. What is no fixed drive has no place that a path on a typical machine could name: stand-ins hold it until
a file is made of it. What a report says in no words that are understood is taken for a place that no folder's rule
reaches. Reports choose places to judge, never what a rule says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.catalogue import Machine
from agent.catalogue import roots as roots_of_machine
from app.applocker.model import Drive, File
from app.fleet.tables import KIND_NUMBERS, FactSet
from app.policies.coverage import TYPICAL_ENVIRONMENT
from app.policies.reach import shown

Places = tuple[tuple[str, str], ...]
"""What is elsewhere than on most workstations: uv's answers by their names, known folders by their variables."""

ANSWER_OF_ROOT = {
    "cache": "cache_dir",
    "python": "python_dir",
    "python_bin": "python_bin_dir",
    "tools": "tool_dir",
    "tool_bin": "tool_bin_dir",
}
_ROOT_OF_ANSWER = {answer: root for root, answer in ANSWER_OF_ROOT.items()}
_FOLDERS = ("USERPROFILE", "LOCALAPPDATA", "APPDATA", "TEMP")
_APPLOCKER = {
    "%OSDRIVE%": "C:",
    "%WINDIR%": r"C:\Windows",
    "%SYSTEM32%": r"C:\Windows\System32",
    "%PROGRAMFILES%": r"C:\Program Files",
}
_STAND_INS = {
    r"\\wayleave.invalid\stand-in\hot": ("H:", Drive.HOT),
    r"\\wayleave.invalid\stand-in\removable": ("R:", Drive.REMOVABLE),
    r"\\wayleave.invalid\stand-in\volume": (r"\\?\Volume{0}", Drive.FIXED),
}
"""Shares that are none: a stick, a disc, a volume that has no letter; and what a file there is to the engine."""

_HOT, _DISC, _NOWHERE = _STAND_INS
UNKNOWN_PLACE = _NOWHERE + "\\x"
"""What stands for a place that is told in no words that are understood."""

_VOLUME = "\\\\?\\Volume{*}"
_MAX_PLACE = 400
_NAMES = (*sorted(ANSWER_OF_ROOT), *sorted(_ROOT_OF_ANSWER), "data", "home", "temp")
_POSIX = ("/", "%HOME%")
_PLAIN = re.compile(r"""[^\x00-\x1f<>"|?/:%*]+""")


def read_places(session: Session) -> dict[int | None, Places]:
    """Where uv's folders really are, by environment set."""
    places: dict[int | None, Places] = {None: ()}
    rows = session.execute(select(FactSet.id, FactSet.body).where(FactSet.kind == KIND_NUMBERS["environment"]))
    for set_id, body in rows:
        places[set_id] = places_of(json.loads(body))
    return places


def places_of(environment: Mapping[str, Any]) -> Places:
    """What is elsewhere than on a typical machine, of an environment set: by its roots, else by uv's own answers.

    >>> places_of({"roots": {"cache": "%OSDRIVE%\\\\Users\\\\*\\\\AppData\\\\Local\\\\uv\\\\cache"}})
    ()
    >>> places_of({"roots": {"cache": "D:\\\\*\\\\uv\\\\cache"}})
    (('cache_dir', 'D:\\\\x\\\\uv\\\\cache'),)
    """
    return _places(_texts(environment.get("roots")), _texts(environment.get("answers")), _moves_cache(environment))


def machine_at(places: Places, project_roots: Iterable[str] = ()) -> Machine:
    """A workstation with its folders at these places. `project_roots`: in AppLocker's words."""
    folders = tuple(shown(root).replace("\\Users\\*", "\\Users\\anyone") for root in project_roots)
    moved = dict(places)
    environment = TYPICAL_ENVIRONMENT | {name: moved[name] for name in _FOLDERS if name in moved}
    environment["TMP"] = environment["TEMP"]
    answers = {answer: moved[answer] for answer in _ROOT_OF_ANSWER if answer in moved}
    return Machine(env=environment, project_roots=folders or (r"C:\projects",), answers=answers)


def file_at(path: str, **identity: Any) -> File:
    """A file at a path of such a workstation, as the engine takes it.

    >>> file_at(r"\\\\wayleave.invalid\\stand-in\\hot\\uv\\uv.exe").path
    'H:\\\\uv\\\\uv.exe'
    """
    for stand_in, (begin, drive) in _STAND_INS.items():
        if path.startswith(stand_in + "\\"):
            return File(path=begin + path[len(stand_in) :], drive=drive, **identity)
    return File(path=path, **identity)


def on_disk(told: str, environment: Mapping[str, str] = TYPICAL_ENVIRONMENT) -> str:
    """A place that a report tells (in AppLocker's words, or by known folders) as a path; `*` becomes any word.

    What cannot be understood becomes a place that no rule for a folder reaches.

    >>> on_disk("%OSDRIVE%\\\\Users\\\\*\\\\AppData"), on_disk("\\\\\\\\*\\\\*\\\\uv")
    ('C:\\\\Users\\\\anyone\\\\AppData', '\\\\\\\\x\\\\x\\\\uv')
    >>> on_disk("\\\\\\\\?\\\\Volume{*}\\\\x") == on_disk("(relative)")
    True
    """
    if len(told) > _MAX_PLACE:
        return UNKNOWN_PLACE
    is_share = told.startswith("\\\\") and not told.startswith(_VOLUME)
    first, *parts = told.removeprefix("\\\\").split("\\") if is_share else _first_of(told)
    begin = _begin(first, environment, is_share=is_share)
    names = ["x" if part == "*" else part for part in parts if part]
    if begin is None or not all(_PLAIN.fullmatch(name) and name.strip(". ") for name in names):
        return UNKNOWN_PLACE
    if begin == "C:" and names[:1] and names[0].lower() == "users" and parts[1:2] == ["*"]:
        names[1] = "anyone"
    # Of a whole drive or share, any folder: a place has to be one.
    names += ["x"] * ((2 if is_share else 1 if begin.endswith(":") else 0) - len(names))
    return begin + "".join(f"\\{name}" for name in names)


def _first_of(told: str) -> list[str]:
    if told.startswith(_VOLUME):
        return [_VOLUME, *told[len(_VOLUME) :].split("\\")[1:]]
    return told.split("\\")


def _begin(first: str, environment: Mapping[str, str], *, is_share: bool) -> str | None:
    if is_share:
        server = "x" if first == "*" else first
        return f"\\\\{server}" if _PLAIN.fullmatch(server) else None
    word = first.upper()
    fixed = {_VOLUME.upper(): _NOWHERE, "%HOT%": _HOT, "%REMOVABLE%": _DISC}.get(word) or _APPLOCKER.get(word)
    if fixed:
        return fixed
    if re.fullmatch("%[A-Z0-9_()]+%", word):
        return environment.get(word.strip("%"))
    return word if re.fullmatch("[A-Z]:", word) else None


def _texts(value: object) -> tuple[tuple[str, str], ...]:
    """The known names of a mapping that a workstation sent, with the texts that are texts."""
    if not isinstance(value, Mapping):
        return ()
    found = ((name, value.get(name)) for name in _NAMES)
    # Those of other systems are no Windows places; nothing there is judged.
    return tuple((name, text) for name, text in found if isinstance(text, str) and not text.startswith(_POSIX))


def _moves_cache(environment: Mapping[str, Any]) -> bool:
    """Whether the cache was told to be somewhere, so that it says nothing of the folder it is in by default."""
    answers, variables, settings = (environment.get(name) or {} for name in ("answers", "variables", "uv_toml"))
    told = answers.get("cache_dir") if isinstance(answers, Mapping) else None
    if isinstance(told, str):
        return told.lower() != "%localappdata%\\uv\\cache"
    return "UV_CACHE_DIR" in variables or "cache-dir" in settings


@lru_cache(maxsize=65_536)
def _places(
    told_roots: tuple[tuple[str, str], ...], told_answers: tuple[tuple[str, str], ...], moves_cache: bool
) -> Places:
    real = {name: on_disk(text) for name, text in told_roots}
    folders = _folders(real, moves_cache=moves_cache)
    environment = TYPICAL_ENVIRONMENT | folders
    for answer, text in told_answers:
        root = _ROOT_OF_ANSWER.get(answer)
        if root is not None and root not in real:
            real[root] = on_disk(text, environment)
    usual = roots_of_machine(machine_at(tuple(folders.items())))
    answers = {
        answer: real[root]
        for root, answer in ANSWER_OF_ROOT.items()
        if root in real and real[root].lower() != usual[root].lower()
    }
    return tuple(sorted((*folders.items(), *answers.items())))


def _folders(real: Mapping[str, str], *, moves_cache: bool) -> dict[str, str]:
    """The known folders that are elsewhere, as far as uv's roots tell of them."""
    home = real.get("home", TYPICAL_ENVIRONMENT["USERPROFILE"])
    local = home + "\\AppData\\Local"
    if not moves_cache and real.get("cache", "").lower().endswith("\\appdata\\local\\uv\\cache"):
        # A junction for the cache alone, or a package's private copy of it, has another ending and moves no folder.
        local = real["cache"][: -len("\\uv\\cache")]
    found = {
        "USERPROFILE": home,
        "LOCALAPPDATA": local,
        "APPDATA": _above(real.get("data"), "\\uv", home + "\\AppData\\Roaming"),
        "TEMP": real.get("temp", local + "\\Temp"),
    }
    return {name: place for name, place in found.items() if place.lower() != TYPICAL_ENVIRONMENT[name].lower()}


def _above(place: str | None, ending: str, usual: str) -> str:
    """The folder that a root of uv's lies in; the usual one if it cannot be told, or if it is deeper in that."""
    if place is None or not place.lower().endswith(ending):
        return usual
    above = place[: -len(ending)]
    return usual if (above + "\\").lower().startswith(usual.lower() + "\\") else above
