"""Reads `uv_errors.toml`: the texts by which uv, and what it starts, say that something could not be started."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("uv_errors.toml")
TELLS = ("program", "behind", "command", "writing", "around", "missing", "library")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorText:
    """A text, and what it tells of the file that it names.

    `tells`: `program`: that file was refused; `behind`: it ran, and what it started was refused; `command`: a bare name
    was refused; `writing`: writing was refused; `missing`: the file is gone; `library`: a module could not be loaded;
    `around`: only a frame for other texts. `pattern`: the catalogue's, where the text alone names it.
    """

    id: str
    match: re.Pattern[str]
    tells: str
    source: str
    pattern: str | None = None
    since: str | None = None
    until: str | None = None


@functools.cache
def load_errors() -> tuple[ErrorText, ...]:
    """All texts, in the order in which they are tried. raises: ValueError"""
    texts = []
    for entry in tomllib.loads(FILE.read_text("utf-8"))["error"]:
        if entry["tells"] not in TELLS:
            raise ValueError(f"{entry['id']}: {entry['tells']} tells nothing")
        texts.append(ErrorText(**{**entry, "match": re.compile(entry["match"])}))
    return tuple(texts)
