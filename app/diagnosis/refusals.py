"""Finds in an output's lines each start that was refused: its number, the text around it, the traceback behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from agent.catalogue.errors import ErrorText, load_errors
from app.diagnosis.codes import Number, find_numbers
from app.diagnosis.lines import JOINT
from app.diagnosis.places import frame_path

_REACH = 40
"""So many lines below a text may its number stand: a hook's whole traceback lies between."""

_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_TOP = re.compile(r"^\s*(?:error|warning):|^\s*× ")
_AUDIT_ONLY = (785,)
# Windows' own words for a group policy, in the languages that are known: for where no number is printed (cmd.exe,
# PowerShell, Python's launcher). They support, and never decide against a number.
_SAID_BLOCKED = re.compile(
    r"blocked by group policy|Application Control policy has blocked|durch (?:eine )?Gruppenrichtlinie"
    r"|par une strat\S{1,4}gie de groupe|por (?:una |la )?directiva de grupo|d?ai [Cc]riteri di gruppo"
    r"|pela [Pp]ol\S{1,4}tica de [Gg]rupo|door (?:een )?groepsbeleid|przez zasady grupy"
    r"|グループ ポリシー|组策略|群組原則",
    re.IGNORECASE,
)
_SAID_MISSING = re.compile(
    r"cannot find the (?:file|path)|kann die angegebene Datei nicht finden|sp.{1,3}cifi.{1,3} est introuvable"
    r"|no puede encontrar (?:el archivo|la ruta)"
)
_UNNUMBERED = frozenset({"venvlauncher-create-process", "constrained-language", "python-dll"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A number or a text without one, with the text that names the file and the files of the traceback above it.

    `code` is None where the words alone say so. `inner` is the text closest to the number, `outer` the one that frames
    it, if any. `names` are the parts that the inner text names: path, command, hook ...
    """

    code: int | None
    kind: str
    line: int
    text: str
    inner: ErrorText | None = None
    names: dict[str, str] = field(default_factory=dict)
    outer: tuple[str, ...] = ()
    outer_names: dict[str, str] = field(default_factory=dict)
    frames: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    line: int
    error: ErrorText
    names: dict[str, str]


def said_blocked(text: str) -> bool:
    """Whether a text uses Windows' own words for a block, in a language that is known."""
    return _SAID_BLOCKED.search(text.replace(JOINT, " ")) is not None


def said_missing(text: str) -> bool:
    """Whether a text says that a file is not there."""
    return _SAID_MISSING.search(text.replace(JOINT, " ")) is not None


def find_refusals(lines: list[str]) -> list[Refusal]:
    """Every number that an output prints, and every text of a refusal without one, in order."""
    refusals: list[Refusal] = []
    seen: list[_Seen] = []
    frames: list[str] = []
    for at, line in enumerate(lines):
        if _TRACEBACK.search(line):
            frames = []
        if path := frame_path(line):
            frames.append(path)
        if _TOP.match(line):
            # A new message; but what a program behind a launcher says is part of the launcher's.
            seen = [text for text in seen if text.error.id in ("query-status", "build-hook-failed", "self-update")]
        found = _texts(line, at)
        seen += found
        recent = [text for text in seen if at - text.line <= _REACH]
        numbers = [number for number in _numbers(line) if number.code not in _AUDIT_ONLY]
        for number in numbers:
            refusals.append(_refusal(number.code, number.kind, at, line, recent, frames))
        if numbers and numbers[-1].kind == "os":
            seen = []
        if numbers:
            continue
        told = any(text.error.id in _UNNUMBERED for text in found)
        if told or (said_blocked(line) and not _numbered_soon(lines, at)):
            refusals.append(_refusal(None, "text", at, line, recent, frames))
    return refusals


def _numbers(line: str) -> list[Number]:
    return find_numbers(line.replace(JOINT, "")) or find_numbers(line.replace(JOINT, " "))


def _numbered_soon(lines: list[str], at: int) -> bool:
    """Whether the words' number stands in one of the next lines, where a console wrapped them."""
    return any(_numbers(line) for line in lines[at + 1 : at + 3])


def _texts(line: str, at: int) -> list[_Seen]:
    found = []
    # A wrapped message was cut at a space; a path, in backticks, may have been cut anywhere.
    parts = line.split("`")
    line = "`".join(part if number % 2 else part.replace(JOINT, " ") for number, part in enumerate(parts))
    for error in load_errors():
        match = error.match.search(line)
        if match:
            names = {name: value for name, value in match.groupdict().items() if value}
            found.append(_Seen(line=at, error=error, names=names))
    return found


def _refusal(code: int | None, kind: str, at: int, line: str, recent: list[_Seen], frames: list[str]) -> Refusal:
    naming = [text for text in recent if text.error.tells != "around"]
    inner = naming[-1] if naming else None
    around = [text for text in recent if text.error.tells == "around"]
    return Refusal(
        code=code,
        kind=kind,
        line=at,
        text=line,
        inner=inner.error if inner else None,
        names=inner.names if inner else {},
        outer=tuple(text.error.id for text in recent),
        outer_names={name: value for text in (*around, *naming) for name, value in text.names.items()},
        frames=tuple(frames),
    )
