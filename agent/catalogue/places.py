"""Where a catalogue from elsewhere may point: the places compiled into this release, and what stands there in a path.

A place is the beginning of a template, as far as it is fixed: a root alone where the whole folder is uv's own (its
cache), more than the root where others live there too (a profile, Program Files). What follows may not leave it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEMPLATE = 260
_MAX_STARS = 8
_MAX_DEEP_STARS = 3

_CACHE = r"(?:\\(?:AppData|LocalCache)\\Local\\uv(?:\\cache)?|<LOCALAPPDATA>\\uv(?:\\cache)?|<UV_CACHE_DIR>)"
_ROAMING = r"(?:\\(?:AppData|LocalCache)\\Roaming|\\Application Data|<APPDATA>)"
_LOCAL = r"(?:\\AppData\\Local|<LOCALAPPDATA>)"
_TEMP = r"(?:\\AppData\\Local\\Temp(?:\\\d{1,3})?|\\Windows\\(?:Temp|SystemTemp)|<TEMP_OVERRIDE>)"
_BIN = r"(?:\\\.local\\bin|<UV_TOOL_BIN_DIR>|<UV_PYTHON_BIN_DIR>|<XDG_BIN_HOME>|<XDG_DATA_HOME_BIN>)"
_PROGRAM_FILES = r"^[a-z]:\\Program Files(?: \(x86\))?"

# (root, its expression in a path, what has to follow it at once; nothing: anything may).
_WINDOWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("<cache>", _CACHE, ()),
    ("<python dir>", rf"(?:{_ROAMING}\\uv\\(?:data\\)?python|<UV_PYTHON_INSTALL_DIR>)", ()),
    ("<tool dir>", rf"(?:{_ROAMING}\\uv\\(?:data\\)?tools|<UV_TOOL_DIR>)", ()),
    ("<tool bin>", _BIN, ()),
    ("<python bin>", _BIN, ()),
    ("<bin>", _BIN, ()),
    ("<project>", "", ("\\.venv\\", "\\.uv\\", "\\dist\\.tmp", "\\**\\.venv\\", "\\**\\.uv\\", "\\**\\dist\\.tmp")),
    (
        "%TEMP%",
        _TEMP,
        (
            "\\.tmp??????\\",
            "\\.uv.????????????????????????????????.",
            "\\????????-????-????-????-????????????\\uv",
            "\\tmp????????.build-",
            "\\uv-",
            "\\*??????.py",
        ),
    ),
    ("%APPDATA%", _ROAMING, ("\\uv\\", "\\Python\\Python3*\\Scripts\\uv")),
    (
        "%LOCALAPPDATA%",
        _LOCAL,
        (
            "\\uv\\",
            "\\Microsoft\\WinGet\\Links\\uv",
            "\\Microsoft\\WinGet\\Packages\\astral-sh.uv_",
            "\\Programs\\Python\\Python3*\\Scripts\\uv",
            "\\Packages\\PythonSoftwareFoundation.Python.3.*\\LocalCache\\local-packages\\Python3*\\Scripts\\uv",
        ),
    ),
    ("%USERPROFILE%", "", ("\\.local\\bin\\uv", "\\.cargo\\.tmp??????\\uv", "\\.cargo\\bin\\uv")),
    (
        "%ProgramFiles%",
        _PROGRAM_FILES,
        (
            "\\uv\\",
            "\\Python3*\\Scripts\\uv",
            "\\WinGet\\Links\\uv",
            "\\WinGet\\Packages\\astral-sh.uv_",
        ),
    ),
    ("%SystemDrive%", "^[a-z]:", ("\\hostedtoolcache\\windows\\uv\\",)),
    ("%CARGO_HOME%", r"(?:\\\.cargo|<CARGO_HOME>)", ("\\bin\\uv",)),
    ("%ChocolateyInstall%", r"(?:\\ProgramData\\chocolatey|<CHOCOLATEY>)", ("\\bin\\uv", "\\lib\\uv\\")),
    ("%XDG_BIN_HOME%", "<XDG_BIN_HOME>", ("\\uv",)),
    ("%XDG_DATA_HOME%\\..\\bin", "<XDG_DATA_HOME_BIN>", ("\\uv",)),
    ("<PIPX_HOME>", r"(?:\\pipx|<PIPX_HOME>)", ("\\venvs\\uv\\",)),
    ("<UV_INSTALL_DIR>", "<UV_INSTALL_DIR>", ("\\uv", "\\.tmp??????\\uv")),
    ("<scoop>", r"(?:\\scoop|<SCOOP>)", ("\\apps\\uv\\", "\\shims\\uv")),
)
_POSIX = (
    *((root, ()) for root in ("<cache>", "<python dir>", "<tool dir>", "<tool bin>", "<python bin>")),
    ("<project>", ("/.venv/", "/.uv/", "/**/.venv/", "/**/.uv/")),
    ("<temp>", ("/.tmp??????/",)),
    ("%HOME%", ("/.cargo/bin/uv", "/.local/bin/uv")),
)

MARKERS = ("{tmp}", "{id16}", "{letters32}", "{python tmp}", "{stem}", "{probe folder}")
"""The parts of a canary's path by which it is told from a real file, and without which none is made."""

