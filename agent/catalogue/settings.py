"""The variables and uv.toml keys that move uv's directories, and the uv that honours each first. Standard library."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

from agent.catalogue.changes import read_version

FILE = Path(__file__).with_name("uv_settings.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One variable, and the key of uv.toml that says the same (None: there is none).

    `since`: the first uv that reads the variable; `key_since`: the first that reads the key from the machine's file;
    `root`: which of uv's directories it moves (`uv`, `python`, `tools`, `bin`, `cache`), None for a behaviour.
    """

    variable: str
    since: str
    moves: str
    sources: tuple[str, ...]
    root: str | None = None
    key: str | None = None
    key_since: str | None = None

    def is_honoured_by(self, version: str) -> bool:
        """Whether a uv reads the variable. raises: ValueError for what is no version"""
        return read_version(version) >= read_version(self.since)


@functools.cache
def load_settings() -> tuple[Setting, ...]:
    """All settings, in the order of the file."""
    document = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Setting(**{**entry, "sources": tuple(entry["sources"])}) for entry in document["setting"])


def get_setting(variable: str) -> Setting:
    """The setting of a variable. raises: KeyError"""
    for setting in load_settings():
        if setting.variable == variable:
            return setting
    raise KeyError(variable)
