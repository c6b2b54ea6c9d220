"""From what was found to what is told: fact sets with nothing personal in them, and the report that names them. Pure.

Values of variables and settings leave the workstation only by an allow-list of names; a directory is templated, a
choice is told only if it is one of uv's own words, and of anything else only that it is set.
"""

# ruff: noqa: PTH117
# Paths are text here: those of Windows are told, and tested, on any system.
from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.catalogue import Machine, classify, roots, templated, templated_directory
from agent.contract.facts import EnvironmentSet, FactSet, FoundUv, UvSet
from agent.contract.messages import Report, RuleUse, Sighting
from agent.discover import Discovery, Uv
from agent.recognise import identity_of
from agent.where import Open, real_place

PLACE_VARIABLES = (
    "UV_CACHE_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_BIN_DIR",
    "UV_PYTHON_CACHE_DIR",
    "UV_TOOL_DIR",
    "UV_TOOL_BIN_DIR",
    "UV_INSTALL_DIR",
    "UV_UNMANAGED_INSTALL",
    "UV_PROJECT_ENVIRONMENT",
    "UV_CREDENTIALS_DIR",
    "UV_CONFIG_FILE",
    "UV_PYTHON",
    "UV_PYTHON_SEARCH_PATH",
    "XDG_BIN_HOME",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "CARGO_HOME",
    "TMP",
    "TEMP",
    "TMPDIR",
    "RUFF",
    "TY",
)
"""Variables that hold a place: told as a template."""

CHOICE_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "UV_NO_CACHE": (),
    "UV_PYTHON_INSTALL_BIN": (),
    "UV_PYTHON_INSTALL_REGISTRY": (),
    "UV_PYTHON_DOWNLOADS": ("automatic", "manual", "never"),
    "UV_PYTHON_PREFERENCE": ("only-managed", "managed", "system", "only-system"),
    "UV_MANAGED_PYTHON": (),
    "UV_NO_MANAGED_PYTHON": (),
    "UV_VENV_SEED": (),
    "UV_VENV_RELOCATABLE": (),
    "UV_ISOLATED": (),
    "UV_LINK_MODE": ("clone", "copy", "hardlink", "symlink"),
    "UV_COMPILE_BYTECODE": (),
    "UV_NO_BUILD": (),
    "UV_NO_BUILD_ISOLATION": (),
    "UV_KEYRING_PROVIDER": ("disabled", "subprocess"),
    "UV_PREVIEW": (),
    "UV_NO_CONFIG": (),
    "UV_NO_SYSTEM_CONFIG": (),
    "UV_OFFLINE": (),
}
"""Variables that hold a choice, with the words that it may be besides yes and no."""

PLACE_SETTINGS = ("cache-dir",)
CHOICE_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "no-cache": (),
    "offline": (),
    "preview": (),
    "no-build": (),
    "compile-bytecode": (),
    "python-downloads": CHOICE_VARIABLES["UV_PYTHON_DOWNLOADS"],
    "python-preference": CHOICE_VARIABLES["UV_PYTHON_PREFERENCE"],
    "link-mode": CHOICE_VARIABLES["UV_LINK_MODE"],
    "keyring-provider": CHOICE_VARIABLES["UV_KEYRING_PROVIDER"],
}

_PUBLIC_WORDS = frozenset(
    (
        "uv",
        "cache",
        "python",
        "tools",
        "bin",
        ".local",
        ".cache",
        ".config",
        ".cargo",
        "share",
        "data",
        "state",
        "lib",
        "appdata",
        "local",
        "locallow",
        "roaming",
        "temp",
        "tmp",
        "users",
        "programdata",
        "programs",
        "uv.toml",
        "opt",
        "usr",
        "srv",
        "var",
        "home",
        ".venv",
        "venv",
        "scripts",
        "python.exe",
        "python3",
        "uv.exe",
    )
)
_APPLOCKER_FOLDERS = {
    "windows": "%WINDIR%",
    "program files": "%PROGRAMFILES%",
    "program files (x86)": "%PROGRAMFILES%",
}
_YES_NO = {"1": "true", "true": "true", "yes": "true", "on": "true", "0": "false", "false": "false", "no": "false"}
_SET = "(set)"
_RELATIVE = "(relative)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The fact sets of one cycle, by kind."""

    sets: Mapping[str, FactSet]

    def digests(self) -> dict[str, str]:
        return {kind: facts.digest() for kind, facts in self.sets.items()}

    def bodies(self) -> dict[str, str]:
        return {facts.digest(): facts.body() for facts in self.sets.values()}


