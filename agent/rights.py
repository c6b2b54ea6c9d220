"""Who may do what in the machine-wide folders, as SDDL with every account by its SID. Pure.

source: MS-DTYP 2.5.1 (SDDL), 2.4.3 (access masks)
"""

from __future__ import annotations

_FULL = "FA"
_READ_AND_RUN = "0x1200a9"
_WALK_THROUGH = "0x1200a0"
"""Traverse and read attributes, but no listing: nobody learns from the inbox who else works here."""

_LEAVE_FILES = "0x1200ab"
"""List, traverse and add files; no folders, no attributes, no deleting of what is not the own."""

_OWN_FILES = "0x13019f"
"""Read, write and delete, but no changing of the access list."""

_KEEPERS = "(A;OICI;FA;;;S-1-5-18)(A;OICI;FA;;;S-1-5-32-544)"
_OWNER = "O:S-1-5-18D:P"

BASE_RIGHTS = f"{_OWNER}{_KEEPERS}(A;OICI;{_READ_AND_RUN};;;S-1-5-32-545)"
"""The base: read by all, for the settings file lies there. Nobody but administrators makes anything in it."""

ORDERS_RIGHTS = BASE_RIGHTS

MACHINE_RIGHTS = f"{_OWNER}{_KEEPERS}"
"""The system half's state: the token in it is for nobody else."""

INBOX_RIGHTS = f"{_OWNER}{_KEEPERS}(A;;{_WALK_THROUGH};;;S-1-5-32-545)"


def inbox_rights(sid: str) -> str:
    """A user's own folder in the inbox. The last entry is for whoever owns a file there: no new access list either.

    >>> inbox_rights("S-1-5-21-1-2-3-1001").count("S-1-5-21-1-2-3-1001")
    2
    """
    return f"{_OWNER}{_KEEPERS}(A;;{_LEAVE_FILES};;;{sid})(A;OIIO;{_OWN_FILES};;;{sid})(A;OIIO;{_OWN_FILES};;;S-1-3-4)"


TRUSTED_OWNERS = frozenset(
    ("S-1-5-18", "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464")
)
"""The system, the administrators, and the service that installs Windows."""
