"""Puts pasted output back into the lines that the program wrote: colours, boxes, quoting and wrapping go."""

from __future__ import annotations

import re

MAX_CHARACTERS = 400_000
"""Of a longer text only the end is read: programs say last why they stopped."""

JOINT = "\x1f"
"""Stands where two pieces were joined: there may have been a space, or a word was cut in two."""

_MOST_JOINED = 6
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,1024}(?:\x07|\x1b\\)?|[@-_])")
_QUOTED = re.compile(r"^\s{0,3}(?:>(?: |$)){1,4}")
_BOX_ITEM = re.compile(r"^\s{0,12}(?:×|├─▶|╰─▶|├─>|╰─>|\|->|`->|Ã—|â”œâ”€â–¶|â•°â”€â–¶)\s+")
_BOX_MORE = re.compile(r"^\s{0,12}(?:│|â”‚|\|)\s{1,12}(?=\S)")
_BOX_INDENTED = re.compile(r"^\s{4,12}(?=\S)")
_BOX_END = re.compile(r"^\s*$|^\s*\[std(?:err|out)\]|^\s*hint: |^\s*--- std|^\s*help: ", re.IGNORECASE)
_POWERSHELL_NOISE = re.compile(
    r"^\s*(?:\+ ~|\+\s+CategoryInfo|At line:\d|(?:In|Zeile|Ligne|En|Au caractère) \S{0,40}:?\d+ )|^\s*\+ ?~+\s*$"
)
_FRAME = re.compile(r'^\s*(?:DEBUG\s+)?File "')
_NUMBERS = (("(", "os error "), ("[", "WinError "))


def read_lines(text: str) -> list[str]:
    """The logical lines of pasted output, without trailing space. Joints are marked with `JOINT`."""
    text = text[-MAX_CHARACTERS:].replace("\x00", "").replace(JOINT, "")
    text = _COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    raw = [_QUOTED.sub("", line).rstrip() for line in text.split("\n")]
    return _join_cut(_join_boxes([line for line in raw if not _POWERSHELL_NOISE.match(line)]))


def _join_boxes(raw: list[str]) -> list[str]:
    lines: list[str] = []
    in_box = False
    for line in raw:
        if _BOX_ITEM.match(line):
            lines.append(_BOX_ITEM.sub("  Caused by: ", line))
            in_box = True
        elif in_box and (_BOX_MORE.match(line) or _BOX_INDENTED.match(line)) and not _BOX_END.match(line):
            piece = _BOX_MORE.sub("", line) if _BOX_MORE.match(line) else line.strip()
            lines[-1] += JOINT + piece
        else:
            in_box = False
            lines.append(line)
    return lines


def _join_cut(lines: list[str]) -> list[str]:
    """Joins what a console cut at its right edge: open backticks, open quotes of a traceback, a cut number."""
    joined: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        for _ in range(_MOST_JOINED):
            if at >= len(lines) or not lines[at].strip() or not _is_cut(line):
                break
            line += JOINT + lines[at]
            at += 1
        joined.append(line)
    return joined


def _is_cut(line: str) -> bool:
    if line.count("`") % 2:
        return True
    if _FRAME.match(line) and line.count('"') % 2:
        return True
    return any(_ends_within(line, opening, words) for opening, words in _NUMBERS)


def _ends_within(line: str, opening: str, words: str) -> bool:
    start = line.rfind(opening, max(0, len(line) - 24))
    tail = line[start + 1 :]
    if start < 0 or not tail:
        return False
    return words.startswith(tail) or (tail.startswith(words) and tail.removeprefix(words).lstrip("-").isdigit())
