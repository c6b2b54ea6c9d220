"""Takes everything personal out of a path: what is left are uv's own words and the names of known folders."""

from __future__ import annotations

import functools
import ntpath
import posixpath
import re

from agent.catalogue.classify import classify
from agent.catalogue.expand import Machine, root_places
from agent.catalogue.load import load
from agent.catalogue.normalise import lookup, lower_ascii, normalise

# A file name is kept if it says nothing about a person or a project.
_KNOWN_NAME = re.compile(
    r"^(?:(?:python|pypy|graalpy|pyodide)w?(?:3(?:\.\d+)?)?(?:t|d|td)?|uv[xw]?|ruff|ty|uv-build|cmake|ninja|maturin)(?:\.exe)?$"
    r"|^(?:de)?activate\.(?:bat|ps1)$|^pydoc\.bat$"
)
_ROOT = re.compile(r"^(<[^<>]+>|%[^%]+%)")
_FOLDERS = ("TEMP", "LOCALAPPDATA", "APPDATA", "USERPROFILE")
_SHARED_FOLDERS = {
    "PROGRAMFILES": r"C:\Program Files",
    "PROGRAMFILES(X86)": r"C:\Program Files (x86)",
    "PROGRAMDATA": r"C:\ProgramData",
    "WINDIR": r"C:\Windows",
}


def templated(path: str, machine: Machine) -> str:
    """A path as a template: known folders as variables, random and personal parts as wildcards.

    A path of one of uv's patterns becomes that pattern's template; any other keeps its known folder and, if it is
    one of uv's or Python's, its name. No user name, project name or random part is left.

    >>> machine = Machine(env={"LOCALAPPDATA": r"C:\\Users\\jo\\AppData\\Local", "USERPROFILE": r"C:\\Users\\jo"})
    >>> templated(r"C:\\Users\\jo\\AppData\\Local\\uv\\cache\\builds-v0\\.tmpAb12Cd\\Scripts\\python.exe", machine)
    '%LOCALAPPDATA%\\\\uv\\\\cache\\\\builds-v0\\\\.tmp??????\\\\Scripts\\\\python.exe'
    """
    if machine.platform == "linux":
        return _templated_posix(path, machine)
    plain = normalise(path, machine.env)
    if plain is None:
        return "*"
    pattern_id = classify(path, machine=machine)
    if pattern_id is not None:
        pattern = load().pattern(pattern_id)
        for template in pattern.templates:
            if found := _fitting(template, plain, machine):
                return found
        rest = _ROOT.sub("", (*pattern.templates, pattern.default_path)[0])
        return "*" + rest
    folder, rest = _known_folder(plain, machine)
    if folder in {f"%{name}%" for name in _SHARED_FOLDERS}:
        return folder + rest
    name = ntpath.basename(plain)
    return f"{folder}\\**\\{name if _KNOWN_NAME.match(lower_ascii(name)) else '*' + ntpath.splitext(name)[1]}"


def templated_directory(path: str, machine: Machine) -> str:
    """A directory that uv was told to use, with known folders as variables and the user's own name as `*`."""
    if machine.platform == "linux":
        home = machine.env.get("HOME", "").rstrip("/")
        return "%HOME%" + path[len(home) :] if home and (path + "/").startswith(home + "/") else path
    plain = normalise(path, machine.env)
    if plain is None:
        return "*"
    folder, rest = _known_folder(plain, machine)
    env = lookup(machine.env)
    own = {lower_ascii(name) for name in (env.get("username", ""), ntpath.basename(env.get("userprofile", ""))) if name}
    return folder + "\\".join("*" if lower_ascii(part) in own else part for part in rest.split("\\"))


def _known_folder(plain: str, machine: Machine) -> tuple[str, str]:
    """(variable, rest) of the longest known folder that a path is in; a drive or share stands for itself."""
    places = [(f"%{name}%", place) for name in _FOLDERS for place in root_places(f"%{name}%", machine)]
    env = lookup(machine.env)
    places += [(f"%{name}%", env.get(name.lower(), default)) for name, default in _SHARED_FOLDERS.items()]
    lowered = lower_ascii(plain)
    best = ("", "")
    for variable, place in places:
        start = lower_ascii(place).rstrip("\\") + "\\"
        if (lowered + "\\").startswith(start) and len(start) > len(best[1]):
            best = (variable, start)
    if best[0]:
        return best[0], plain[len(best[1]) - 1 :]
    if plain.startswith("\\\\"):
        return "\\\\*", "\\" + plain[2:].split("\\", 2)[-1]
    return plain[:2], plain[2:]


def _fitting(template: str, plain: str, machine: Machine) -> str | None:
    found = _ROOT.match(template)
    root = found[1] if found else ""
    rest = template[len(root) :]
    for place in root_places(root, machine) if root else ("",):
        start = lower_ascii(place).rstrip("\\")
        if lower_ascii(plain).startswith(start) and _glob(lower_ascii(rest)).fullmatch(
            lower_ascii(plain[len(start) :])
        ):
            return _written_root(root, place, machine) + _with_known_name(rest, plain)
    return None


def _written_root(root: str, place: str, machine: Machine) -> str:
    if root.startswith("%") or root == "<project>":
        return root
    folder, rest = _known_folder(place, machine)
    # A relocated directory keeps its catalogue name: where it was moved to is a fact of its own.
    return folder + rest if folder.startswith("%") and "\\uv" in lower_ascii(folder + rest) + "\\uv" else root


def _with_known_name(rest: str, plain: str) -> str:
    folder, _, last = rest.rpartition("\\")
    name = ntpath.basename(plain)
    if "*" not in last and "?" not in last:
        return rest
    if _KNOWN_NAME.match(lower_ascii(name)):
        return f"{folder}\\{name}"
    return rest if last != "**" else f"{rest}\\*{ntpath.splitext(name)[1]}"


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """An expression for a glob: `**` any number of segments, `*` within one, `?` one character."""
    parts = []
    for part in re.split(r"(\*\*\\|\*\*|\*|\?)", pattern):
        parts.append(
            {"**\\": r"(?:[^\\]+\\)*", "**": r".+", "*": r"[^\\]*", "?": r"[^\\]"}.get(part) or re.escape(part)
        )
    return re.compile("".join(parts))


def _templated_posix(path: str, machine: Machine) -> str:
    plain = posixpath.normpath(path)
    for pattern in load().patterns:
        for template in pattern.posix:
            found = _ROOT.match(template)
            root = found[1] if found else ""
            rest = template[len(root) :]
            for place in root_places(root, machine):
                inside = plain[len(place) :]
                if plain.startswith(place + "/") and _glob(rest.replace("/", "\\")).fullmatch(
                    inside.replace("/", "\\")
                ):
                    folder, _, last = rest.rpartition("/")
                    name = posixpath.basename(plain)
                    return f"{root}{folder}/{name if _KNOWN_NAME.match(name) else last}"
    return "**/" + (posixpath.basename(plain) if _KNOWN_NAME.match(posixpath.basename(plain)) else "*")
