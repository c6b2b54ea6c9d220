"""AppLocker's policies from device management, as their files tell them: none, read whole, or there and unreadable.

Each grouping is a policy of its own, and a file must be allowed by every one of them and by group policy as well
(applocker, merge and prerequisites: they are ANDed), so the sets are kept apart and never merged. What cannot be read
whole counts as unreadable: half a policy would be told as another one. Pure; `_windows` reads the files.

source: applocker, deployment forms (the node's value is one RuleCollection). How the files below
System32\\AppLocker\\MDM are laid out is not documented: taken is any layout in which each grouping's folder holds them,
and nothing is guessed from names but which files belong together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from agent.policy import RegistryCollection, mode_number

NONE, READ, UNREADABLE = "none", "read", "present-unreadable"

MAX_FILES = 200
MAX_FILE_BYTES = 2 << 20
MAX_DEPTH = 5

_COMPILED = b"APPF"
_TYPES = frozenset(("Exe", "Dll", "Script", "Msi", "Appx"))
_ENTITIES = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePolicy:
    """What was found: `state` is one of none, read, present-unreadable; `sets` the groupings, each by collection."""

    state: str = NONE
    sets: tuple[Mapping[str, RegistryCollection], ...] = ()


def read_device_policy(files: Mapping[str, bytes | None] | None) -> DevicePolicy:
    """The policies in the files below the folder of device management.

    `files`: content by path below that folder, None for one that may not be read; None instead of the mapping: the
    folder itself may not be listed. Compiled forms (`APPF`) beside a readable policy say the same and are passed over.

    >>> read_device_policy({}).state, read_device_policy(None).state, read_device_policy({"a/Policy": None}).state
    ('none', 'present-unreadable', 'present-unreadable')
    """
    if files is None:
        return DevicePolicy(state=UNREADABLE)
    if not files:
        return DevicePolicy()
    groupings: dict[str, dict[str, RegistryCollection]] = {}
    compiled: set[str] = set()
    for path, content in sorted(files.items()):
        folder = _grouping(path)
        if content is None or len(files) > MAX_FILES:
            return DevicePolicy(state=UNREADABLE)
        if content.startswith(_COMPILED):
            compiled.add(folder)
            continue
        found = _read_collection(content)
        if found is None:
            return DevicePolicy(state=UNREADABLE)
        name, collection = found
        if name in groupings.setdefault(folder, {}):
            return DevicePolicy(state=UNREADABLE)  # two for one collection of one grouping: which counts is not known
        groupings[folder][name] = collection
    if compiled - groupings.keys() or not groupings:
        return DevicePolicy(state=UNREADABLE)  # in force, and only in a form that nobody documents
    return DevicePolicy(state=READ, sets=tuple(groupings[folder] for folder in sorted(groupings)))


def _grouping(path: str) -> str:
    """The grouping that a file belongs to: its path without the node (EXE, DLL ...) and what lies below that."""
    parts = re.split(r"[\\/]", path)
    nodes = {"exe", "dll", "script", "msi", "storeapps"}
    for number, part in enumerate(parts):
        if part.lower() in nodes:
            return "/".join(parts[:number]).lower()
    return "/".join(parts[:-1]).lower()


def _read_collection(content: bytes) -> tuple[str, RegistryCollection] | None:
    """The one RuleCollection of a file, as the registry would hold it; None if it is not one."""
    if not content.strip(b"\x00 \r\n\t") or _ENTITIES.search(content.replace(b"\x00", b"")):
        return None
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").strip(
            "\x00 \r\n\t"
        )
        root = ElementTree.fromstring(text)  # noqa: S314 - without a document type, which was refused above
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError):
        return None
    name = root.get("Type", "")
    if root.tag != "RuleCollection" or name not in _TYPES:
        return None
    mode = mode_number(root.get("EnforcementMode", "NotConfigured"))
    rules = tuple(
        ElementTree.tostring(rule, encoding="unicode").strip()
        for rule in root
        if rule.tag in ("FilePublisherRule", "FilePathRule", "FileHashRule")
    )
    return name, RegistryCollection(mode=mode, rules=rules)
