"""Who is probed: the user's SID, and what of the user's token may leave the workstation. Pure.

A rule can name any SID, but a report holds only well-known ones and those that a policy in force names: never the
user's own, the logon session's or a machine-local one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.contract.facts import TokenSet

ADMINISTRATORS = "S-1-5-32-544"

_WELL_KNOWN = frozenset(
    (
        "S-1-1-0",  # Everyone
        "S-1-2-0",  # Local
        "S-1-2-1",  # Console logon
        "S-1-5-1",  # Dialup
        "S-1-5-2",  # Network
        "S-1-5-3",  # Batch
        "S-1-5-4",  # Interactive
        "S-1-5-6",  # Service
        "S-1-5-11",  # Authenticated users
        "S-1-5-13",  # Terminal server users
        "S-1-5-14",  # Remote interactive logon
        "S-1-5-15",  # This organisation
        "S-1-5-18",  # Local system
        "S-1-5-19",  # Local service
        "S-1-5-20",  # Network service
        "S-1-5-113",  # Local account
        "S-1-5-114",  # Local account and administrator
    )
)
_BUILT_IN_PREFIX = "S-1-5-32-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The user whose token the agent runs under, as the platform tells. `machine_sid` prefixes machine-local SIDs."""

    sid: str
    groups: tuple[str, ...] = ()
    deny_only: tuple[str, ...] = ()
    elevated: bool = False
    linked_groups: tuple[str, ...] = ()
    machine_sid: str | None = None

    @property
    def is_administrator(self) -> bool:
        """Whether AppLocker's Exe rules see an administrator: by this token, or by its linked full one.

        source: applocker, users and tokens: for a limited administrator the linked token is used for Exe.
        """
        return ADMINISTRATORS in self.groups or ADMINISTRATORS in self.linked_groups


def reportable_token(principal: Principal, named: Collection[str] = ()) -> TokenSet:
    """What may be told of a token: well-known SIDs, and those in `named` (SIDs that a policy in force names)."""

    def tells(sid: str) -> bool:
        if sid == principal.sid:
            return False
        if principal.machine_sid is not None and sid.startswith(principal.machine_sid + "-"):
            return False
        return sid in _WELL_KNOWN or sid.startswith(_BUILT_IN_PREFIX) or sid in named

    return TokenSet(
        sids=tuple(sorted({sid for sid in principal.groups if tells(sid)})),
        deny_only=tuple(sorted({sid for sid in principal.deny_only if tells(sid)})),
        elevated=principal.elevated,
        administrator=principal.is_administrator,
    )
