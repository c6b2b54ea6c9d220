"""A file's values made comparable, and the other values it would have if an open question were answered otherwise."""

from __future__ import annotations

import re
from dataclasses import replace

from app.applocker import doubts
from app.applocker.conditions import LOWEST, Facts
from app.applocker.model import Doubt, Drive, File, Machine
from app.applocker.paths import DRIVE_VARIABLES, has_short_name, normal_path, roots, upcase, volumes

_EMPTY_FILE_SHA256 = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"
_VOLUME = re.compile(r"\\DEVICE\\[^\\]+")
_PROGRAM_COLLECTIONS = ("Exe", "Dll")
_UNKNOWN_NAME = "\ue000"
"""Stands for a long name that nobody knows: equal to no text, taken by every wildcard."""


def facts_of(file: File, collection: str, machine: Machine) -> Facts:
    """The file as a collection's conditions compare it."""
    path = normal_path(file.resolves_to or file.path)
    odd = file.resolves_to is not None or "~" in path or path.find(":", 2) >= 0
    if path[:1] in ("%", "\\"):
        path, odd = _without_variable(path, machine), True
    drive_path = DRIVE_VARIABLES[file.drive] + path[2:] if file.drive is not Drive.FIXED else None
    publisher = product = binary = None
    if file.publisher:
        publisher = upcase(file.publisher)
        product = upcase(file.product) if file.product else ""
        binary = upcase(file.binary) if file.binary else ""
        odd = odd or not product or not binary
    sha256 = file.authenticode_sha256
    flat = file.flat_sha256
    if sha256 is not None or flat is not None:
        sha256, flat = _digits(sha256), _digits(flat)
        if file.size_bytes == 0 or flat == _EMPTY_FILE_SHA256:
            sha256 = flat = None
        elif collection not in _PROGRAM_COLLECTIONS:
            # What isn't an image has no Authenticode hash of its own: AppLocker takes the whole file's.
            odd = odd or flat is None or collection == "Msi"
            sha256 = flat or sha256
    return Facts(
        path,
        drive_path,
        publisher,
        product,
        binary,
        file.version or LOWEST,
        sha256,
        flat,
        _digits(file.sha1),
        machine,
        odd,
    )


def other_facts(file: File, facts: Facts, collection: str) -> list[tuple[Doubt, Facts]]:
    """What the file would be if an open question about it had the other answer."""
    found = [(doubt, replace(facts, path=path)) for doubt, path in _other_paths(file, facts)]
    if facts.publisher is not None and (facts.product == "" or facts.binary == ""):
        without = replace(facts, product=facts.product or None, binary=facts.binary or None)
        found.append((doubts.EMPTY_VERSION_INFO, without))
    if collection not in _PROGRAM_COLLECTIONS and facts.sha256 is not None:
        if facts.flat_sha256 is None:
            found.append((doubts.SCRIPT_HASH, replace(facts, sha256=None)))
        elif collection == "Msi":
            found.append((doubts.INSTALLER_HASH, replace(facts, sha256=_digits(file.authenticode_sha256))))
    return found


def _other_paths(file: File, facts: Facts) -> list[tuple[Doubt, str]]:
    path, machine = facts.path, facts.machine
    opened = normal_path(file.path)
    found: list[tuple[Doubt, str]] = []
    if file.resolves_to is not None and opened != path:
        if has_short_name(opened):
            doubt = doubts.SHORT_NAME_FILE
        elif path.endswith(opened[2:]):
            doubt = doubts.MAPPED_DRIVE
        else:
            doubt = doubts.LINK_TARGET
        found.append((doubt, opened))
    elif has_short_name(path):
        folders = roots(machine)["%PROGRAMFILES%"]
        long_names = [
            path.replace(f"\\PROGRA~{place}\\", folder[folder.rfind("\\") :] + "\\")
            for place, folder in enumerate(folders, 1)
        ]
        unknown = "\\".join(_UNKNOWN_NAME if has_short_name(name) else name for name in path.split("\\"))
        found += [(doubts.SHORT_NAME_FILE, other) for other in (*long_names, unknown) if other != path]
    if (stream := path.find(":", 2)) >= 0:
        found.append((doubts.STREAM, path[:stream]))
    written = normal_path(file.resolves_to or file.path)
    for variable, folders in roots(machine).items():
        if written.startswith(variable + "\\"):
            found += [(doubts.EVENT_PATH, folder + written[len(variable) :]) for folder in folders[1:]]
    if volume := _VOLUME.match(path):
        found.append((doubts.NATIVE_PATH, upcase(machine.os_drive) + path[volume.end() :]))
    return found


def _without_variable(path: str, machine: Machine) -> str:
    """A path as events show it (`%OSDRIVE%\\...`) or as the kernel has it, with its drive."""
    for variable, folders in roots(machine).items():
        if path.startswith(variable + "\\"):
            return folders[0] + path[len(variable) :]
    for device, drive in volumes(machine):
        if path.startswith(device + "\\"):
            return drive + path[len(device) :]
    return "\\" + path[len("\\DEVICE\\MUP") :] if path.startswith("\\DEVICE\\MUP\\") else path


def _digits(data: str | None) -> str | None:
    if data is None:
        return None
    data = data.upper()
    return data[2:] if data.startswith("0X") else data
