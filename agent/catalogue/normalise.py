"""One written form for a Windows path: what event logs, AppLocker, uv and people write, as a drive or UNC path."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_PATH_CHARACTERS = 32_767
MAX_SEGMENT_CHARACTERS = 255

# Forbidden in NTFS names; `:` after the drive would name a stream, which is not the file it hangs on.
_FORBIDDEN = re.compile(r'[\x00-\x1f<>"|?*]|(?<!^[A-Za-z]):')
# What is not in its one form yet: another separator, a variable, a quote, `.`, `..`, a segment's trailing dot or space.
_ODD = re.compile(r"[\x00-\x1f<>\"|?*/%]|[ .](?:\\|$)|\\(?:\\|$)|(?<!^.):")
_DEVICE = re.compile(r"^\\device\\harddiskvolume\d+(?=\\)", re.IGNORECASE)
_VOLUME = re.compile(r"^volume\{[0-9a-f-]{36}\}(?=\\)", re.IGNORECASE)
_VARIABLE = re.compile(r"%([^%\\]+)%")
_REDIRECTOR = re.compile(r"^(?:mup|lanmanredirector)\\(?:;[^\\]+\\)*", re.IGNORECASE)
_DEVICE_PREFIX = "\\device\\"
_SYSTEM_ROOT_PREFIX = "\\systemroot\\"
_LITERAL_PREFIX = "\\\\?\\"
_PREFIXES = (_LITERAL_PREFIX, "\\??\\", "\\\\.\\", "\\dosdevices\\")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

# AppLocker's own variables and the usual environment variables, where the machine's own value is not known.
_DEFAULTS = {
    "osdrive": "C:",
    "windir": r"C:\Windows",
    "system32": r"C:\Windows\System32",
    "programfiles": r"C:\Program Files",
    "removable": "R:",
    "hot": "R:",
    "systemdrive": "C:",
    "homedrive": "C:",
    "homepath": r"\Users\user",
    "systemroot": r"C:\Windows",
    "programfiles(x86)": r"C:\Program Files (x86)",
    "programw6432": r"C:\Program Files",
    "programdata": r"C:\ProgramData",
    "allusersprofile": r"C:\ProgramData",
    "userprofile": r"C:\Users\user",
    "appdata": r"C:\Users\user\AppData\Roaming",
    "localappdata": r"C:\Users\user\AppData\Local",
    "temp": r"C:\Users\user\AppData\Local\Temp",
    "tmp": r"C:\Users\user\AppData\Local\Temp",
    "public": r"C:\Users\Public",
}


def normalise(path: str, env: Mapping[str, str] | None = None) -> str | None:
    """The path as `X:\\...` or `\\\\server\\share\\...`, or None if it can't name a file.

    `env` holds a machine's variables (any case); it decides what `%NAME%` stands for. Case is kept.

    >>> normalise("%OSDRIVE%/Users/a/./b/../uv.exe")
    'C:\\\\Users\\\\a\\\\uv.exe'
    >>> normalise(r"\\\\?\\UNC\\server\\share\\uv.exe")
    '\\\\\\\\server\\\\share\\\\uv.exe'
    """
    if len(path) > MAX_PATH_CHARACTERS:
        return None
    if len(path) <= MAX_SEGMENT_CHARACTERS and path[1:3] == ":\\" and path[0].isascii() and path[0].isalpha():
        plain = not _ODD.search(path) and not path[-1].isspace()
        if plain:
            return path
    text = path.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    text = text.replace("/", "\\")
    if "%" in text:
        text = _expand_variables(text, env)
        if len(text) > MAX_PATH_CHARACTERS:
            return None
    text, literal = _strip_prefix(text)
    if _FORBIDDEN.search(text):
        return None
    root, rest = _split_root(text)
    segments: list[str] = []
    for segment in rest.split("\\"):
        # Win32 drops trailing dots and spaces of a segment, but not behind `\\?\`.
        name = segment if literal or segment in (".", "..") else segment.rstrip(" .")
        if name in ("", "."):
            continue
        if name == "..":
            if segments:
                segments.pop()
            continue
        if len(name) > MAX_SEGMENT_CHARACTERS:
            return None
        segments.append(name)
    return root + "\\" + "\\".join(segments)


def lower_ascii(text: str) -> str:
    """Lower case of A-Z alone: NTFS does not hold that the Kelvin sign is a k."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def lookup(env: Mapping[str, str]) -> dict[str, str]:
    """The variables by lower-case name, without empty ones."""
    return {name.lower(): value for name, value in env.items() if isinstance(value, str) and value.strip()}


def _expand_variables(text: str, env: Mapping[str, str] | None) -> str:
    given = lookup(env) if env else {}
    known = _DEFAULTS | given if given else _DEFAULTS
    if "systemdrive" in given:
        known["osdrive"] = given.get("osdrive", given["systemdrive"])
    return _VARIABLE.sub(lambda found: known.get(found[1].lower(), found[0]), text).replace("/", "\\")


def _strip_prefix(text: str) -> tuple[str, bool]:
    """Without `\\\\?\\` and its kin; True if the rest is to be taken literally."""
    lowered = text[: len("\\dosdevices\\")].lower()
    for prefix in _PREFIXES:
        if not lowered.startswith(prefix):
            continue
        rest = text[len(prefix) :]
        kind = rest[: len("globalroot\\")].lower()
        if kind.startswith("unc\\"):
            return "\\\\" + rest[4:], prefix == _LITERAL_PREFIX
        if kind == "globalroot\\":
            return _strip_device(rest[len("globalroot") :]), True
        return _VOLUME.sub("C:", rest), prefix == _LITERAL_PREFIX
    return _strip_device(text), False


def _strip_device(text: str) -> str:
    lowered = text[: len(_SYSTEM_ROOT_PREFIX)].lower()
    if lowered == _SYSTEM_ROOT_PREFIX:
        return _DEFAULTS["systemroot"] + text[len(_SYSTEM_ROOT_PREFIX) - 1 :]
    if lowered.startswith(_DEVICE_PREFIX):
        share = _REDIRECTOR.sub("", text[len(_DEVICE_PREFIX) :])
        if len(share) < len(text) - len(_DEVICE_PREFIX):
            return "\\\\" + share
    return _DEVICE.sub("C:", text)


def _split_root(text: str) -> tuple[str, str]:
    if len(text) >= 2 and text[1] == ":" and text[0].isascii() and text[0].isalpha():
        return text[:2], text[2:]
    if text.startswith("\\\\"):
        parts = text[2:].split("\\", 2)
        if len(parts) == 3:
            return "\\\\" + parts[0] + "\\" + parts[1], parts[2]
    return "", text
