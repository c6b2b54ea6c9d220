"""In which organisational unit of its domain this workstation is, as the Group Policy client last saw it.

source: `Distinguished-Name` under HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Group Policy\\State\\Machine;
RFC 4514 for how names are written.
"""

from __future__ import annotations

import re

MAX_LENGTH = 1024
_FIRST = re.compile(r"[A-Za-z0-9.]+=(?:[^\\,]|\\.)*,(.+)", re.DOTALL)


def unit_of(distinguished_name: str | None) -> str | None:
    r"""The unit that a machine's distinguished name says; None where it says none, or nothing that could be sent.

    >>> unit_of(r"CN=PC\,1,OU=Engineering,DC=corp,DC=example")
    'OU=Engineering,DC=corp,DC=example'
    """
    found = _FIRST.fullmatch(distinguished_name or "")
    if found is None or len(found[1]) > MAX_LENGTH or not found[1].isprintable():
        return None
    return found[1]
