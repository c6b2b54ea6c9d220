"""Windows error numbers in a text, and what each means. The words beside them are translated, so they never decide.

source: winerror.h, ntstatus.h; uv-paths, Windows error codes that mean "blocked".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

APPLOCKER_OR_SRP = "applocker-or-srp"
APPLOCKER_OR_WDAC = "applocker-or-wdac"

ENGINES: dict[int, str] = {
    1260: APPLOCKER_OR_SRP,
    786: APPLOCKER_OR_SRP,
    577: "wdac",
    225: "antivirus",
    226: "antivirus",
    1259: "other",
    **dict.fromkeys((*range(4550, 4560), *range(4580, 4584)), "wdac"),
}
"""Who blocks with a number. 1260 alone does not tell AppLocker from Software Restriction Policies."""

DENIED = 5

MEANINGS: dict[int, str] = {
    2: "the file is not there",
    3: "the folder is not there",
    5: "access was denied",
    32: "another program is using the file",
    87: "Windows refused an argument",
    110: "the file could not be opened, mostly because a virus scanner holds it",
    112: "the disk is full",
    193: "the file is no program for this kind of Windows",
    206: "the path is too long",
    216: "the program is for another kind of processor",
    740: "the program asks for administrator rights",
    1142: "the file has too many hard links",
    1314: "a privilege is missing, as for symbolic links",
    1392: "the file or the folder is damaged",
    1455: "Windows ran out of memory",
    1625: "an installation package is forbidden by policy",
    1920: "an execution alias of the Microsoft Store leads nowhere",
    10060: "a connection timed out",
    10061: "a connection was refused",
    11001: "a host name could not be resolved",
    15700: "an execution alias of the Microsoft Store leads nowhere",
}

_NTSTATUS = {
    0xC0000361: 1260,
    0xC0000362: 1260,
    0xC0000363: 1260,
    0xC0000364: 1260,
    0xC0000428: 577,
    0xC0000022: 5,
    0xC0000906: 225,
    0xC0000907: 226,
    0xC0E90002: 4551,
}
_NUMBER = re.compile(
    r"\(os error (?P<os>-?\d{1,10})\)"
    r"|\[WinError (?P<win>-?\d{1,10})\]"
    r"|(?P<hex>\b0x[0-9a-f]{8}\b)"
    r"|exit (?:code|status)[: ]{1,3}(?P<exit>-?\d{6,11})\b",
    re.IGNORECASE,
)
_FACILITY_WIN32 = 0x8007


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An error number in a line; `kind` is os, win, hex or exit."""

    code: int
    kind: str
    start: int


def find_numbers(line: str) -> list[Number]:
    """The error numbers of a line, as Win32 codes; numbers that are none are left out."""
    found = []
    for match in _NUMBER.finditer(line):
        kind = match.lastgroup or "os"
        code = _win32(int(match[kind], 16) if kind == "hex" else int(match[kind]), kind)
        if code is not None:
            found.append(Number(code=code, kind=kind, start=match.start()))
    return found


def _win32(value: int, kind: str) -> int | None:
    value &= 0xFFFFFFFF
    if value in _NTSTATUS:
        return _NTSTATUS[value]
    if value >> 16 == _FACILITY_WIN32:
        return value & 0xFFFF
    return value if kind in ("os", "win") and value < 0x10000 else None