def facts_of(sets: Iterable[FactSet]) -> Facts:
    """Fact sets by their kind."""
    return Facts(sets={facts.kind: facts for facts in sets})


def build_report(
    facts: Facts,
    *,
    report_id: str,
    epoch: int,
    sequence: int,
    now: float,
    subject: str,
    sightings: tuple[Sighting, ...] = (),
    rule_uses: tuple[RuleUse, ...] = (),
) -> Report:
    """A report with all its bodies; `now` in seconds since 1970."""
    return Report(
        report_id=report_id,
        epoch=epoch,
        sequence=sequence,
        sent_at=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        subject=subject,
        sets=facts.digests(),
        bodies=facts.bodies(),
        sightings=sightings,
        rule_uses=rule_uses,
    )


def encode_report(report: Report) -> bytes:
    """A report as it is sent, before compression."""
    return json.dumps(report.to_json(), ensure_ascii=False, separators=(",", ":")).encode()


def build_environment(
    discovery: Discovery,
    settings: Mapping[str, object],
    machine_wide: Mapping[str, str] | None = None,
    *,
    open_place: Open | None = None,
) -> EnvironmentSet:
    """What moves uv's directories on this machine.

    `settings`: the uv.toml in force, as parsed. `machine_wide`: variables that an administrator set for all users;
    the names of folders in them are nobody's own, and may be told. `open_place`: what the platform says of a folder
    that is opened; without it, links are followed by name.
    """
    machine = discovery.machine
    words = public_words(machine_wide)
    return EnvironmentSet(
        variables=tell_variables(machine, words),
        uv_toml=tell_settings(settings, machine, words),
        answers={name: tell_place(place, machine, words) for name, place in discovery.answers.items()},
        roots={name: tell_root(place, machine, words, open_place) for name, place in sorted(roots(machine).items())},
    )


def public_words(machine_wide: Mapping[str, str] | None) -> frozenset[str]:
    """The names of folders that may be told: uv's and the system's own, and those in machine-wide variables."""
    given = {name.upper(): value for name, value in (machine_wide or {}).items()}
    places = (given.get(name, "") for name in PLACE_VARIABLES)
    return _PUBLIC_WORDS | {part.lower() for place in places for part in re.split(r"[\\/]", place) if part}


def tell_root(
    place: str, machine: Machine, words: frozenset[str] = _PUBLIC_WORDS, open_place: Open | None = None
) -> str:
    """Where a root really is, by its opened folder's final path, in the words of AppLocker's path rules."""
    if machine.platform == "linux":
        real = os.path.realpath(place) if os.path.isabs(place) else place
        return tell_place(real, machine, words)
    opened = open_place(place) if open_place is not None else None
    real, drive = real_place(opened) if opened is not None else (place, "")
    told = applocker_form(real, machine.env.get("SYSTEMDRIVE", "C:"), words)
    # A drive that is no fixed disk has a word of its own in rules; a volume without a letter has none at all.
    return drive + told[told.index("\\") :] if drive and "\\" in told else drive or told


def applocker_form(place: str, system_drive: str, words: frozenset[str] = _PUBLIC_WORDS) -> str:
    """An absolute Windows place as AppLocker writes it, with `*` for whatever is not public.

    >>> applocker_form(r"C:\\Users\\jane\\AppData\\Local\\uv\\cache", "C:")
    '%OSDRIVE%\\\\Users\\\\*\\\\AppData\\\\Local\\\\uv\\\\cache'
    """
    place = place.removeprefix("\\\\?\\")
    if place.upper().startswith("UNC\\"):
        place = "\\" + place[3:]
    is_share = place.startswith("\\\\")
    drive, *parts = place.lstrip("\\").split("\\")
    told = [part if part.lower() in words else "*" for part in parts]
    if is_share:
        return "\\\\".join(["", "\\".join(["*", *told])])
    if drive.upper() != system_drive.upper():
        return "\\".join([drive.upper() if re.fullmatch(r"[A-Za-z]:", drive) else "*", *told])
    folder = _APPLOCKER_FOLDERS.get(parts[0].lower()) if parts else None
    if folder:
        return "\\".join([folder, *told[1:]])
    if len(told) > 1 and told[0].lower() == "users":
        told[1] = "*"
    return "\\".join(["%OSDRIVE%", *told])


def tell_variables(machine: Machine, words: frozenset[str] = _PUBLIC_WORDS) -> dict[str, str]:
    """The allow-listed variables that are set, with nothing personal in their values."""
    variables = {name.upper() if machine.platform == "windows" else name: text for name, text in machine.env.items()}
    told = {name: tell_place(variables[name], machine, words) for name in PLACE_VARIABLES if variables.get(name)}
    told |= {
        name: tell_choice(variables[name], words) for name, words in CHOICE_VARIABLES.items() if variables.get(name)
    }
    return told


