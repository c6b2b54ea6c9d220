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
# Folder names that programs bring with them. Any other may be somebody's name, or a project's.
_KNOWN_FOLDER = re.compile(
    r"^(?:uv|cache|data|tools|python|toolchains|bin|lib|scripts|\.local|\.cargo|pipx|venvs|scoop|shims|apps|current|cmd|git"
    r"|program files(?: \(x86\))?|programs|microsoft|windowsapps|winget|links|packages|astral-sh\.uv_[a-z0-9_.]+|astral"
    r"|chocolatey|hostedtoolcache|windows|syswow64|system32|systemtemp|temp|config|systemprofile|serviceprofiles"
    r"|python(?:\d+(?:-\d+)?)?|pypy\d*|(?:ana|mini)conda3?|miniforge3?|pythonsoftwarefoundation\.python\.[a-z0-9_.]+"
    r"|users|public|appdata|local|roaming|localcache|site-packages|dlls|x86_64|aarch64|\d+\.\d+\.\d+)$"
)
_KNOWN_ENDING = re.compile(r"^\.(?:exe|com|dll|pyd|ocx|node|ps1|bat|cmd|vbs|js|msi|msp|mst|py|pyw|whl|lock|toml|txt)$")
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
        for template in pattern.templates:
            rest = _ROOT.sub("", template)
            if _glob("**" + lower_ascii(rest)).fullmatch(lower_ascii(plain)):
                return "*" + _with_known_name(rest, plain)
    folder, rest = _known_folder(plain, machine)
    name = _known_name(plain)
    if folder in {f"%{shared}%" for shared in _SHARED_FOLDERS}:
        return "\\".join([folder, *map(_known_segment, rest.split("\\")[1:-1]), name])
    return f"{folder}\\**\\{name}"


def templated_directory(path: str, machine: Machine) -> str:
    """A directory that uv was told to use, with known folders as variables and the user's own name as `*`."""
    if machine.platform == "linux":
        home = machine.env.get("HOME", "").rstrip("/")
        own = [name for name in (machine.env.get("USER", ""), posixpath.basename(home)) if name]
        inside = home and (path + "/").startswith(home + "/")
        return "%HOME%" + _without(own, path[len(home) :]) if inside else _without(own, path)
    plain = normalise(path, machine.env)
    if plain is None:
        return "*"
    folder, rest = _known_folder(plain, machine)
    env = lookup(machine.env)
    own = [name for name in (env.get("username", ""), ntpath.basename(env.get("userprofile", ""))) if name]
    return folder + _without(own, rest)


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
    return (plain[:2], plain[2:]) if plain[1:2] == ":" else ("*", plain)


def _fitting(template: str, plain: str, machine: Machine) -> str | None:
    found = _ROOT.match(template)
    root = found[1] if found else ""
    rest = template[len(root) :]
    inside = _glob(lower_ascii(rest.removeprefix("\\..")))
    for place in root_places(root, machine) if root else ("",):
        above = ntpath.dirname(place) if rest.startswith("\\..\\") else place
        start = lower_ascii(above).rstrip("\\")
        if lower_ascii(plain).startswith(start) and inside.fullmatch(lower_ascii(plain[len(start) :])):
            return _written_root(root, place, machine) + _with_known_name(rest, plain)
    return None


def _written_root(root: str, place: str, machine: Machine) -> str:
    if root.startswith("%") or root == "<project>":
        return root
    folder, rest = _known_folder(place, machine)
    known = folder.startswith("%") and all(_KNOWN_FOLDER.match(part) for part in lower_ascii(rest).split("\\")[1:])
    # A relocated directory keeps its catalogue name: where it was moved to is a fact of its own.
    return folder + rest if known else root


def _with_known_name(rest: str, plain: str) -> str:
    folder, _, last = rest.rpartition("\\")
    if "*" not in last and "?" not in last:
        return rest
    name = _known_name(plain)
    if not name.startswith("*"):
        return f"{folder}\\{name}"
    return rest if last != "**" else f"{rest}\\{name}"


def _known_name(plain: str) -> str:
    """A file's name if it tells nothing about anybody, else a wildcard with its ending."""
    name = ntpath.basename(plain)
    if _KNOWN_NAME.match(lower_ascii(name)):
        return name
    ending = ntpath.splitext(name)[1]
    return "*" + (ending if _KNOWN_ENDING.match(lower_ascii(ending)) else "")


def _known_segment(name: str) -> str:
    return name if _KNOWN_FOLDER.match(lower_ascii(name)) else "*"


def _without(names: list[str], text: str) -> str:
    """A path with `*` for each of some names, in any case; a very short one counts only as a whole segment."""
    for name in sorted(names, key=len, reverse=True):
        expression = re.escape(name) if len(name) > 2 else rf"(?<![^\\/]){re.escape(name)}(?![^\\/])"
        text = re.sub(expression, "*", text, flags=re.IGNORECASE)
    return text


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
