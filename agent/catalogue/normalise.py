"""One written form for a Windows path: what event logs, AppLocker, uv and people write, as a drive or UNC path."""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_PATH_CHARACTERS = 32_767

# Forbidden in NTFS names; `:` after the drive would name a stream, which is not the file it hangs on.
_FORBIDDEN = re.compile(r'[\x00-\x1f<>"|?*]|(?<!^[A-Za-z]):')
_DEVICE = re.compile(r"^\\device\\harddiskvolume\d+(?=\\)", re.IGNORECASE)
_VOLUME = re.compile(r"^volume\{[0-9a-f-]{36}\}(?=\\)", re.IGNORECASE)
_VARIABLE = re.compile(r"%([^%\\]+)%")
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
    text = path.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    text = text.replace("/", "\\")
    if "%" in text:
        text = _expand_variables(text, env)
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
        segments.append(name)
    return root + "\\" + "\\".join(segments)


def lower_ascii(text: str) -> str:
    """Lower case of A-Z alone: NTFS does not hold that the Kelvin sign is a k."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def lookup(env: Mapping[str, str]) -> dict[str, str]:
    """The variables by lower-case name, without empty ones."""
    return {name.lower(): value for name, value in env.items() if isinstance(value, str) and value.strip()}


def _expand_variables(text: str, env: Mapping[str, str] | None) -> str:
    known = _DEFAULTS | lookup(env) if env else _DEFAULTS
    return _VARIABLE.sub(lambda found: known.get(found[1].lower(), found[0]), text).replace("/", "\\")


def _strip_prefix(text: str) -> tuple[str, bool]:
    """Without `\\\\?\\` and its kin; True if the rest is to be taken literally."""
    for prefix in ("\\\\?\\", "\\??\\", "\\\\.\\"):
        if not text.startswith(prefix):
            continue
        rest = text[len(prefix) :]
        lowered = rest.lower()
        if lowered.startswith("unc\\"):
            return "\\\\" + rest[4:], prefix == "\\\\?\\"
        if lowered.startswith("globalroot\\"):
            return _strip_device(rest[len("globalroot") :]), True
        return _VOLUME.sub("C:", rest), prefix == "\\\\?\\"
    return _strip_device(text), False


def _strip_device(text: str) -> str:
    if text[:12].lower() == "\\device\\mup\\":
        return "\\\\" + text[12:]
    return _DEVICE.sub("C:", text)


def _split_root(text: str) -> tuple[str, str]:
    if len(text) >= 2 and text[1] == ":" and text[0].isascii() and text[0].isalpha():
        return text[:2], text[2:]
    if text.startswith("\\\\"):
        parts = text[2:].split("\\", 2)
        if len(parts) == 3:
            return "\\\\" + parts[0] + "\\" + parts[1], parts[2]
    return "", text
