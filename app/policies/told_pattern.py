r"""Which pattern a file is of that a host says it tried: its path tells, and the host's word only where that fits.

Agents tell paths as templates, random and personal parts as wildcards. Where these leave open which pattern it is, the
host's own word counts if the path has a form of that pattern, and not otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from agent.catalogue import Catalogue, Pattern, classify, expand
from app.policies.reach import shown
from app.policies.roots import Places, machine_at
from app.policies.specimens import file_of_sighting, with_folders

_WILDCARDS = re.compile(r"[*?]")


def pattern_of_told(
    path: str, word: str, catalogue: Catalogue, places: Places = (), project_roots: Sequence[str] = ()
) -> str:
    """The id of the pattern, empty if the path is none of uv's. `word`: what the host calls it.

    >>> from agent.catalogue import load
    >>> cache = "%LOCALAPPDATA%\\\\uv\\\\cache\\\\builds-v0\\\\.tmp??????\\\\Scripts\\\\python.exe"
    >>> pattern_of_told(cache, "venv-python", load()), pattern_of_told("%OSDRIVE%\\\\x.exe", "venv-python", load())
    ('cache-builds-venv-python', '')
    """
    machine = machine_at(places, project_roots)
    found = classify(file_of_sighting(path, None, None, places, project_roots).path, machine=machine)
    told = shown(with_folders(path, places, project_roots)).lower()
    is_open = found is None or _WILDCARDS.search(told.replace("\\users\\*\\", "\\users\\x\\")) is not None
    pattern = next((one for one in catalogue.patterns if one.id == word), None)
    if is_open and pattern is not None:
        for form in _forms(pattern, places, tuple(project_roots)):
            if form.fullmatch(told) or form.fullmatch(path.lower()):
                return pattern.id
    return found or ""


@lru_cache(maxsize=512)
def _forms(pattern: Pattern, places: Places, project_roots: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """A pattern's templates and paths as expressions: `*` is within one folder, and so is a wildcard that is told."""
    forms = [
        *expand(pattern, machine_at(places, project_roots)),
        *map(shown, pattern.applocker_paths),
        *pattern.templates,
    ]
    found = []
    for form in forms:
        text = re.escape(form.lower().replace("\\users\\anyone\\", "\\users\\*\\"))
        text = text.replace(r"\*\*", ".*").replace(r"\*", r"[^\\]*").replace(r"\?", r"[^\\]")
        found.append(re.compile(text))
    return tuple(found)
