"""Ports for servers that are told theirs before they listen, or that come back to the same one."""

from __future__ import annotations

import random
import socket

# Below the ports that Linux gives to outgoing connections (from 32768 on). Other tests make thousands of those, and one
# would now and then take a port that was found free a second ago.
_RANGE = range(20_000, 32_000)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens. raises: OSError after a hundred that were taken."""
    # Not the seeded generator: two test processes with one seed would choose alike.
    chosen = random.SystemRandom().sample(_RANGE, 100)
    for port in chosen:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free among {len(chosen)} between {_RANGE.start} and {_RANGE.stop}")