_FILLERS = (*MARKERS, "{hex16}", "{hex8}")
_CANARY = re.compile(
    r"%TEMP%\\(?:\{tmp\}\\|\.uv\.\{letters32\}\.|\{python tmp\}\.build-)"
    r"|<temp>/\{tmp\}/"
    r"|<cache>[\\/](?:\{tmp\}|[a-z]{1,20}-v\d{1,3})[\\/]"
    r"|<project>[\\/]\{probe folder\}[\\/]"
    r"|<tool bin>[\\/]\{stem\}(?:\.exe)?$"
)
_CANARY_ENDINGS = (".exe", ".pyd", ".dll", ".ps1")
_PLAIN = re.compile(r"[A-Za-z0-9 ._@*?~+,=-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A root that a template may begin with, its expression in a path, and what has to follow."""

    root: str
    expression: str
    then: tuple[str, ...] = ()


PLACES = tuple(Place(root=root, expression=expression, then=then) for root, expression, then in _WINDOWS)
POSIX_PLACES = tuple(Place(root=root, expression="", then=then) for root, then in _POSIX)


def find_place(template: str, *, is_posix: bool = False) -> Place | None:
    """The place that a template (braces expanded) begins at and does not leave; None if there is none.

    >>> find_place("<cache>\\\\builds-v1\\\\.tmp??????\\\\Scripts\\\\*.exe").root
    '<cache>'
    >>> [find_place(bad) for bad in ("<cache>\\\\..\\\\x.exe", "C:\\\\x.exe", "%USERPROFILE%\\\\Desktop\\\\x.exe")]
    [None, None, None]
    """
    separator = "/" if is_posix else "\\"
    if len(template) > MAX_TEMPLATE:
        return None
    for place in POSIX_PLACES if is_posix else PLACES:
        if not template.startswith(place.root + separator):
            continue
        rest = template[len(place.root) :]
        if place.then and not rest.startswith(place.then):
            return None
        return place if _stays(rest, separator) else None
    return None


def is_canary_place(template: str, *, is_posix: bool = False) -> bool:
    """Whether a canary may be made at a template's place: one that uv would not trip over, told by a marker.

    >>> is_canary_place("<cache>\\\\builds-v1\\\\{tmp}\\\\python.exe"), is_canary_place("<bin>\\\\python.exe")
    (True, False)
    """
    separator = "/" if is_posix else "\\"
    if len(template) > MAX_TEMPLATE or not _CANARY.match(template) or not any(mark in template for mark in MARKERS):
        return False
    rest = template
    for filler in _FILLERS:
        rest = rest.replace(filler, "x")
    root = re.match(r"<[a-z ]+>|%TEMP%", rest)
    if root is None or "*" in rest or "?" in rest or (not is_posix and not rest.endswith(_CANARY_ENDINGS)):
        return False
    return _stays(rest[root.end() :], separator)


def expression_of(place: Place, template: str) -> str:
    """The expression of the paths that a template of a place stands for: its stars and question marks, nothing else.

    What matches is what the template names, so no expression that came over a network is ever run.
    """
    rest = template[len(place.root) :]
    if place.root == "<project>":
        rest = rest.removeprefix("\\**")
    parts = {"**\\": r"(?:[^\\]+\\)*", "**": r".+", "*": r"[^\\]*", "?": r"[^\\]"}
    return place.expression + "".join(
        parts.get(part) or re.escape(part) for part in re.split(r"(\*\*\\|\*\*|\*|\?)", rest) if part
    )


def _stays(rest: str, separator: str) -> bool:
    """Whether what follows a root is made of plain names and wildcards alone."""
    names = rest.split(separator)[1:]
    if not names or rest.count("*") > _MAX_STARS or rest.count("**") > _MAX_DEEP_STARS or "***" in rest:
        return False
    return all(
        _PLAIN.fullmatch(name) is not None and name.strip(" ") == name and not name.endswith(".") for name in names
    )
