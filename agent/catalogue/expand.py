"""Where a pattern's places are on one machine: its roots, its globs, and the places where a canary may be put."""

from __future__ import annotations

import hashlib
import ntpath
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.catalogue.model import Pattern
from agent.catalogue.normalise import lookup, normalise

CANARY_TEMP = ".tmpWLV"
CANARY_ID = "WLV"
CANARY_STEM = "wayleave-probe"
CANARY_FOLDER = ".wlv-probe"
"""The folder under a project root that holds canaries of patterns which live in projects."""

_PLACE = re.compile(r"^(<[^<>]+>|%[^%]+%)")
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known of a workstation.

    `env`: its variables (names in any case on Windows). `project_roots`: absolute folders in which projects live.
    `answers`: what uv itself said: `cache_dir`, `python_dir`, `python_bin_dir`, `tool_dir`, `tool_bin_dir`; they win.
    None of them changes once it was given: where a root is, is worked out once.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    platform: Literal["windows", "linux"] = "windows"
    project_roots: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    _roots: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _places: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)


def roots(machine: Machine) -> dict[str, str]:
    """The roots of uv on a machine, by name.

    The names: `cache`, `data`, `python`, `python_bin`, `tools`, `tool_bin`, `temp`, `home`. A root that can't be told
    is left out. source: uv 0.13.8, crates/uv-dirs/src/lib.rs, uv-state/src/lib.rs, uv-cache/src/cli.rs;
    GetTempPath2W for the temporary folder.

    >>> roots(Machine(env={"LOCALAPPDATA": r"C:\\Users\\a\\AppData\\Local"}))["cache"]
    'C:\\\\Users\\\\a\\\\AppData\\\\Local\\\\uv\\\\cache'
    """
    if machine._roots:
        return dict(machine._roots)
    found = _windows_roots(machine) if machine.platform == "windows" else _linux_roots(machine)
    for name, answer in (
        ("cache", "cache_dir"),
        ("python", "python_dir"),
        ("python_bin", "python_bin_dir"),
        ("tools", "tool_dir"),
        ("tool_bin", "tool_bin_dir"),
    ):
        place = _absolute(machine.answers.get(answer), machine)
        if place:
            found[name] = place
    machine._roots.update({name: place for name, place in found.items() if place})
    return dict(machine._roots)


def expand(pattern: Pattern, machine: Machine) -> tuple[str, ...]:
    """The globs of a pattern on a machine, absolute; without those whose root is not known there."""
    templates = pattern.templates if machine.platform == "windows" else pattern.posix
    return tuple(dict.fromkeys(place for template in templates for place in fill(template, machine)))


def canary_paths(pattern: Pattern, machine: Machine, token: str) -> tuple[str, ...]:
    """Absolute paths where a canary may be put for a pattern; `token` (letters and digits) makes them unlike others.

    Empty if the pattern may only be tried with a real file, or its root is not known (a project root, say).
    """
    spec = pattern.probe
    templates = spec.canary if machine.platform == "windows" else spec.posix_canary
    places: list[str] = []
    for template in templates:
        for name, value in _markers(token).items():
            template = template.replace(name, value)
        places += fill(template, machine)
    return tuple(dict.fromkeys(places))


def fill(template: str, machine: Machine) -> tuple[str, ...]:
    """A template with its root replaced by each place that the root has on a machine."""
    found = _PLACE.match(template)
    if not found:
        return (template,)
    rest = template[found.end() :]
    places = [place.rstrip("\\/") + rest for place in root_places(found[1], machine)]
    return tuple(ntpath.normpath(place) if "\\..\\" in place else place for place in places)


def root_places(root: str, machine: Machine) -> tuple[str, ...]:
    """The absolute places of a template's root (`<cache>`, `<project>`, `%TEMP%` ...) on a machine."""
    places = machine._places.get(root)
    if places is None:
        places = machine._places[root] = _find_root(root, machine)
    return places


def _find_root(root: str, machine: Machine) -> tuple[str, ...]:
    known = roots(machine)
    if root == "<project>":
        return tuple(place for given in machine.project_roots if (place := _absolute(given, machine)))
    named = {
        "<cache>": ("cache",),
        "<python dir>": ("python",),
        "<tool dir>": ("tools",),
        "<bin>": ("tool_bin", "python_bin"),
        "<tool bin>": ("tool_bin",),
        "<python bin>": ("python_bin",),
        "<temp>": ("temp",),
        "%TEMP%": ("temp",),
        "%USERPROFILE%": ("home",),
    }
    if root in named:
        return tuple(dict.fromkeys(known[name] for name in named[root] if name in known))
    place = _absolute(_environment(machine).get(root.strip("<>%").lower()), machine)
    if place is None and machine.platform == "windows":
        place = _default_place(root, known)
    return (place,) if place else ()