def tell_settings(
    settings: Mapping[str, object], machine: Machine, words: frozenset[str] = _PUBLIC_WORDS
) -> dict[str, str]:
    """The allow-listed keys of uv.toml that are set."""
    told = {}
    for name in PLACE_SETTINGS:
        value = settings.get(name)
        if isinstance(value, str) and value:
            told[name] = tell_place(value, machine, words)
    for name, choices in CHOICE_SETTINGS.items():
        value = settings.get(name)
        if isinstance(value, bool):
            told[name] = "true" if value else "false"
        elif isinstance(value, str):
            told[name] = tell_choice(value, choices)
    return told


def tell_choice(value: str, words: tuple[str, ...]) -> str:
    """A choice in uv's own words, else only that it is set.

    >>> tell_choice("TRUE", ()), tell_choice("never", ("never",)), tell_choice("jane", ())
    ('true', 'never', '(set)')
    """
    lowered = value.strip().lower()
    if lowered in _YES_NO:
        return _YES_NO[lowered]
    return lowered if lowered in words else _SET


def tell_place(value: str, machine: Machine, words: frozenset[str] = _PUBLIC_WORDS) -> str:
    """A place as a template whose every part is a known folder or one of uv's own words; anything else is `*`.

    Of a relative place, or a list of places, only that it is that.
    """
    is_posix = machine.platform == "linux"
    separator = "/" if is_posix else "\\"
    if not (value.startswith("/") if is_posix else value[1:3] in (":\\", ":/") or value[:2] == "\\\\"):
        return _RELATIVE
    parts = templated_directory(value, machine).split(separator)
    return separator.join(part if _is_public(part, number, words) else "*" for number, part in enumerate(parts))


def _is_public(part: str, number: int, words: frozenset[str]) -> bool:
    if number == 0:  # a variable, a drive, or nothing before the first separator
        return part == "" or bool(re.fullmatch(r"%[A-Z()0-9_]+%|[A-Za-z]:", part))
    return part == "" or part.lower() in words


def read_settings(discovery: Discovery) -> dict[str, object]:
    """The uv.toml files in force, the user's over the system's, as one mapping; broken ones count as absent."""
    merged: dict[str, object] = {}
    for path in settings_files(discovery.machine):
        try:
            with path.open("rb") as file:
                merged |= tomllib.loads(file.read(1 << 20).decode())
        except (OSError, ValueError):
            continue
    return merged


def settings_files(machine: Machine) -> tuple[Path, ...]:
    """The uv.toml files that uv reads here, weakest first. source: uv-paths, root directories."""
    env = {name.upper(): value for name, value in machine.env.items()}
    if env.get("UV_NO_CONFIG"):
        return ()
    if env.get("UV_CONFIG_FILE"):
        return (Path(env["UV_CONFIG_FILE"]),)
    found = []
    if machine.platform == "windows":
        if not env.get("UV_NO_SYSTEM_CONFIG"):
            found.append(Path(env.get("SYSTEMDRIVE", "C:") + "\\ProgramData\\uv\\uv.toml"))
        if env.get("APPDATA"):
            found.append(Path(env["APPDATA"]) / "uv" / "uv.toml")
    else:
        if not env.get("UV_NO_SYSTEM_CONFIG"):
            found.append(Path("/etc/uv/uv.toml"))
        base = env.get("XDG_CONFIG_HOME") or (env["HOME"] + "/.config" if env.get("HOME") else "")
        if base:
            found.append(Path(base) / "uv" / "uv.toml")
    return tuple(found)


def build_uv(discovery: Discovery, trust: Callable[[str], str | None] = lambda _path: None) -> UvSet:
    """Every uv found, with what a rule could know of it. `trust`: what the platform says of a file's signature."""
    found = tuple(_found_uv(uv, discovery.machine, trust(uv.path)) for uv in discovery.uvs)
    preferred = templated(discovery.preferred, discovery.machine) if discovery.preferred else None
    return UvSet(found=tuple(dict.fromkeys(found)), preferred=preferred)


def _found_uv(uv: Uv, machine: Machine, trust: str | None) -> FoundUv:
    identity = identity_of(uv.path)  # what cannot be read is told as unknown
    return FoundUv(
        path=templated(uv.path, machine),
        pattern=classify(uv.path, machine=machine) if machine.platform == "windows" else None,
        version=uv.version,
        target=uv.target,
        authenticode_sha256=identity.authenticode_sha256 if identity else None,
        publisher=identity.publisher if identity else None,
        trust=trust,
    )
