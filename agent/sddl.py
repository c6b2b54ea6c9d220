"""What an access list in SDDL lets whom do: enough to tell whether ordinary users may change a folder. Pure.

source: MS-DTYP 2.5.1.1 (syntax), 2.4.3 (access masks), 2.4.2.4 (well-known SIDs)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENTRY = re.compile(r"\(([^()]*)\)")
_OWNER = re.compile(r"O:(S-1-[0-9-]+|[A-Z]{2})")
_RIGHTS = {
    "GA": 0x10000000,
    "GR": 0x80000000,
    "GW": 0x40000000,
    "GX": 0x20000000,
    "FA": 0x1F01FF,
    "FR": 0x120089,
    "FW": 0x120116,
    "FX": 0x1200A0,
    "RC": 0x20000,
    "SD": 0x10000,
    "WD": 0x40000,
    "WO": 0x80000,
    "CC": 0x1,
    "DC": 0x2,
    "LC": 0x4,
    "SW": 0x8,
    "RP": 0x10,
    "WP": 0x20,
    "DT": 0x40,
    "LO": 0x80,
    "CR": 0x100,
}
# Write and append data, write attributes, delete a child, delete, change the access list or the owner, all, write.
_CHANGING = 0x2 | 0x4 | 0x40 | 0x100 | 0x10000 | 0x40000 | 0x80000 | 0x10000000 | 0x40000000
_READING = 0x1 | 0x10000000 | 0x80000000
"""Read data, all, read."""

_NAMES = {
    "SY": "S-1-5-18",
    "BA": "S-1-5-32-544",
    "BU": "S-1-5-32-545",
    "PU": "S-1-5-32-547",
    "AU": "S-1-5-11",
    "IU": "S-1-5-4",
    "WD": "S-1-1-0",
    "CO": "S-1-3-0",
    "CG": "S-1-3-1",
    "OW": "S-1-3-4",
    "AC": "S-1-15-2-1",
    "LS": "S-1-5-19",
    "NS": "S-1-5-20",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an access list: for whom, which rights, and whether it is for the object's children alone."""

    sid: str
    mask: int
    allows: bool
    inherit_only: bool


def read_owner_of(sddl: str) -> str | None:
    """The owner's SID; None without one.

    >>> read_owner_of("O:BAG:SYD:(A;;FA;;;SY)")
    'S-1-5-32-544'
    """
    found = _OWNER.search(sddl)
    return None if found is None else _sid(found[1])


def read_entries(sddl: str) -> tuple[Entry, ...] | None:
    """The entries of the access list; None if there is no list, which lets everybody do everything."""
    _, found, rest = sddl.partition("D:")
    if not found or rest.startswith("NO_ACCESS_CONTROL"):
        return None
    entries = []
    for text in _ENTRY.findall(rest.partition("S:")[0] if "S:(" in rest or "S:A" in rest else rest):
        parts = text.split(";")
        if len(parts) < 6:
            continue
        kind, flags, rights, _, _, account = parts[:6]
        entries.append(
            Entry(sid=_sid(account), mask=_mask(rights), allows=kind in ("A", "XA", "OA"), inherit_only="IO" in flags)
        )
    return tuple(entries)


def find_changers(sddl: str, trusted: frozenset[str]) -> tuple[str, ...]:
    """The SIDs, besides the trusted ones, that may change an object. A missing access list counts as everybody.

    What denies is not counted: an object that needs it to be safe is not laid out as ours are.

    >>> find_changers("O:SYD:(A;;FA;;;SY)(A;;0x1301bf;;;AU)(A;OICIIO;GA;;;CO)", frozenset({"S-1-5-18"}))
    ('S-1-5-11',)
    """
    entries = read_entries(sddl)
    found = {owner} if (owner := read_owner_of(sddl)) is not None else set()
    if entries is None:
        found.add("S-1-1-0")
    else:
        found |= {entry.sid for entry in entries if entry.allows and not entry.inherit_only and entry.mask & _CHANGING}
    return tuple(sorted(found - trusted))


def find_readers(sddl: str, trusted: frozenset[str]) -> tuple[str, ...]:
    """The SIDs, besides the trusted ones, that may read an object. A missing access list counts as everybody.

    >>> find_readers("O:BAD:AI(A;ID;FA;;;SY)(A;ID;0x1200a9;;;BU)", frozenset({"S-1-5-18"}))
    ('S-1-5-32-545',)
    """
    entries = read_entries(sddl)
    if entries is None:
        return ("S-1-1-0",)
    found = {entry.sid for entry in entries if entry.allows and not entry.inherit_only and entry.mask & _READING}
    return tuple(sorted(found - trusted))


def _sid(account: str) -> str:
    return _NAMES.get(account, account)


def _mask(rights: str) -> int:
    if rights.lower().startswith("0x"):
        return int(rights, 16)
    if rights.isdigit():
        return int(rights)
    mask = 0
    for start in range(0, len(rights) - 1, 2):
        # What is not known may be a right to change.
        mask |= _RIGHTS.get(rights[start : start + 2], 0x10000000)
    return mask