def _default_place(root: str, known: Mapping[str, str]) -> str | None:
    home = known.get("home")
    under_home = {"%CARGO_HOME%": ".cargo", "<scoop>": "scoop", "<PIPX_HOME>": "pipx"}
    if root in under_home:
        return ntpath.join(home, under_home[root]) if home else None
    return {
        "%LOCALAPPDATA%": ntpath.join(home, "AppData", "Local") if home else None,
        "%APPDATA%": ntpath.join(home, "AppData", "Roaming") if home else None,
        "%ProgramFiles%": r"C:\Program Files",
        "%ChocolateyInstall%": r"C:\ProgramData\chocolatey",
        "%SystemDrive%": "C:",
    }.get(root)


def _windows_roots(machine: Machine) -> dict[str, str | None]:
    env = _environment(machine)
    home = _absolute(env.get("userprofile"), machine)
    local = _absolute(env.get("localappdata"), machine) or (ntpath.join(home, "AppData", "Local") if home else None)
    roaming = _absolute(env.get("appdata"), machine) or (ntpath.join(home, "AppData", "Roaming") if home else None)
    data = ntpath.join(roaming, "uv") if roaming else None
    executables = (
        _absolute(env.get("xdg_bin_home"), machine)
        or _absolute(_joined(env.get("xdg_data_home"), "\\..\\bin"), machine)
        or (ntpath.join(home, ".local", "bin") if home else None)
    )
    # GetTempPath2W asks for TMP, TEMP, USERPROFILE in this order.
    temp = _absolute(env.get("tmp"), machine) or _absolute(env.get("temp"), machine)
    return {
        "home": home,
        "data": data,
        "cache": _absolute(env.get("uv_cache_dir"), machine) or (ntpath.join(local, "uv", "cache") if local else None),
        "python": _absolute(env.get("uv_python_install_dir"), machine)
        or (ntpath.join(data, "python") if data else None),
        "python_bin": _absolute(env.get("uv_python_bin_dir"), machine) or executables,
        "tools": _absolute(env.get("uv_tool_dir"), machine) or (ntpath.join(data, "tools") if data else None),
        "tool_bin": _absolute(env.get("uv_tool_bin_dir"), machine) or executables,
        "temp": temp or (ntpath.join(local, "Temp") if local else None),
    }


def _linux_roots(machine: Machine) -> dict[str, str | None]:
    env = machine.env
    home = _absolute(env.get("HOME"), machine)

    def under_home(*parts: str) -> str | None:
        return posixpath.join(home, *parts) if home else None

    def joined(place: str | None, *parts: str) -> str | None:
        return posixpath.join(place, *parts) if place else None

    data_home = _absolute(env.get("XDG_DATA_HOME"), machine)
    data = joined(data_home, "uv") or under_home(".local", "share", "uv")
    executables = (
        _absolute(env.get("XDG_BIN_HOME"), machine)
        or (posixpath.normpath(posixpath.join(data_home, "..", "bin")) if data_home else None)
        or under_home(".local", "bin")
    )
    return {
        "home": home,
        "data": data,
        "cache": _absolute(env.get("UV_CACHE_DIR"), machine)
        or joined(_absolute(env.get("XDG_CACHE_HOME"), machine), "uv")
        or under_home(".cache", "uv"),
        "python": _absolute(env.get("UV_PYTHON_INSTALL_DIR"), machine) or joined(data, "python"),
        "python_bin": _absolute(env.get("UV_PYTHON_BIN_DIR"), machine) or executables,
        "tools": _absolute(env.get("UV_TOOL_DIR"), machine) or joined(data, "tools"),
        "tool_bin": _absolute(env.get("UV_TOOL_BIN_DIR"), machine) or executables,
        "temp": _absolute(env.get("TMPDIR"), machine) or "/tmp",  # noqa: S108 - where Rust's temp_dir looks
    }


def _environment(machine: Machine) -> Mapping[str, str]:
    return lookup(machine.env) if machine.platform == "windows" else machine.env


def _joined(place: str | None, rest: str) -> str | None:
    return place + rest if place else None


def _absolute(place: str | None, machine: Machine) -> str | None:
    """A place in its one form; None if it is not absolute (uv would take it below the current folder)."""
    if not place:
        return None
    if machine.platform == "linux":
        return posixpath.normpath(place) if place.startswith("/") else None
    plain = normalise(place, machine.env)
    if plain is None or (plain.startswith("\\") and not plain.startswith("\\\\")):
        return None
    return plain.rstrip("\\") if len(plain) > 3 else plain


def _markers(token: str) -> dict[str, str]:
    """What fills a canary template's places: each of the form that uv itself would write, told by its marker."""
    seed = hashlib.sha256(token.encode()).digest() + hashlib.sha256(b"more" + token.encode()).digest()
    characters = "".join(_ALPHANUMERIC[byte % 36] for byte in seed)
    letters = "".join(_ALPHANUMERIC[byte % 26] for byte in seed)
    digits = seed.hex()
    return {
        "{tmp}": CANARY_TEMP + characters[:3],
        "{id16}": CANARY_ID + characters[:13],
        "{python tmp}": "tmpwlv" + characters[:5],
        "{letters32}": "wayleaveprobe" + letters[:19],
        "{hex16}": digits[:16],
        "{hex8}": digits[16:24],
        "{stem}": CANARY_STEM,
        "{probe folder}": CANARY_FOLDER,
    }
