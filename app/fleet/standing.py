"""Whether and how a subject counts: shares are taken over enforcing, non-administrator, recently seen subjects."""

from __future__ import annotations

from enum import IntEnum


class Standing(IntEnum):
    """How a subject counts. Stored as its number; only COUNTED subjects are in shares."""

    COUNTED = 1
    ADMINISTRATOR = 2
    NOT_ENFORCING = 3
    TRIAL = 4
    """Linux hosts: a group of their own, outside fleet shares."""
    QUARANTINED = 5
    SILENT = 6
    REVOKED = 7
    IMPORTED = 8
    """Never reported: imported files name what this user tried."""

    @property
    def in_tallies(self) -> bool:
        """Whether the subject's sets are in the tallies at all."""
        return self not in (Standing.SILENT, Standing.REVOKED, Standing.IMPORTED)


class HostState(IntEnum):
    """What the server thinks of a host."""

    ACTIVE = 1
    QUARANTINED = 2
    REVOKED = 3
    IMPORTED = 4
    """Only an imported file names it; no agent speaks for it. It becomes one with the host that enrols by its name."""


def judge_standing(
    *, state: int, platform: str, administrator: bool, enforcing: bool | None, blocking: bool
) -> Standing:
    """The standing of a subject that has just reported.

    `enforcing` is None when the policy could not be read; then a probe refused by a policy engine is the proof.
    """
    if state == HostState.REVOKED:
        return Standing.REVOKED
    if state == HostState.QUARANTINED:
        return Standing.QUARANTINED
    if platform == "linux":
        return Standing.TRIAL
    if administrator:
        return Standing.ADMINISTRATOR
    if enforcing or blocking:
        return Standing.COUNTED
    return Standing.NOT_ENFORCING
