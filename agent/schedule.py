"""When to come again: waits that grow, and that differ from host to host so that a fleet does not come as one. Pure."""

from __future__ import annotations

import hashlib

FIRST_WAIT_S = 30
LONGEST_WAIT_S = 3_600


def wait_after(failures: int, retry_after_s: int | None, host_id: str) -> int:
    """Seconds until the next attempt: doubling to an hour, or what the server asked for, spread over the fleet.

    >>> wait_after(1, 60, "a") >= 60
    True
    """
    share = spread(host_id)
    if retry_after_s is not None:
        return int(retry_after_s + max(retry_after_s, 10) * share)
    base = min(LONGEST_WAIT_S, FIRST_WAIT_S << min(max(failures, 1) - 1, 12))
    return int(base * (0.5 + share / 2))


def spread(host_id: str) -> float:
    """A host's own share between 0 and 1, the same every time, by which the fleet's visits are spread."""
    return int.from_bytes(hashlib.sha256(host_id.encode()).digest()[:4]) / 2**32
